"""What one fold consists of: steps and tokens of its phases, evaluations, states.

A technique that waits for the last epochs makes two kinds of steps, which cost differently. They
are measured apart and weighed by the calendar of the fold.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from oofline.config import CFG
from oofline.results import Task
from oofline.techniques.delay import Delay
from oofline.training.plan import make_plan


@dataclass(frozen=True)
class Stretch:
    """Epochs whose steps cost alike.

    Attributes:
        name: what acts in them, as in "awp"; "" = nothing that waits.
        first: the first of them, from 0.
        epochs: how many there are.
        scores: validation scores with which the techniques of this stretch act.
    """

    name: str
    first: int
    epochs: int
    scores: tuple[float, ...] = ()


def stretches(cfg: CFG, task: Task) -> list[Stretch]:
    """The epochs of a fold, grouped by which delayed techniques act in them.

    One that waits for a score may begin at any time: it is taken to act from the start, so that
    the plan is an upper bound.
    """
    delays = _delays(cfg, task)
    reached = tuple(
        math.inf if delay.greater_is_better else -math.inf
        for delay in delays
        if delay.start_score is not None
    )
    groups: dict[str, list[int]] = {}
    for epoch in range(cfg.epochs):
        acting = [delay.name for delay in delays if delay.over(epoch, list(reached))]
        groups.setdefault("+".join(acting), []).append(epoch)
    return [Stretch(name, e[0], len(e), reached) for name, e in groups.items()]


def _delays(cfg: CFG, task: Task) -> list[Delay]:
    found = []
    if cfg.awp_last_epochs or cfg.awp_start_score is not None:
        found.append(Delay.from_cfg(cfg, task, "awp"))
    if cfg.fgm_eps:
        found.append(Delay.from_cfg(cfg, task, "fgm"))
    return found


@dataclass(frozen=True)
class Fold:
    """What one fold works through, in real tokens (padding not counted).

    Attributes:
        epochs: how many.
        steps: optimizer steps of an epoch.
        train_tokens: of its training rows, an epoch.
        evaluations: of the validation rows.
        valid_tokens: of one evaluation.
        test_tokens: of the test rows, predicted once.
        n_valid: validation rows.
        n_test: test rows.
    """

    epochs: int
    steps: int
    train_tokens: int
    evaluations: int
    valid_tokens: int
    test_tokens: int
    n_valid: int
    n_test: int


def fold_of(
    cfg: CFG, lengths: np.ndarray, train_rows: np.ndarray, valid_rows: np.ndarray,
    test_lengths: np.ndarray,
) -> Fold:  # fmt: skip
    """What a fold consists of.

    Args:
        cfg: settings.
        lengths: (n,) tokens of all training rows, pseudo-labelled ones behind them.
        train_rows: rows that the fold trains on.
        valid_rows: rows that it validates on.
        test_lengths: (m,) tokens of the test rows.
    """
    plan = make_plan(cfg, len(train_rows))
    orders = 2 if cfg.pair_swap == "train+test" else 1
    once_more = 1 if cfg.checkpoint == "average" else 0  # the averaged weights are evaluated too
    return Fold(
        cfg.epochs, plan.steps_per_epoch, int(lengths[train_rows].sum()),
        len(plan.eval_steps) + once_more,
        orders * int(lengths[valid_rows].sum()), orders * int(test_lengths.sum()),
        len(valid_rows), len(test_lengths),
    )  # fmt: skip


@dataclass(frozen=True)
class Rates:
    """What was measured of steps and predictions.

    Attributes:
        seconds_per_token: of training, for each stretch in turn.
        tokens_per_evaluation_second: real tokens that prediction reads in a second.
        build_s: seconds to build model and optimizer, once a fold.
        interval_s: seconds of the bootstrap per validation row.
        save_s: seconds to write a resumable state.
        write_s: seconds to write the finished fold.
        error: relative standard error of the seconds of training.
    """

    seconds_per_token: tuple[float, ...]
    tokens_per_evaluation_second: float
    build_s: float
    interval_s: float
    save_s: float
    write_s: float
    error: float = 0.0


def train_seconds(parts: Sequence[Stretch], fold: Fold, rates: Rates) -> float:
    """Seconds of all optimizer steps of a fold: each stretch's rate, weighed by its epochs."""
    pairs = zip(parts, rates.seconds_per_token, strict=True)
    return sum(part.epochs * fold.train_tokens * seconds for part, seconds in pairs)


def predict_tokens(fold: Fold) -> int:
    """Tokens that a fold reads for evaluations and for the test rows."""
    return fold.evaluations * fold.valid_tokens + fold.test_tokens


def other_seconds(fold: Fold, rates: Rates, training: float, save_minutes: float) -> float:
    """Seconds of a fold besides steps and predictions: building, states, intervals, files.

    Args:
        fold: its size.
        rates: what was measured.
        training: seconds of steps and predictions, in which states are saved.
        save_minutes: minutes between two states.
    """
    saves = (
        math.floor(training / (60.0 * save_minutes)) if save_minutes else fold.epochs * fold.steps
    )
    return (
        rates.build_s + saves * rates.save_s + fold.n_valid * rates.interval_s + rates.write_s
    )  # fmt: skip


def fold_seconds(
    parts: Sequence[Stretch], fold: Fold, rates: Rates, save_minutes: float
) -> float:  # fmt: skip
    """Seconds of one fold from its model to its files, on the device that was measured."""
    training = train_seconds(parts, fold, rates)
    training += predict_tokens(fold) / rates.tokens_per_evaluation_second
    return training + other_seconds(fold, rates, training, save_minutes)
