"""Percentile bootstrap intervals: rows, rows within classes, or whole groups are drawn again.

Efron and Tibshirani 1993, chapter 13. Predictions, labels and thresholds are fixed before; only
rows are drawn, so the interval says how far the score would move on other rows of the same kind,
not on another training run (that is what seeds show).
"""

from collections.abc import Callable

import numpy as np

from oofline.tasks import KINDS, Kind

WORK = 200_000_000
"""Rows x resamples that one interval may draw; beyond it resamples are cut, to 200 at the least."""


RARE = 10
"""A class with fewer rows could vanish from a plain resample (chance about exp(-rows))."""


def strata_of(kind: Kind, y: np.ndarray) -> np.ndarray | None:
    """Classes to keep in proportion when rows are drawn again, or None to draw freely.

    Fixing the class shares where it is not needed would make intervals of accuracy-like scores too
    narrow: other rows of the same kind would have other shares. So classes are strata only where
    one of them is so rare that a resample might lose it.

    Args:
        kind: of the task.
        y: (n,) class index, or (n, T) labels or values, which have no classes.
    """
    if KINDS[kind].truth != "class":
        return None
    return y if np.unique(y, return_counts=True)[1].min(initial=RARE) < RARE else None


class Resampler:
    """Draws row indices with replacement.

    Args:
        n_rows: n.
        strata: (n,) class index; each class keeps its number of rows, so that none vanishes.
        groups: (n,) group number; whole groups are drawn (cluster bootstrap) and strata are
            ignored. Groups that all have one row are no groups.
        seed: of the draws.
    """

    def __init__(
        self,
        n_rows: int,
        strata: np.ndarray | None = None,
        groups: np.ndarray | None = None,
        seed: int = 0,
    ) -> None:
        self._rng = np.random.default_rng(seed)
        if groups is not None and len(np.unique(groups)) == n_rows:
            groups = None
        self._clustered = groups is not None
        keys = groups if groups is not None else strata
        keys = np.zeros(n_rows, dtype=np.int64) if keys is None else keys
        self._order = np.argsort(keys, kind="stable")
        _, self._sizes = np.unique(keys, return_counts=True)
        self._starts = np.cumsum(self._sizes) - self._sizes
        if not self._clustered:  # position -> start and size of its own stratum
            self._starts = np.repeat(self._starts, self._sizes)
            self._sizes = np.repeat(self._sizes, self._sizes)

    def draw(self) -> np.ndarray:
        """One resample: row indices, n of them (by groups: about n)."""
        if not self._clustered:
            offsets = (self._rng.random(len(self._sizes)) * self._sizes).astype(np.int64)
            return self._order[self._starts + offsets]
        chosen = self._rng.integers(0, len(self._sizes), len(self._sizes))
        sizes = self._sizes[chosen]
        offsets = np.arange(sizes.sum()) - np.repeat(np.cumsum(sizes) - sizes, sizes)
        return self._order[np.repeat(self._starts[chosen], sizes) + offsets]


def bootstrap_scores(
    score_fn: Callable[[np.ndarray], float | np.ndarray],
    n_rows: int,
    strata: np.ndarray | None = None,
    groups: np.ndarray | None = None,
    n_samples: int = 1000,
    seed: int = 0,
) -> np.ndarray:
    """Scores (resamples,) of ``score_fn(rows)`` over row indices drawn as `Resampler` says.

    Where ``score_fn`` returns several scores (S,) of the same rows, (resamples, S). The same rows
    are drawn for the same seed, so two calls can be subtracted.

    ``n_samples`` resamples, or fewer (never under 200) where n_rows x n_samples exceeds `WORK`.
    """
    resampler = Resampler(n_rows, strata, groups, seed)
    n_samples = min(n_samples, max(200, WORK // max(1, n_rows)))
    return np.array([score_fn(resampler.draw()) for _ in range(n_samples)])


def percentile_interval(scores: np.ndarray, level: float = 0.95) -> tuple[float, float]:
    """Central interval (lo, hi) of resampled scores; nan scores are left out, (nan, nan) if all."""
    scores = scores[np.isfinite(scores)]
    if len(scores) == 0:
        return float("nan"), float("nan")
    lo, hi = np.quantile(scores, [(1 - level) / 2, (1 + level) / 2])
    return float(lo), float(hi)


def bootstrap_ci(
    score_fn: Callable[[np.ndarray], float],
    n_rows: int,
    strata: np.ndarray | None = None,
    groups: np.ndarray | None = None,
    n_samples: int = 1000,
    seed: int = 0,
) -> tuple[float, float]:
    """95 % percentile bootstrap interval (lo, hi) of a score.

    Args:
        score_fn: row indices (m,) int64 -> score of these rows.
        n_rows: number of rows.
        strata: (n_rows,) classes to keep in proportion, or None.
        groups: (n_rows,) groups to draw whole, or None.
        n_samples: resamples (see `bootstrap_scores` for very many rows).
        seed: of the draws; the same seed gives the same interval.
    """
    return percentile_interval(bootstrap_scores(score_fn, n_rows, strata, groups, n_samples, seed))
