"""One arm against the base: paired over rows, folds and seeds.

An arm's score is the mean over seeds of each seed's out-of-fold score, so it is the score of one
training run, not of an average of several. The same rows are drawn again for both arms and all
seeds. With `SEEDS_TO_DRAW` seeds or more, seeds are drawn again too, and the interval says what
other rows and other seeds would do; with fewer it is about rows alone.
"""

import math
from dataclasses import dataclass

import numpy as np
from scipy.stats import t as student_t

from oofline.blocks import Block, Blocks
from oofline.results import Task
from oofline.scoring.compare import Verdict, corrected_p, rows_needed
from oofline.scoring.decisions import cross_fitted_decision
from oofline.scoring.intervals import bootstrap_scores, percentile_interval, strata_of
from oofline.scoring.metrics import get_metric
from oofline.scoring.summary import decided_score, fold_scores, spread

SEEDS_TO_DRAW = 5
"""From this many seeds on, the intervals hold the seeds' noise."""

Interval = tuple[float, float]


@dataclass(frozen=True)
class Rows:
    """The rows of train.csv.

    Attributes:
        task: gives metric and kind.
        y: (n,) int64 or (n, T) float64.
        fold: (n,) int64; -1 = in no fold.
        groups: (n,) rows that are drawn together, or None.
        n_samples: resamples.
    """

    task: Task
    y: np.ndarray
    fold: np.ndarray
    groups: np.ndarray | None
    n_samples: int


@dataclass(frozen=True)
class Runs:
    """Out-of-fold predictions of one arm, seed by seed.

    Attributes:
        pred: (S, n, T) float64, or S sparse blocks; rows of folds that a seed did not finish are
            not looked at.
        there: (S, n) bool, which rows it predicted.
    """

    pred: Blocks
    there: np.ndarray


@dataclass(frozen=True)
class Contrast:
    """An arm beside the base on the folds and seeds that both finished.

    Attributes:
        score: mean over seeds.
        ci95: of the score.
        seed_scores: (S,) one per seed.
        difference: score minus the base's.
        difference_ci95: paired.
        seed_differences: (S,).
        p: two-sided over folds, see `oofline.scoring.compare.corrected_p`; None with one fold.
        verdict: "better" and "worse" only where ``difference_ci95`` leaves out 0.
        n_rows: rows compared.
        rows_needed: rows at which this difference would be shown with 80 % power, seeds as they
            are; None if it is 0.
        seeds_needed: seeds at which it would stand out from the seeds' noise; None with one seed.
    """

    score: float
    ci95: Interval
    seed_scores: np.ndarray
    difference: float
    difference_ci95: Interval
    seed_differences: np.ndarray
    p: float | None
    verdict: Verdict
    n_rows: int
    rows_needed: int | None
    seeds_needed: int | None


def contrast(rows: Rows, arm: Runs, base: Runs) -> Contrast | None:
    """Compare an arm with the base; None where they have no fold of a seed in common.

    Thresholds are cross-fitted seed by seed, for each arm, on the rows compared.
    """
    both = arm.there & base.there
    seeds, at = np.flatnonzero(both.any(axis=1)), np.flatnonzero(both.any(axis=0))
    if len(seeds) == 0:
        return None
    there, y, fold = both[seeds][:, at], rows.y[at], rows.fold[at]
    arms = [
        [
            decided(rows.task, y, runs.pred[seed][at], mask, fold)
            for seed, mask in zip(seeds, there, strict=True)
        ]
        for runs in (arm, base)
    ]
    groups = None if rows.groups is None else rows.groups[at]
    draws = [_draws(rows, y, inputs, there, groups) for inputs in arms]
    scores = [_seed_scores(rows.task, y, inputs, there) for inputs in arms]
    differences, drawn = scores[0] - scores[1], draws[0] - draws[1]
    lo, hi = percentile_interval(_over_seeds(drawn))
    difference = float(differences.mean())
    verdict: Verdict = "no difference shown"
    if lo > 0 or hi < 0:
        sign = get_metric(rows.task.metric, rows.task.kind).sign
        verdict = "better" if sign * (lo + hi) > 0 else "worse"
    return Contrast(
        float(scores[0].mean()), percentile_interval(_over_seeds(draws[0])), scores[0],
        difference, (lo, hi), differences, _p(rows, y, arms, there, fold), verdict, len(at),
        rows_needed(difference, percentile_interval(drawn.mean(axis=1)), len(at)),
        seeds_needed(differences),
    )  # fmt: skip


