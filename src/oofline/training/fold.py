"""One fold from start (or from where it was killed) to its files."""

import contextlib
from pathlib import Path
from typing import Any

import numpy as np
import torch

from oofline.blocks import Block
from oofline.config import CFG
from oofline.errors import OoflineError, Stopped
from oofline.progress import bar, say
from oofline.results import FoldResult
from oofline.storage import remove_temporaries
from oofline.tracking import Tracker, fold_tracker
from oofline.training.alive import copies_of, evaluating, liveness
from oofline.training.evaluation import Evaluator
from oofline.training.fold_files import write_fold
from oofline.training.fold_report import FoldReport
from oofline.training.fold_scores import fold_scores
from oofline.training.guard import Guard
from oofline.training.keeper import Keeper
from oofline.training.learner import build_learner
from oofline.training.material import Material
from oofline.training.plan import make_plan
from oofline.training.precision import choose_precision
from oofline.training.predict import Predicted, predict
from oofline.training.pulse import Pulse, peak_memory_mb
from oofline.training.speed import keep_freed_memory, return_freed_memory
from oofline.training.state import Predictions, Progress, load_state, random_state, save_state
from oofline.training.step import StepMaker
from oofline.training.team import ALONE, Team
from oofline.training.trainer import Trainer


def train_fold(
    cfg: CFG, material: Material, seed: int, fold: int, guard: Guard, team: Team = ALONE
) -> FoldResult:
    """Train one fold and write its files; go on from a saved state where there is one.

    The result depends on (cfg, data, seed, fold) alone: not on other folds, nor on how often the
    work was interrupted. With a team every process trains on its share of each window's rows and
    holds the same weights; the first of them writes.

    Raises:
        Stopped: time limit or interrupt; a resumable state is saved.
        OoflineError: a loss is not finite, or a file cannot be written.
    """
    with fold_tracker(cfg, material.paths, seed, fold) if team.first else Tracker() as tracker:
        try:
            run = _FoldRun(cfg, material, seed, fold, guard, tracker, team)
            run.train()
            with run.view():
                result = run.result()
                if team.first:
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
        self, cfg: CFG, material: Material, seed: int, fold: int, guard: Guard, tracker: Tracker,
        team: Team,
    ) -> None:  # fmt: skip
        self.cfg, self.material, self.guard, self.team = cfg, material, guard, team
        self.seed, self.fold, self.task = seed, fold, material.competition.task
        self.name = f"seed {seed} fold {fold}"
        self.folder = material.paths.fold(cfg.exp, seed, fold)
        self.valid_rows = material.folds.valid_rows(fold)
        self.precision = choose_precision(cfg)
        self.orders = 2 if cfg.pair_swap == "train+test" else 1  # averaged in prediction
        keep_freed_memory()
        self.unit_seed = _seed_of(seed, fold)
        torch.manual_seed(self.unit_seed)
        self.learner = build_learner(cfg, material, fold, self.precision)
        self.model, self.techniques = self.learner.model, self.learner.techniques
        if team.rank:  # the same weights in all processes, dropout masks of its own in each
            torch.manual_seed(_seed_of(seed, fold, team.rank))
        self.plan = make_plan(cfg, len(self.learner.data.rows))
        self.report = FoldReport(
            self.name, self.task, self.plan, self.learner, tracker, guard, team
        )
        self.evaluator = self._resume()

    @property
    def _state_file(self) -> Path:
        return self.folder / "state.safetensors"

    def _resume(self) -> Evaluator:
        if self.team.first:
            remove_temporaries(self.folder)
        progress, predictions = Progress(micro_batch=self.cfg.batch_size), None
        if self._state_file.exists():
            progress, predictions = load_state(
                self._state_file, self.model, self.learner.optimizer, self.learner.scaler,
                self.techniques, self.team.rank,
            )  # fmt: skip
            say(f"{self.name}: resumed at step {progress.step} of {self.plan.total_steps}")
        y_valid = self.material.competition.y[self.valid_rows]
        return Evaluator(
            self.cfg, self.task, self.model, self._predict_valid, y_valid, self.folder, progress,
            predictions, self.report.evaluation, self.view, self.team,
        )  # fmt: skip

    def view(self) -> contextlib.AbstractContextManager[None]:
        """The model as it predicts and is saved (an average of weights, say)."""
        return evaluating(self.techniques, self.model)

    def train(self) -> None:
        """Run the loop, then leave in time if predicting the test rows no longer fits."""
        parts, progress = self.learner, self.evaluator.progress
        steps = StepMaker(
            self.cfg, self.model, parts.train_loss, self.precision, parts.scaler, parts.data,
            self.unit_seed, *copies_of(self.techniques), self.team,
        )  # fmt: skip
        pulse = Pulse(
            progress, lambda reading: self.report.steps(reading, progress),
            scaled=parts.scaler.is_enabled(),
        )  # fmt: skip
        minutes = self.cfg.save_minutes
        keeper = Keeper(self.guard, pulse, self._save, minutes, self.name, self.team)
        self._between = lambda: keeper.stop_if_out_of_time(0.0)
        with bar(self.name, self.plan.total_steps, progress.step) as self.report.bar:
            Trainer(
                self.cfg, self.plan, steps, parts.optimizer, parts.scaler, self.techniques,
                self.evaluator, keeper, pulse, self.report.bar,
            ).run()  # fmt: skip
        self.report.check_alive(finished=True)
        self.distances = parts.drift.check()
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
                orders=self.orders, team=self.team,
            ).pred  # fmt: skip
        return FoldResult(
            self.fold, self.seed, folds.ids[self.valid_rows], valid, predictions.last,
            predictions.best, competition.test_ids, test, self._scores(valid, predictions),
            self.evaluator.progress.history,
        )  # fmt: skip

    def _scores(self, valid: Block, predictions: Predictions) -> dict[str, Any]:
        y, progress = self.evaluator.y_valid, self.evaluator.progress
        return fold_scores(self.cfg, self.task, y, valid, predictions, progress) | {
            "folds": [self.fold], "seeds": [self.seed],
            "peak_memory_mb": peak_memory_mb(self.precision.device),
            "techniques": liveness(self.techniques),
            "distance": self.distances,
            "device": str(self.precision.device),
            "processes": self.team.size,
            "precision": self.precision.name,
        }  # fmt: skip

    def _predict_valid(self) -> Predicted:
        return_freed_memory()
        loss = self.learner.loss_function
        return predict(
            self.model, self.material.train_tokens, self.valid_rows, self.precision,
            self.cfg.eval_batch_size, self.learner.labels,
            loss.by_target if self.task.several else loss,
            between=self._between, orders=self.orders, team=self.team,
        )  # fmt: skip

    def _save(self) -> None:
        random_states = self.team.gather(random_state(self.model))
        if not self.team.first:
            return
        save_state(
            self._state_file, self.evaluator.progress, self.evaluator.predictions, self.model,
            self.learner.optimizer, self.learner.scaler, self.techniques, random_states,
        )  # fmt: skip
        self.evaluator.drop_former_bests()


def _seed_of(*numbers: int) -> int:
    return int(np.random.SeedSequence(numbers).generate_state(1)[0])
