"""When a technique that waits for the model to settle begins to act."""

from dataclasses import dataclass
from typing import Literal, Self

from oofline.config import CFG
from oofline.results import Task
from oofline.scoring.metrics import get_metric


@dataclass(frozen=True)
class Delay:
    """Acts in the last epochs, or from a validation score on: whichever comes first.

    The epoch and the scores are the loop's own, so nothing is counted here that could stand still
    or be lost when a fold is resumed. With neither setting it always acts.

    Attributes:
        name: prefix of the two settings, for messages.
        epochs: epochs of the whole training.
        last_epochs: acts in this many last epochs; 0 = epochs do not start it.
        start_score: acts once a validation score has reached it, in the metric's own direction;
            None = scores do not start it.
        greater_is_better: direction of the metric.
    """

    name: str
    epochs: int
    last_epochs: int
    start_score: float | None
    greater_is_better: bool

    @classmethod
    def from_cfg(cls, cfg: CFG, task: Task, name: Literal["awp", "fgm"]) -> Self:
        """The delay that ``<name>_last_epochs`` and ``<name>_start_score`` ask for."""
        metric = get_metric(task.metric, task.kind)
        last, start = getattr(cfg, f"{name}_last_epochs"), getattr(cfg, f"{name}_start_score")
        return cls(name, cfg.epochs, last, start, metric.greater_is_better)

    def over(self, epoch: int, scores: list[float]) -> bool:
        """Whether the technique acts now.

        Args:
            epoch: epoch index, from 0.
            scores: validation scores so far; nan (undefined) never reaches anything.
        """
        if not self.last_epochs and self.start_score is None:
            return True
        in_last = self.last_epochs > 0 and epoch >= self.epochs - self.last_epochs
        return in_last or any(self._reached(score) for score in scores)

    def _reached(self, score: float) -> bool:
        if self.start_score is None:
            return False
        return score >= self.start_score if self.greater_is_better else score <= self.start_score

    def missed(self) -> str:
        """Why it never acted, and what to change, in one line."""
        if self.last_epochs:
            return (
                f"training stopped before its last {self.last_epochs} epochs: raise "
                f"{self.name}_last_epochs or patience"
            )
        easier = "lower" if self.greater_is_better else "raise"
        return (
            f"the validation score never reached {self.name}_start_score = {self.start_score:g}: "
            f"{easier} it or set {self.name}_last_epochs"
        )
