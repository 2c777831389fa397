"""Metrics by name, labels from predictions, and the score of a prediction.

A metric is added as one function of ``(y, pred)`` under the decorator `metric`; its module must be
imported before it is looked up. A score that is not defined on the rows given (ROC AUC with one
class, correlation with a constant) is ``nan``, never 0 or 0.5.
"""

import difflib

import numpy as np

from oofline.errors import ConfigError, DataError
from oofline.results import Kind, Task
from oofline.scoring import class_metrics, value_metrics
from oofline.scoring.registry import METRICS, Metric, metric

__all__ = [
    "METRICS",
    "Metric",
    "class_metrics",
    "get_metric",
    "hard_labels",
    "metric",
    "score",
    "value_metrics",
]


def get_metric(name: str, task_kind: str) -> Metric:
    """Look up a metric.

    Args:
        name: as in `Task.metric`.
        task_kind: "binary", "multiclass" or "regression".

    Raises:
        ConfigError: unknown name (the nearest is named), or it does not fit the kind of task (those
            that do are listed).
    """
    fitting = ", ".join(m.name for m in METRICS.values() if task_kind in m.kinds)
    if name not in METRICS:
        near = difflib.get_close_matches(name.lower(), METRICS, n=1, cutoff=0.4)
        hint = f"did you mean {near[0]!r}? " if near else ""
        raise ConfigError(f"unknown metric {name!r}: {hint}metrics for {task_kind}: {fitting}")
    if task_kind not in METRICS[name].kinds:
        raise ConfigError(f"metric {name!r} does not fit a {task_kind} task: use one of {fitting}")
    return METRICS[name]


def hard_labels(kind: Kind, pred: np.ndarray, threshold: float = 0.5) -> np.ndarray:
    """Labels (n,) int64 from predictions (n, T).

    binary: 1 where the probability is above ``threshold``; multiclass: the most probable class (the
    first of equals); regression (quadratic kappa only): the nearest integer.
    """
    if kind == "binary":
        return (pred[:, 0] > threshold).astype(np.int64)
    if kind == "multiclass":
        return pred.argmax(axis=1).astype(np.int64)
    return np.rint(pred[:, 0]).astype(np.int64)


def score(task: Task, y: np.ndarray, pred: np.ndarray, threshold: float = 0.5) -> float:
    """Score predictions by the task's metric.

    Args:
        task: gives the metric and the kind.
        y: (n,) int64 class index, or (n, T) float64 targets.
        pred: (n, T) float64: probability of the positive class (T = 1), of each class, or values.
        threshold: binary label metrics count probabilities above it as positive.

    Returns:
        The score; nan where it is not defined on these rows or a prediction is not finite.

    Raises:
        ConfigError: the metric does not fit the task.
        DataError: y and pred do not match in shape, or are empty.
    """
    chosen = get_metric(task.metric, task.kind)
    if pred.shape != (len(y), task.n_outputs) or len(y) == 0:
        raise DataError(
            f"cannot score predictions of shape {pred.shape} against {len(y)} rows with "
            f"{task.n_outputs} outputs: they must match and not be empty"
        )
    if not np.isfinite(pred).all():
        return float("nan")
    inputs = hard_labels(task.kind, pred, threshold) if chosen.needs == "label" else pred
    return float(chosen.function(y, inputs))