def decided(
    task: Task, y: np.ndarray, pred: Block, mask: np.ndarray, fold: np.ndarray
) -> np.ndarray:
    """What the metric takes, of one seed: (n,) or (n, T), zero where nothing was predicted.

    Args:
        task: gives the metric.
        y: (n,) or (n, T).
        pred: (n, T) float64.
        mask: (n,) bool, the rows that were predicted.
        fold: (n,) int64; thresholds are cross-fitted over the folds that were predicted.
    """
    inputs = cross_fitted_decision(task, y[mask], pred[mask], fold[mask]).inputs
    whole = np.zeros((len(y), *inputs.shape[1:]), dtype=inputs.dtype)
    whole[mask] = inputs
    return whole


def _seed_scores(
    task: Task, y: np.ndarray, inputs: list[np.ndarray], there: np.ndarray
) -> np.ndarray:
    """(S,) score of each seed on its rows."""
    pairs = zip(inputs, there, strict=True)
    return np.array([decided_score(task, y[mask], block[mask]) for block, mask in pairs])


def _draws(
    rows: Rows,
    y: np.ndarray,
    inputs: list[np.ndarray],
    there: np.ndarray,
    groups: np.ndarray | None,
) -> np.ndarray:
    """(resamples, S) scores of the seeds; resample by resample on the same rows for every arm."""
    function = get_metric(rows.task.metric, rows.task.kind).function
    whole = bool(there.all())

    def scores(drawn: np.ndarray) -> np.ndarray:
        """Score of each seed on the drawn rows."""
        parts = [drawn if whole else drawn[mask[drawn]] for mask in there]
        pairs = zip(inputs, parts, strict=True)
        return np.array([function(y[part], block[part]) for block, part in pairs])

    strata = strata_of(rows.task.kind, y)
    return bootstrap_scores(scores, len(y), strata, groups, rows.n_samples)


def _over_seeds(draws: np.ndarray) -> np.ndarray:
    """(resamples,) means over seeds of ``draws`` (resamples, S), seeds drawn too if there are many.

    S - 1 of S seeds are drawn with replacement: then the variance of their mean is s^2 / S, as it
    should be; drawing S would give (S - 1) / S of that (McCarthy and Snowden 1985). As s itself is
    known from few seeds only, what the drawing moves is stretched from normal to t quantiles.
    """
    resamples, n_seeds = draws.shape
    means = draws.mean(axis=1)
    if n_seeds < SEEDS_TO_DRAW:
        return means
    chosen = np.random.default_rng(1).integers(0, n_seeds, (resamples, n_seeds - 1))
    drawn = np.take_along_axis(draws, chosen, axis=1).mean(axis=1)
    return means + (drawn - means) * float(student_t.ppf(0.975, n_seeds - 1)) / 1.96


def _p(
    rows: Rows, y: np.ndarray, arms: list[list[np.ndarray]], there: np.ndarray, fold: np.ndarray
) -> float | None:
    """p-value over folds, their differences averaged over the seeds that have the fold."""
    differences: dict[int, list[float]] = {int(k): [] for k in np.unique(fold)}
    for ours, bases, mask in zip(*arms, there, strict=True):
        by_fold, base_by_fold = (
            fold_scores(rows.task, y[mask], block[mask], fold[mask]) for block in (ours, bases)
        )
        for k in by_fold:
            differences[k].append(by_fold[k] - base_by_fold[k])
    means = np.array([np.mean(values) for values in differences.values()])
    sizes = np.array([(fold == k).sum() for k in differences])
    return corrected_p(means, sizes, int((rows.fold >= 0).sum()))


def seeds_needed(differences: np.ndarray) -> int | None:
    """Seeds at which a difference would be shown with 80 % power at the 5 % level (paired t-test).

    n = (2.80 s / d)^2 + 1.92, rounded up: the normal formula with Guenther's (1981) correction for
    the t distribution (80 % within 1; 75 % where the answer is 4 or fewer).

    Args:
        differences: (S,) of the seeds, s their standard deviation and d their mean.

    Returns:
        Number of seeds, or None for fewer than two of them or a mean of 0.
    """
    deviation, mean = spread(differences), float(differences.mean())
    if deviation is None or mean == 0 or not math.isfinite(deviation):
        return None
    return math.ceil((2.80 * deviation / mean) ** 2 + 1.92)


def seed_interval(differences: np.ndarray) -> Interval | None:
    """95 % t-interval of the mean difference over seeds, rows fixed; None with one seed."""
    deviation = spread(differences)
    if deviation is None:
        return None
    n, mean = len(differences), float(differences.mean())
    reach = float(student_t.ppf(0.975, n - 1)) * deviation / math.sqrt(n)
    return mean - reach, mean + reach
