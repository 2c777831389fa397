"""From probabilities to labels, without looking at the rows that are scored.

F1 (of the positive class, macro or weighted) and Matthews correlation depend on where the line
between negative and positive is drawn. Drawn on the rows that it is scored on, the line flatters
the score; so each fold's threshold is chosen on the other folds' out-of-fold rows (cross-fitting).
The threshold chosen on all rows is for the test rows only.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from oofline.results import Task
from oofline.scoring.class_metrics import f1_from_counts, mcc_from_counts
from oofline.scoring.metrics import Metric, get_metric, hard_labels

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


@dataclass(frozen=True)
class Decision:
    """What a metric is computed on, every row decided without having been looked at.

    Attributes:
        inputs: what `Metric.function` takes: (n,) int64 labels or (n, T) predictions.
        thresholds: fold -> threshold used there; empty where none is tuned.
        threshold: chosen on all rows, for the test rows; 0.5 where none is tuned.
    """

    inputs: np.ndarray
    thresholds: dict[int, float]
    threshold: float = 0.5


def is_thresholded(task: Task) -> bool:
    """Whether the task's metric has a decision threshold to tune (binary F1s and MCC)."""
    return task.kind == "binary" and get_metric(task.metric, task.kind).thresholded


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
    order = np.argsort(probability)[::-1]
    values, positive = probability[order], y[order]
    last = np.append(values[1:] != values[:-1], values[-1] > 0)  # last row of its probability
    tp = np.append(0.0, np.cumsum(positive)[last])  # the first cut is above all: no row positive
    fp = np.append(0.0, np.cumsum(1 - positive)[last])
    n_positive = float(positive.sum())
    curve = _curve(metric, tp, fp, n_positive - tp, len(y) - n_positive - fp)
    above = np.append(max(1.0, values[0]), values[last])
    below = np.append(values[0], np.append(values[1:], 0.0)[last])
    middle = (above + below) / 2
    middle = np.where(middle < above, middle, below)  # neighbouring floats have no middle
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


def cross_fitted_decision(
    task: Task, y: np.ndarray, pred: np.ndarray, fold: np.ndarray
) -> Decision:
    """Turn predictions into what the metric takes, thresholds chosen on the other folds.

    With a single fold there is no other one: 0.5 is used there.

    Args:
        task: gives the metric.
        y: (n,) int64 or (n, T) float64.
        pred: (n, T) float64, out of fold.
        fold: (n,) int64, at least 0.
    """
    metric = get_metric(task.metric, task.kind)
    if metric.needs != "label":
        return Decision(pred, {})
    if not is_thresholded(task):
        return Decision(hard_labels(task.kind, pred), {})
    labels, thresholds = np.empty(len(y), dtype=np.int64), {}
    for held in np.unique(fold):
        inside = fold == held
        threshold, _ = best_threshold(metric, y[~inside], pred[~inside, 0])
        labels[inside] = hard_labels("binary", pred[inside], threshold)
        thresholds[int(held)] = threshold
    return Decision(labels, thresholds, best_threshold(metric, y, pred[:, 0])[0])


def cross_fitted_labels(
    task: Task, y: np.ndarray, pred: np.ndarray, fold: np.ndarray
) -> tuple[np.ndarray, dict[int, float], float]:
    """Labels of a class task: (labels (n,) int64, threshold per fold, threshold for the test rows).

    Thresholds are tuned for binary F1s and MCC only (see `cross_fitted_decision`); every other
    metric uses 0.5, or the most probable class.
    """
    if is_thresholded(task):
        decision = cross_fitted_decision(task, y, pred, fold)
        return decision.inputs, decision.thresholds, decision.threshold
    return hard_labels(task.kind, pred), {}, 0.5
