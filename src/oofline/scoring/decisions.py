"""From predictions to labels, without looking at the rows that are scored.

F1 (of the positive class, macro or weighted) and Matthews correlation depend on where the line
between negative and positive is drawn. Drawn on the rows that it is scored on, the line flatters
the score; so each fold's threshold is chosen on the other folds' out-of-fold rows (cross-fitting).
The threshold chosen on all rows is for the test rows only. The same goes for the thresholds of
several labels, and for the cut points between the steps of a scale.
"""

from dataclasses import dataclass

import numpy as np

from oofline.results import Task
from oofline.scoring.cut_points import label_thresholds, scale_cuts
from oofline.scoring.metrics import Cut, default_cut, get_metric, hard_labels, metric_inputs
from oofline.scoring.thresholds import best_threshold

__all__ = [
    "Decision", "best_threshold", "cross_fitted_decision", "cross_fitted_labels", "fit_cut",
    "is_thresholded",
]  # fmt: skip


@dataclass(frozen=True)
class Decision:
    """What a metric is computed on, every row decided without having been looked at.

    Attributes:
        inputs: what `Metric.function` takes: int64 labels, (n, T) predictions, or (n,) answers.
        thresholds: fold -> cut used there; empty where none is tuned.
        threshold: chosen on all rows, for the test rows; `default_cut` where none is tuned.
    """

    inputs: np.ndarray
    thresholds: dict[int, Cut]
    threshold: Cut = 0.5


def is_thresholded(task: Task) -> bool:
    """Whether labels depend on cuts that are tuned: binary F1s and MCC, several labels, a scale."""
    metric = get_metric(task.metric, task.kind)
    if task.kind in ("multilabel", "ordinal"):
        return metric.needs == "label"
    return task.kind == "binary" and metric.thresholded


def fit_cut(task: Task, y: np.ndarray, pred: np.ndarray, quick: bool = False) -> Cut:
    """The cut with a high score on these very rows; `default_cut` where none is tuned.

    Args:
        task: gives metric and kind.
        y: (n,) or (n, T).
        pred: (n, T).
        quick: see `scale_cuts`.
    """
    if not is_thresholded(task):
        return default_cut(task)
    metric = get_metric(task.metric, task.kind)
    if task.kind == "multilabel":
        return label_thresholds(metric, y, pred)
    if task.kind == "ordinal":
        return scale_cuts(metric, y, pred[:, 0], len(task.labels), quick)[0]
    return best_threshold(metric, y, pred[:, 0])[0]


def cross_fitted_decision(
    task: Task, y: np.ndarray, pred: np.ndarray, fold: np.ndarray
) -> Decision:
    """Turn predictions into what the metric takes, cuts chosen on the other folds.

    With a single fold there is no other one: `default_cut` is used there.

    Args:
        task: gives the metric.
        y: (n,) int64, (n, T) int64 or (n, T) float64.
        pred: (n, T) float64, out of fold.
        fold: (n,) int64, at least 0.
    """
    if not is_thresholded(task):
        return Decision(metric_inputs(task, y, pred, default_cut(task)), {})
    labels, thresholds = np.empty(y.shape, dtype=np.int64), {}
    for held in np.unique(fold):
        inside = fold == held
        cut = fit_cut(task, y[~inside], pred[~inside])
        labels[inside] = hard_labels(task.kind, pred[inside], cut)
        thresholds[int(held)] = cut
    return Decision(labels, thresholds, fit_cut(task, y, pred))


def cross_fitted_labels(
    task: Task, y: np.ndarray, pred: np.ndarray, fold: np.ndarray
) -> tuple[np.ndarray, dict[int, Cut], Cut]:
    """Labels of a class task: (labels, cut per fold, cut for the test rows).

    Cuts are tuned where `is_thresholded` (see `cross_fitted_decision`); every other metric uses
    `default_cut`, or the most probable class.
    """
    if is_thresholded(task):
        decision = cross_fitted_decision(task, y, pred, fold)
        return decision.inputs, decision.thresholds, decision.threshold
    return hard_labels(task.kind, pred, default_cut(task)), {}, default_cut(task)
