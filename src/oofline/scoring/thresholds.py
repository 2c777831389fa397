"""One decision threshold on a probability, found by one sort and cumulative counts."""

from collections.abc import Callable

import numpy as np

from oofline.scoring.class_metrics import f1_from_counts, mcc_from_counts
from oofline.scoring.registry import Metric

Counts = np.ndarray


def _f1_macro(tp: Counts, fp: Counts, fn: Counts, tn: Counts) -> np.ndarray:
    """Mean F1 of the two classes, of those that are true or chosen somewhere."""
    occur = np.stack([tp + fp + fn > 0, tn + fn + fp > 0])
    by_class = np.stack([f1_from_counts(tp, fp, fn), f1_from_counts(tn, fn, fp)])
    return (by_class * occur).sum(axis=0) / np.maximum(occur.sum(axis=0), 1)


def _f1_weighted(tp: Counts, fp: Counts, fn: Counts, tn: Counts) -> np.ndarray:
    """F1 of the two classes, weighted by their true rows."""
    positive, negative = tp + fn, tn + fp
    both = positive * f1_from_counts(tp, fp, fn) + negative * f1_from_counts(tn, fn, fp)
    return both / (positive + negative)


_CURVES: dict[str, Callable[[Counts, Counts, Counts, Counts], np.ndarray]] = {
    "f1": lambda tp, fp, fn, tn: f1_from_counts(tp, fp, fn),
    "f1_macro": _f1_macro,
    "f1_weighted": _f1_weighted,
    "mcc": mcc_from_counts,
}
CUTS = 200
"""Thresholds tried for a metric that was added without a formula in counts."""


def ladder(y: np.ndarray, probability: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Every threshold that separates rows, from above all of them down, and its counts.

    Args:
        y: (n,) 0 or 1, n at least 1.
        probability: (n,).

    Returns:
        thresholds (m,), true positives (m,) and false positives (m,) above each.
    """
    order = np.argsort(probability)[::-1]
    values, positive = probability[order], y[order]
    last = np.append(values[1:] != values[:-1], values[-1] > 0)  # last row of its probability
    tp = np.append(0.0, np.cumsum(positive)[last])  # the first cut is above all: no row positive
    fp = np.append(0.0, np.cumsum(1 - positive)[last])
    above = np.append(max(1.0, values[0]), values[last])
    below = np.append(values[0], np.append(values[1:], 0.0)[last])
    middle = (above + below) / 2
    return np.where(middle < above, middle, below), tp, fp  # neighbouring floats have no middle


def best_threshold(metric: Metric, y: np.ndarray, probability: np.ndarray) -> tuple[float, float]:
    """A stable threshold with a high score on these rows: one sort, then cumulative counts.

    The highest point of a jagged curve is mostly luck. So all cuts are taken that score within one
    standard error of it (sqrt(s (1 - s) / n) for a best score s: 0 where the classes separate), and
    the middle one of these is the threshold. Rows of equal probability are never separated, and the
    threshold is the midpoint between two neighbouring probabilities, so that rounding moves no row
    over it.

    Args:
        metric: a thresholded metric.
        y: (n,) 0 or 1.
        probability: (n,) of the positive class; label 1 means above the threshold.

    Returns:
        (threshold, score there). (0.5, nan) without rows.
    """
    if len(y) == 0:
        return 0.5, float("nan")
    middle, tp, fp = ladder(y, probability)
    n_positive = float(y.sum())
    curve = _curve(metric, tp, fp, n_positive - tp, len(y) - n_positive - fp)
    best = float(np.clip(curve.max(), 0, 1))
    good = np.flatnonzero(curve >= curve.max() - np.sqrt(best * (1 - best) / len(y)))
    chosen = good[len(good) // 2]
    return float(middle[chosen]), metric.sign * float(curve[chosen])


def _curve(metric: Metric, tp: Counts, fp: Counts, fn: Counts, tn: Counts) -> np.ndarray:
    """Score at each cut from the four counts (m,) there, turned so that greater is better.

    A metric without a formula in counts is computed at `CUTS` evenly spaced cuts only.
    """
    if metric.name in _CURVES:
        return _CURVES[metric.name](tp, fp, fn, tn)
    curve = np.full(len(tp), -np.inf)
    cells = np.array([[1, 1], [0, 1], [1, 0], [0, 0]])  # y, label of tp, fp, fn, tn
    counts = np.stack([tp, fp, fn, tn], axis=1).astype(np.int64)
    for cut in np.unique(np.linspace(0, len(tp) - 1, CUTS).astype(np.int64)):
        y, labels = np.repeat(cells, counts[cut], axis=0).T
        curve[cut] = metric.sign * metric.function(y, labels)
    return curve
