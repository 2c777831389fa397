"""What happens at an evaluation: score, best weights, patience, snapshots."""

import contextlib
import time
from collections.abc import Callable
from pathlib import Path
from typing import Protocol

import numpy as np
from torch import nn

from oofline.blocks import finite
from oofline.config import CFG
from oofline.errors import OoflineError
from oofline.models.text_model import TextModel
from oofline.models.weights import read_tensors, write_tensors
from oofline.progress import say
from oofline.results import Task
from oofline.scoring.metrics import get_metric, score, score_targets
from oofline.training.plan import Plan
from oofline.training.predict import Predicted
from oofline.training.state import Predictions, Progress
from oofline.training.team import ALONE, Team


class Evaluates(Protocol):
    """What the training loop asks of an evaluation."""

    @property
    def model(self) -> nn.Module:
        """The model in training."""

    @property
    def progress(self) -> Progress:
        """Where training stands; updated in place."""

    def due(self, plan: Plan) -> bool:
        """Whether the plan wants an evaluation here that has not been made."""

    def evaluate(self) -> None:
        """Evaluate the model as it is, and note the result."""

    def expected_seconds(self) -> float:
        """How long the next evaluation will take."""


class Evaluator:
    """Evaluates the model, and keeps the weights that the checkpoint rule needs.

    Args:
        cfg: settings.
        task: names the metric.
        model: the model in training.
        predict_valid: predicts the validation rows.
        y_valid: (n_v,) classes or answers, or (n_v, T) values of the validation rows.
        folder: where weights of the best and of snapshots go.
        progress: updated in place.
        predictions: of a resumed state, or None.
        report: takes the history row of each evaluation.
        view: context in which the model holds the weights that predict and are kept.
        team: processes that train the fold: all take the same decisions, the first keeps weights.
    """

    def __init__(
        self, cfg: CFG, task: Task, model: TextModel, predict_valid: Callable[[], Predicted],
        y_valid: np.ndarray, folder: Path, progress: Progress, predictions: Predictions | None,
        report: Callable[[dict[str, float]], None],
        view: Callable[[], contextlib.AbstractContextManager] = contextlib.nullcontext,
        team: Team = ALONE,
    ) -> None:  # fmt: skip
        self.cfg, self.task, self.model, self.team = cfg, task, model, team
        self.predict_valid, self.y_valid, self.folder = predict_valid, y_valid, folder
        self.progress, self.predictions, self.report = progress, predictions, report
        self.view = view
        self.greater = get_metric(task.metric, task.kind).greater_is_better
        self.seconds = 0.0

    def expected_seconds(self) -> float:
        """How long the next evaluation will take: as the last one, or guessed from training."""
        progress = self.progress
        if self.seconds or not progress.rows_trained:
            return self.seconds
        per_row = (progress.seconds - progress.eval_seconds) / progress.rows_trained
        return 0.5 * per_row * len(self.y_valid)  # forward alone is a third of a training step

    def due(self, plan: Plan) -> bool:
        """Whether the plan wants an evaluation here that has not been made."""
        step = self.progress.step
        return step in plan.eval_steps and self.progress.last_eval != step

    def evaluate(self) -> None:
        """Predict the validation rows, score them, and act on the result.

        Raises:
            RuntimeError: the processes of the team hold different weights.
        """
        started = time.perf_counter()
        self.team.check_same(self.model)
        with self.view():
            result, value = self._score_and_keep()
        self.seconds = time.perf_counter() - started
        self.progress.seconds += self.seconds
        self.progress.eval_seconds += self.seconds
        self._add_history(result, value)

    def _score_and_keep(self) -> tuple[Predicted, float]:
        """Validation predictions and their score; weights are kept."""
        result = self.predict_valid()
        if not finite(result.pred).all():
            raise OoflineError(
                f"predictions are not finite at step {self.progress.step}: training diverged; "
                "lower lr, lengthen warmup_fraction, or use precision = fp32"
            )
        value = score(self.task, self.y_valid, result.pred)
        monitored = -result.loss if self.cfg.monitor == "loss" else value
        if self.cfg.monitor == "score" and not self.greater:
            monitored = -value
        self._note(result, monitored)
        self._keep_snapshot()
        return result, value

    def apply_checkpoint_rule(self) -> None:
        """Give the model the weights that the rule chose; "last" leaves it as it is."""
        if self.cfg.checkpoint == "best" and self.progress.best_step != self.progress.step:
            self.model.load_state_dict(read_tensors(self._best(self.progress.best_step))[0])
        if self.cfg.checkpoint == "average" and len(self.progress.snapshots) > 1:
            self._load_average()

    def _note(self, result: Predicted, monitored: float) -> None:
        """Remember the predictions, and the best; a score that is undefined is never a gain."""
        progress = self.progress
        progress.last_eval = progress.step
        if np.isnan(monitored):
            say(f"{self.task.metric} is undefined on these validation rows at step {progress.step}")
            monitored = float("-inf")
        better = progress.best_step < 0 or monitored > progress.best_value
        best = result.pred if better or self.predictions is None else self.predictions.best
        self.predictions = Predictions(result.pred, best)
        if better:
            progress.best_value, progress.best_step = monitored, progress.step
            progress.evals_without_gain = 0
            if self.cfg.checkpoint == "best" and self.team.first:
                write_tensors(self._best(progress.step), self.model.state_dict(), {})
        elif monitored > float("-inf"):
            progress.evals_without_gain += 1
            progress.stopped = 0 < self.cfg.patience <= progress.evals_without_gain

    def _best(self, step: int) -> Path:
        return self.folder / f"best{step}.safetensors"

    def drop_former_bests(self) -> None:
        """Delete weights that no saved state refers to any more; call it after saving one."""
        for path in self.folder.glob("best*.safetensors"):
            if path != self._best(self.progress.best_step):
                path.unlink()

    def _snapshot(self, step: int) -> Path:
        return self.folder / f"snapshot{step}.safetensors"

    def _keep_snapshot(self) -> None:
        if self.cfg.checkpoint != "average":
            return
        steps = self.progress.snapshots
        steps.append(self.progress.step)
        if self.team.first:
            write_tensors(self._snapshot(self.progress.step), self.model.state_dict(), {})
            for old in steps[: -self.cfg.average_last - 1]:
                self._snapshot(old).unlink(missing_ok=True)

    def _load_average(self) -> None:
        steps = self.progress.snapshots[-self.cfg.average_last :]
        mean = read_tensors(self._snapshot(steps[0]))[0]
        for count, step in enumerate(steps[1:], start=2):
            for name, value in read_tensors(self._snapshot(step))[0].items():
                if value.is_floating_point():
                    mean[name] += (value - mean[name]) / count
        self.model.load_state_dict(mean)

    def _add_history(self, result: Predicted, value: float) -> None:
        progress = self.progress
        losses = zip(self.task.targets, result.losses.tolist(), strict=False)
        by_target = score_targets(self.task, self.y_valid, result.pred)
        train_seconds = max(1e-9, progress.seconds - progress.eval_seconds)
        row = {
            "step": float(progress.step),
            "train_loss": progress.loss_sum / max(1, progress.loss_count),
            "valid_loss": result.loss,
            "score": value,
            "samples_per_s": progress.rows_trained / train_seconds,
            **{f"score/{name}": figure for name, figure in by_target.items()},
            **{f"valid_loss/{name}": loss for name, loss in losses if by_target},
        }
        progress.loss_sum, progress.loss_count = 0.0, 0
        progress.history.append(row)
        self.report(row)
