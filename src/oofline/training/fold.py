"""One fold from start (or from where it was killed) to its files."""

import contextlib
from pathlib import Path
from typing import Any

import numpy as np
import torch

from oofline.config import CFG
from oofline.errors import OoflineError, Stopped
from oofline.models.losses import build_loss
from oofline.models.text_model import build_model
from oofline.progress import bar, say
from oofline.results import FoldResult
from oofline.scoring.metrics import get_metric, score, score_targets
from oofline.storage import remove_temporaries
from oofline.techniques import build_techniques
from oofline.tracking import Tracker, fold_tracker
from oofline.training.alive import check_alive, copies_of, evaluating, liveness
from oofline.training.drift import Drift
from oofline.training.evaluation import Evaluator
from oofline.training.fold_files import fold_interval, write_fold
from oofline.training.guard import Guard
from oofline.training.keeper import Keeper
from oofline.training.material import Material
from oofline.training.optim import build_optimizer, rates
from oofline.training.plan import make_plan
from oofline.training.precision import choose_precision
from oofline.training.predict import Predicted, predict
from oofline.training.pulse import Pulse, Reading, peak_memory_mb
from oofline.training.speed import keep_freed_memory, return_freed_memory
from oofline.training.state import Predictions, Progress, load_state, save_state
from oofline.training.step import StepMaker, training_labels
from oofline.training.student import lesson
from oofline.training.trainer import Trainer


def train_fold(cfg: CFG, material: Material, seed: int, fold: int, guard: Guard) -> FoldResult:
    """Train one fold and write its files; go on from a saved state where there is one.

    The result depends on (cfg, data, seed, fold) alone: not on other folds, nor on how often the
    work was interrupted.

    Raises:
        Stopped: time limit or interrupt; a resumable state is saved.
        OoflineError: a loss is not finite, or a file cannot be written.
    """
    with fold_tracker(cfg, material.paths, seed, fold) as tracker:
        try:
            run = _FoldRun(cfg, material, seed, fold, guard, tracker)
            run.train()
            with run.view():
                result = run.result()
                write_fold(run.folder, run.task, material.tokenizer, run.model, result)
        except torch.OutOfMemoryError as error:  # smaller batches were tried where they help
            raise OoflineError(
                "out of GPU memory: model and optimizer do not fit; take a smaller model, or "
                "close what else uses the GPU"
            ) from error
        tracker.summary(result.scores)
    return result


