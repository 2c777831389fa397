"""Cuts with several parts: a threshold per label, the borders between the steps of a scale."""

from collections.abc import Callable

import numpy as np

from oofline.scoring.class_metrics import f1_from_counts
from oofline.scoring.registry import METRICS, Metric
from oofline.scoring.thresholds import best_threshold, ladder

CANDIDATES = 64
"""Places that a cut point of a scale may take."""
PASSES = 2
"""Times that micro F1 goes over the labels, moving one threshold while the others stay."""


def label_thresholds(metric: Metric, y: np.ndarray, pred: np.ndarray) -> np.ndarray:
    """A threshold for each label.

    Macro F1 is a mean over labels, so each label gets the threshold of its own F1 (see
    `best_threshold`); a label without a positive row keeps 0.5. Micro F1 counts all cells together:
    it starts at the best common threshold and then moves one label after the other.

    Args:
        metric: a metric of labels.
        y: (n, T) 0 or 1.
        pred: (n, T) probabilities.

    Returns:
        (T,).
    """
    if len(y) == 0:
        return np.full(y.shape[1], 0.5)
    f1 = METRICS["f1"]
    if metric.name != "f1_micro":
        pairs = zip(y.T, pred.T, strict=True)
        return np.array([best_threshold(f1, t, p)[0] if t.any() else 0.5 for t, p in pairs])
    cuts = np.full(y.shape[1], best_threshold(f1, y.ravel(), pred.ravel())[0])
    ladders = [ladder(t, p) for t, p in zip(y.T, pred.T, strict=True)]
    for label in list(range(len(cuts))) * PASSES:
        chosen = pred > cuts
        hits, chosen = (y * chosen).sum(axis=0), chosen.sum(axis=0)
        rest_tp, rest_chosen = (np.delete(counts, label).sum() for counts in (hits, chosen))
        middle, tp, fp = ladders[label]
        found, picked = rest_tp + tp, rest_chosen + tp + fp
        curve = f1_from_counts(found, picked - found, y.sum() - found)
        cuts[label] = middle[int(curve.argmax())]
    return cuts


def scale_cuts(
    metric: Metric, y: np.ndarray, position: np.ndarray, n_steps: int, quick: bool = False
) -> tuple[np.ndarray, float]:
    """Cut points between the steps of a scale that give a high score on these rows.

    The score is a staircase, on which searches by simplex or slope stand still. So one cut after
    the other is moved to the best of `CANDIDATES` quantiles of the positions (the middle one of
    equals), until none moves. It starts from the better of two: the middles between the steps, and
    the cuts under which the labels have the shares that y has.

    Args:
        metric: a metric of labels.
        y: (n,) int64 step of each row.
        position: (n,) predicted position on the scale.
        n_steps: K.
        quick: take the better start without a search (inside other searches).

    Returns:
        (K - 1,) ascending cut points and the score there; the middles and nan without rows.
    """
    middles = np.arange(n_steps - 1) + 0.5
    if len(y) == 0:
        return middles, float("nan")

    def gain(cuts: np.ndarray) -> float:
        """What is maximised; a score that is not defined counts as the worst."""
        value = metric.sign * metric.function(y, np.searchsorted(cuts, position))
        return value if np.isfinite(value) else -np.inf

    shares = np.cumsum(np.bincount(y, minlength=n_steps))[:-1] / len(y)
    best = max(middles, np.quantile(position, shares), key=gain)
    if not quick:
        places = np.unique(np.quantile(position, (np.arange(CANDIDATES) + 0.5) / CANDIDATES))
        best = _climb(gain, best, places)
    return best, float(metric.function(y, np.searchsorted(best, position)))


def _climb(gain: Callable[[np.ndarray], float], cuts: np.ndarray, places: np.ndarray) -> np.ndarray:
    """Move single cuts to the best of ``places`` between their neighbours while that gains."""
    cuts, value, moved = cuts.copy(), gain(cuts), True
    while moved:
        moved = False
        for index in range(len(cuts)):
            low = cuts[index - 1] if index else -np.inf
            high = cuts[index + 1] if index + 1 < len(cuts) else np.inf
            inside = places[(places >= low) & (places <= high)]
            trials = np.array([gain(np.r_[cuts[:index], p, cuts[index + 1 :]]) for p in inside])
            if len(trials) and trials.max() > value + 1e-12:
                equals = np.flatnonzero(trials == trials.max())
                cuts[index] = inside[equals[len(equals) // 2]]
                value, moved = float(trials.max()), True
    return cuts
