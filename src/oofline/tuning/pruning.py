"""Which trials are stopped early: after a fold, and inside one.

A trial reports three series as Optuna's intermediate values: losses of the evaluations inside unit
u from step u * `STRIDE` on, their scores half a stride later, and the score of the finished unit at
the last step before those of the next. The last value is always a score: the samplers rank stopped
trials by it.
"""

import copy
from collections.abc import Callable
from typing import Any, Literal

import optuna
from optuna.pruners import BasePruner, MedianPruner, WilcoxonPruner
from optuna.study import StudyDirection
from optuna.trial import FrozenTrial

STRIDE = 1_000_000
"""Steps kept for the evaluations of one unit."""
STARTUP = 5
"""Completed trials before a fold is ended inside."""

Pruning = Literal["auto", "none", "folds", "all"]


def step_of_loss(unit: int, epoch: float) -> int:
    """Step of the validation loss at an evaluation in a unit, after that many epochs."""
    return unit * STRIDE + round(1000 * epoch)


def step_inside(unit: int, epoch: float) -> int:
    """Step of the score at that evaluation."""
    return step_of_loss(unit, epoch) + STRIDE // 2


def step_after(unit: int) -> int:
    """Step of a finished unit."""
    return (unit + 1) * STRIDE - 1


def unit_of(step: int) -> int | None:
    """The unit whose end a step is; None for an evaluation inside one."""
    return step // STRIDE if step % STRIDE == STRIDE - 1 else None


class FoldPruner(BasePruner):
    """Wilcoxon's test over folds against the best trial; the medians of all inside a fold.

    Fold scores are paired (same rows), so a trial is stopped where its folds are below those of
    the best trial by more than chance. With a level of 0.2 that takes three folds, all lower.

    Inside a fold both score and validation loss must be worse than the median of the other trials
    at that point: scores of labels (F1, accuracy) early in training tell hardly more than chance,
    and there a model that calls every row positive may be ahead of one that learns.

    Args:
        p: level of the test over folds, 0..1.
        inside: whether folds are ended inside as well.
    """

    def __init__(self, p: float, inside: bool) -> None:
        self.inside = inside
        self._folds = WilcoxonPruner(p_threshold=p, n_startup_steps=2)
        self._median = MedianPruner(n_startup_trials=STARTUP, n_min_trials=STARTUP)

    def prune(self, study: optuna.Study, trial: FrozenTrial) -> bool:
        """Whether the trial ends here, after the last scores that it reported."""
        step = trial.last_step
        if step is None:
            return False
        if unit_of(step) is not None:
            view: Any = _View(study, lambda other: unit_of(other) is not None)
            return self._folds.prune(view, view.part(trial))
        start, half = step // STRIDE * STRIDE, STRIDE // 2
        losses: Any = _View(study, lambda other: start <= other < start + half)
        scores: Any = _View(study, lambda other: start + half <= other < start + STRIDE - 1)
        losses.direction = StudyDirection.MINIMIZE
        return self.inside and all(
            self._median.prune(view, view.part(trial)) for view in (scores, losses)
        )


class _View:
    """A study of which only one series is seen."""

    def __init__(self, study: optuna.Study, seen: Callable[[int], bool]) -> None:
        self._study, self._seen = study, seen
        self.direction = study.direction

    def part(self, trial: FrozenTrial) -> FrozenTrial:
        """The trial with that series alone."""
        part = copy.copy(trial)
        part.intermediate_values = {
            step: value for step, value in trial.intermediate_values.items() if self._seen(step)
        }
        return part

    @property
    def best_trial(self) -> FrozenTrial:
        """As `optuna.Study.best_trial`."""
        return self.part(self._study.best_trial)

    def get_trials(self, deepcopy: bool = True, states: Any = None) -> list[FrozenTrial]:
        """As `optuna.Study.get_trials`."""
        return [self.part(trial) for trial in self._study.get_trials(deepcopy, states)]


def build_pruner(pruning: Pruning, sampler: str, p: float) -> BasePruner:
    """The pruner; "auto" is "all", but "none" for a Gaussian process.

    A Gaussian process learns from completed trials alone: stopping those that go badly would hide
    from it where not to look.
    """
    if pruning == "none" or (pruning == "auto" and sampler == "gp"):
        return optuna.pruners.NopPruner()
    return FoldPruner(p, inside=pruning != "folds")
