"""Learning-rate range test (Smith 2017, arXiv:1506.01186): the loss while the rate grows."""

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch

from oofline.config import CFG
from oofline.errors import ConfigError, OoflineError
from oofline.progress import bar
from oofline.training.material import Material
from oofline.training.plan import make_plan
from oofline.training.probe import Probe

LOWEST, HIGHEST = 1e-7, 1e-2
"""Ends of the range of learning rates."""
MOST_STEPS, FEWEST_STEPS = 100, 10
"""Optimizer steps of a test."""
DIVERGED = 4.0
"""The test stops when the smoothed loss is this many times the lowest."""
CAREFUL = 3e-5
"""Suggestions above this come with a warning."""
WARNING = (
    "above 3e-5 keep the warm-up, and try 1e-5 to 5e-5 first on pretrained encoders of BERT-base "
    "size: taking a finder's 1e-4 is what destabilises BERT fine-tuning (Mosbach et al. 2021, "
    "arXiv:2006.04884)"
)


@dataclass(frozen=True)
class RangeTest:
    """What a range test measured; arrays of s steps, at least 1.

    Attributes:
        lr: (s,) float64, learning rate of each step, growing.
        loss: (s,) float64, loss of its window before the step.
        smoothed: (s,) float64, bias-corrected exponential moving average of ``loss`` over about a
            tenth of the whole range.
        diverged: whether the loss ended the test before its last rate.
        steps: steps that were planned, s or more.
    """

    lr: np.ndarray
    loss: np.ndarray
    smoothed: np.ndarray
    diverged: bool
    steps: int


@dataclass(frozen=True)
class Suggestion:
    """Learning rates to try.

    Attributes:
        steepest: where the smoothed loss falls fastest over the logarithm of the rate: the middle
            of the steepest half decade.
        tenth: a tenth of the rate at which the smoothed loss is lowest.
    """

    steepest: float
    tenth: float

    @property
    def warning(self) -> str:
        """What to be careful about; "" = nothing."""
        return WARNING if max(self.steepest, self.tenth) > CAREFUL else ""


def sweep(n_steps: int, take_step: Callable[[float], float]) -> RangeTest:
    """Take steps at exponentially growing rates from `LOWEST` to `HIGHEST`.

    Stops when the smoothed loss exceeds `DIVERGED` times its lowest value since the first tenth
    (before that it is a mean of few), or when a loss is not finite, which is left out.

    Args:
        n_steps: steps of the whole range, at least 2.
        take_step: takes the step at a rate and returns the loss before it.

    Raises:
        OoflineError: the first loss is not finite.
    """
    beta, first = _beta(n_steps), n_steps // 10
    rates = np.geomspace(LOWEST, HIGHEST, n_steps)
    losses: list[float] = []
    smoothed: list[float] = []
    average, diverged = 0.0, False
    for rate in rates.tolist():
        loss = take_step(rate)
        diverged = not math.isfinite(loss)
        if diverged:
            break
        average = beta * average + (1.0 - beta) * loss
        losses.append(loss)
        smoothed.append(average / (1.0 - beta ** len(losses)))
        diverged = smoothed[-1] > DIVERGED * min(smoothed[first:], default=math.inf)
        if diverged:
            break
    if not losses:
        raise OoflineError("the loss is not finite at the lowest rate: use precision = fp32")
    done = len(losses)
    return RangeTest(rates[:done], np.array(losses), np.array(smoothed), diverged, n_steps)


def _beta(n_steps: int) -> float:
    """Decay of the moving average: it looks back over a tenth of the steps, 2 at least."""
    return 1.0 - 1.0 / max(2.0, n_steps / 10.0)


def suggest(test: RangeTest) -> Suggestion | None:
    """The usual two readings of a range test; None when the loss did not fall.

    The slope is a least-squares line through a tenth of the range (half a decade), so that one
    easy batch does not make a suggestion. The first tenth of the range is not looked at: its
    average is over few losses.
    """
    first, width = test.steps // 10, max(3, test.steps // 10)
    if len(test.lr) <= first:
        return None
    lowest = first + int(np.argmin(test.smoothed[first:]))
    falling = test.smoothed[first : lowest + 1]
    if len(falling) < width:
        return None
    windows = np.lib.stride_tricks.sliding_window_view(falling, width)
    slopes = windows @ (np.arange(width) - (width - 1) / 2)
    if slopes.min() >= 0:
        return None
    steepest = test.lr[first + int(np.argmin(slopes)) + width // 2]
    return Suggestion(float(steepest), float(test.lr[lowest]) / 10.0)


def range_test(cfg: CFG, material: Material, seed: int = 42, fold: int = 0) -> RangeTest:
    """Range test of an experiment's settings on the training rows of one fold.

    Model, data order and techniques are those of the fold in its first epoch. The rates that are
    reported are those of `CFG.lr` (`CFG.body_lr` where it is set); layer decay, head_lr and
    group_lrs keep their proportion to it. No file is written.

    Args:
        cfg: settings.
        material: of the competition.
        seed: training seed.
        fold: whose validation rows are left out.

    Raises:
        ConfigError: an epoch has fewer than `FEWEST_STEPS` optimizer steps.
        OoflineError: memory ran out, or the first loss is not finite.
    """
    rows = material.folds.train_rows(fold)
    n_steps = min(MOST_STEPS, make_plan(cfg, len(rows)).steps_per_epoch)
    if n_steps < FEWEST_STEPS:
        raise ConfigError(
            f"an epoch has {n_steps} optimizer steps, a range test needs {FEWEST_STEPS}: lower "
            "batch_size or accumulation"
        )
    take_step = _stepper(cfg, material, seed, fold)
    try:
        with bar("range test", n_steps) as progress:

            def watched(rate: float) -> float:
                """The same, shown in the bar."""
                loss = take_step(rate)
                progress.advance(lr=rate, loss=loss)
                return loss

            return sweep(n_steps, watched)
    except torch.OutOfMemoryError as error:
        raise OoflineError(
            "out of GPU memory: lower batch_size (and raise accumulation)"
        ) from error


def _stepper(cfg: CFG, material: Material, seed: int, fold: int) -> Callable[[float], float]:
    """A function that takes the next step of a fresh model at a given rate."""
    probe = Probe(cfg, material, seed, fold)
    indices = iter(range(MOST_STEPS))

    def take_step(rate: float) -> float:
        """One optimizer step at that rate; returns the loss before it."""
        set_proportional(probe.optimizer, cfg, rate)
        return float(probe.take(next(indices)))

    return take_step


def set_proportional(optimizer: torch.optim.Optimizer, cfg: CFG, rate: float) -> None:
    """Set every group's rate so that a group at the peak of lr (or body_lr) has ``rate``.

    Where that peak is 0, the group with the largest peak has ``rate``.
    """
    peaks = [group["peak_lr"] for group in optimizer.param_groups]
    top = (cfg.lr if cfg.body_lr is None else cfg.body_lr) or max(peaks)
    for group, peak in zip(optimizer.param_groups, peaks, strict=True):
        group["lr"] = rate * peak / top
