"""How a fold goes: shown on its bar, said, tracked; and whether its techniques act."""

from oofline.progress import Bar, say
from oofline.results import Task
from oofline.tracking import Tracker
from oofline.training.alive import check_alive
from oofline.training.guard import Guard
from oofline.training.learner import Learner
from oofline.training.optim import rates
from oofline.training.plan import Plan
from oofline.training.pulse import Reading, peak_memory_mb
from oofline.training.state import Progress
from oofline.training.team import Team


class FoldReport:
    """Takes the readings and evaluations of one fold.

    Args:
        name: of the fold, for messages.
        task: names the metric.
        plan: calendar of the fold.
        learner: model, optimizer and techniques.
        tracker: of the fold.
        guard: shows evaluations to whoever watches.
        team: the first process counts for all: what techniques did is tallied for its own rows.

    Attributes:
        bar: shows the readings; set it before training begins.
    """

    bar: Bar

    def __init__(
        self, name: str, task: Task, plan: Plan, learner: Learner, tracker: Tracker, guard: Guard,
        team: Team,
    ) -> None:  # fmt: skip
        self.name, self.task, self.plan, self.learner = name, task, plan, learner
        self.tracker, self.guard, self.team = tracker, guard, team

    def check_alive(self, finished: bool) -> None:
        """Stop a run whose technique is configured and does nothing (ConfigError)."""
        if self.team.first:
            check_alive(self.learner.techniques, finished)

    def steps(self, reading: Reading, progress: Progress) -> None:
        """What happened since the last reading."""
        figures = rates(self.learner.optimizer)
        for technique in self.learner.techniques:
            figures |= technique.figures()
        self.check_alive(finished=False)
        self.bar.advance(0, loss=reading.loss, samples_per_s=reading.samples_per_s)
        self.tracker.log(
            {
                "train_loss": reading.loss, "grad_norm": reading.grad_norm,
                "samples_per_s": reading.samples_per_s, "epoch": self._epoch(progress.step),
                "memory_mb": peak_memory_mb(self.learner.precision.device), **figures,
            },
            progress.step,
        )  # fmt: skip

    def evaluation(self, row: dict[str, float]) -> None:
        """A row of history.csv, which gets its epoch here."""
        row["epoch"] = self._epoch(int(row["step"]))
        figures = {k: v for k, v in row.items() if k.startswith(("valid_loss", "score", "epoch"))}
        distances = self.learner.drift.distances()
        figures |= {f"distance/{group}": far for group, far in distances.items()}
        self.tracker.log(figures, int(row["step"]))
        self.bar.advance(0, **{self.task.metric: row["score"]})
        say(
            f"{self.name} epoch {row['epoch']:.2f}: train loss {row['train_loss']:.4f}, "
            f"valid loss {row['valid_loss']:.4f}, {self.task.metric} {row['score']:.5f}"
        )
        self.guard.seen(row)

    def _epoch(self, step: int) -> float:
        return step / self.plan.steps_per_epoch