class _FoldRun:
    """The parts of one fold, wired together."""

    def __init__(
        self, cfg: CFG, material: Material, seed: int, fold: int, guard: Guard, tracker: Tracker
    ) -> None:
        self.cfg, self.material, self.guard, self.tracker = cfg, material, guard, tracker
        self.seed, self.fold, self.task = seed, fold, material.competition.task
        self.name = f"seed {seed} fold {fold}"
        self.folder = material.paths.fold(cfg.exp, seed, fold)
        self.train_rows = material.folds.train_rows(fold)
        self.valid_rows = material.folds.valid_rows(fold)
        self.precision = choose_precision(cfg)
        self.orders = 2 if cfg.pair_swap == "train+test" else 1  # averaged in prediction
        keep_freed_memory()
        self.unit_seed = int(np.random.SeedSequence([seed, fold]).generate_state(1)[0])
        torch.manual_seed(self.unit_seed)
        self._build()
        self.plan = make_plan(cfg, len(self.data.rows))
        self.evaluator = self._resume()

    def _build(self) -> None:
        y = self.material.competition.y
        self.model = build_model(self.cfg, self.task, y[self.train_rows])
        self.loss_function = build_loss(self.cfg, self.task, y[self.train_rows])
        self.techniques = build_techniques(self.cfg, self.task)
        for technique in self.techniques:
            technique.prepare(self.model)
        self.model.to(self.precision.device)
        self.loss_function.to(self.precision.device)
        self.optimizer = build_optimizer(self.cfg, self.model)
        self.drift = Drift(self.model)
        self.scaler = self.precision.scaler()
        self.labels = training_labels(self.model, self.material.train_tokens, y)
        self.data, self.train_loss = lesson(
            self.cfg, self.material, self.model, self.loss_function, self.labels, self.fold
        )

    @property
    def _state_file(self) -> Path:
        return self.folder / "state.safetensors"

    def _resume(self) -> Evaluator:
        remove_temporaries(self.folder)
        progress, predictions = Progress(micro_batch=self.cfg.batch_size), None
        if self._state_file.exists():
            progress, predictions = load_state(
                self._state_file, self.model, self.optimizer, self.scaler, self.techniques
            )
            say(f"{self.name}: resumed at step {progress.step} of {self.plan.total_steps}")
        y_valid = self.material.competition.y[self.valid_rows]
        return Evaluator(
            self.cfg, self.task, self.model, self._predict_valid, y_valid, self.folder, progress,
            predictions, self._report_evaluation, self.view,
        )  # fmt: skip

    def view(self) -> contextlib.AbstractContextManager[None]:
        """The model as it predicts and is saved (an average of weights, say)."""
        return evaluating(self.techniques, self.model)

    def train(self) -> None:
        """Run the loop, then leave in time if predicting the test rows no longer fits."""
        steps = StepMaker(
            self.cfg, self.model, self.train_loss, self.precision, self.scaler, self.data,
            self.unit_seed, *copies_of(self.techniques),
        )  # fmt: skip
        progress = self.evaluator.progress
        pulse = Pulse(progress, self._report_steps, scaled=self.scaler.is_enabled())
        keeper = Keeper(self.guard, pulse, self._save, self.cfg.save_minutes, self.name)
        self._between = lambda: keeper.stop_if_out_of_time(0.0)
        with bar(self.name, self.plan.total_steps, progress.step) as self.bar:
            Trainer(
                self.cfg, self.plan, steps, self.optimizer, self.scaler, self.techniques,
                self.evaluator, keeper, pulse, self.bar,
            ).run()  # fmt: skip
        check_alive(self.techniques, finished=True)
        self.distances = self.drift.check()
        test_share = self.material.test_tokens.n_rows / max(1, len(self.valid_rows))
        keeper.leave_if_out_of_time(
            self.evaluator.expected_seconds() * (test_share + 1),
            ", trained but not yet predicted on test",
        )
        self._between = self._leave_without_saving

    def _leave_without_saving(self) -> None:
        """The checkpoint rule may have changed the weights: the last state must stay as it is."""
        if self.guard.must_stop(0.0):
            raise Stopped(
                f"{self.guard.reason} while predicting {self.name}; the same command goes on from "
                "its last saved state",
                self.guard.exit_code,
            )

    def result(self) -> FoldResult:
        """Apply the checkpoint rule, predict the test rows, and score."""
        competition, folds = self.material.competition, self.material.folds
        predictions = self.evaluator.predictions
        assert predictions is not None
        self.evaluator.apply_checkpoint_rule()
        valid = {"last": predictions.last, "best": predictions.best}.get(self.cfg.checkpoint)
        if valid is None:
            valid = self._predict_valid().pred
        test_rows = np.arange(self.material.test_tokens.n_rows)
        with bar(f"{self.name} test", len(test_rows) * self.orders) as progress:
            test = predict(
                self.model, self.material.test_tokens, test_rows, self.precision,
                self.cfg.eval_batch_size, progress=progress, between=self._between,
                orders=self.orders,
            ).pred  # fmt: skip
        return FoldResult(
            self.fold, self.seed, folds.ids[self.valid_rows], valid, predictions.last,
            predictions.best, competition.test_ids, test, self._scores(valid, predictions),
            self.evaluator.progress.history,
        )  # fmt: skip

    def _scores(self, valid: np.ndarray, predictions: Predictions) -> dict[str, Any]:
        y, progress = self.evaluator.y_valid, self.evaluator.progress
        metric = get_metric(self.task.metric, self.task.kind)
        train_seconds = max(1e-9, progress.seconds - progress.eval_seconds)
        return {
            "metric": metric.name,
            "greater_is_better": metric.greater_is_better,
            "score": score(self.task, y, valid),
            "score_last": score(self.task, y, predictions.last),
            "score_best": score(self.task, y, predictions.best),
            "ci95": fold_interval(self.task, y, valid, self.cfg.bootstrap_samples),
            **({"target_scores": t} if (t := score_targets(self.task, y, valid)) else {}),
            "n_rows": len(y),
            "folds": [self.fold], "seeds": [self.seed],
            "minutes": progress.seconds / 60,
            "samples_per_s": progress.rows_trained / train_seconds,
            "peak_memory_mb": peak_memory_mb(self.precision.device),
            "best_step": progress.best_step,
            "steps": progress.step,
            "micro_batch": progress.micro_batch,
            "techniques": liveness(self.techniques),
            "distance": self.distances,
            "device": str(self.precision.device),
            "precision": self.precision.name,
        }  # fmt: skip

    def _predict_valid(self) -> Predicted:
        return_freed_memory()
        loss = self.loss_function.by_target if self.task.several else self.loss_function
        return predict(
            self.model, self.material.train_tokens, self.valid_rows, self.precision,
            self.cfg.eval_batch_size, self.labels, loss, between=self._between, orders=self.orders,
        )  # fmt: skip

    def _save(self) -> None:
        save_state(
            self._state_file, self.evaluator.progress, self.evaluator.predictions, self.model,
            self.optimizer, self.scaler, self.techniques,
        )  # fmt: skip
        self.evaluator.drop_former_bests()

    def _report_steps(self, reading: Reading) -> None:
        progress = self.evaluator.progress
        figures = rates(self.optimizer)
        for technique in self.techniques:
            figures |= technique.figures()
        check_alive(self.techniques, finished=False)
        self.bar.advance(0, loss=reading.loss, samples_per_s=reading.samples_per_s)
        self.tracker.log(
            {
                "train_loss": reading.loss, "grad_norm": reading.grad_norm,
                "samples_per_s": reading.samples_per_s, "epoch": self._epoch(progress.step),
                "memory_mb": peak_memory_mb(self.precision.device), **figures,
            },
            progress.step,
        )  # fmt: skip

    def _report_evaluation(self, row: dict[str, float]) -> None:
        row["epoch"] = self._epoch(int(row["step"]))
        figures = {k: v for k, v in row.items() if k.startswith(("valid_loss", "score", "epoch"))}
        figures |= {f"distance/{group}": far for group, far in self.drift.distances().items()}
        self.tracker.log(figures, int(row["step"]))
        self.bar.advance(0, **{self.task.metric: row["score"]})
        say(
            f"{self.name} epoch {row['epoch']:.2f}: train loss {row['train_loss']:.4f}, "
            f"valid loss {row['valid_loss']:.4f}, {self.task.metric} {row['score']:.5f}"
        )
        self.guard.seen(row)

    def _epoch(self, step: int) -> float:
        return step / self.plan.steps_per_epoch
