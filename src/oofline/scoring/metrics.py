"""Metrics by name, labels from predictions, and the score of a prediction.

A metric is added as one function of ``(y, pred)`` under the decorator `metric`; its module must be
imported before it is looked up. A score that is not defined on the rows given (ROC AUC with one
class, correlation with a constant) is ``nan``, never 0 or 0.5.
"""

import difflib

import numpy as np

from oofline.blocks import WIDTH, Block, finite
from oofline.errors import ConfigError, DataError
from oofline.results import Kind, Task
from oofline.scoring import class_metrics, value_metrics
from oofline.scoring.answers import answers_from
from oofline.scoring.registry import METRICS, Metric, metric
from oofline.tasks import KINDS

__all__ = [
    "METRICS",
    "Cut",
    "Metric",
    "class_metrics",
    "default_cut",
    "get_metric",
    "hard_labels",
    "metric",
    "metric_inputs",
    "score",
    "score_targets",
    "scores_beside",
    "scores_by_target",
    "value_metrics",
]


def get_metric(name: str, task_kind: str) -> Metric:
    """Look up a metric.

    Args:
        name: as in `Task.metric`.
        task_kind: as in `Task.kind`.

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


Cut = float | np.ndarray
"""Where labels begin: one threshold; one per label (T,); or K - 1 ascending cut points of a scale
of K steps."""


def default_cut(task: Task) -> Cut:
    """0.5 for probabilities, the middles between the steps of a scale."""
    return np.arange(len(task.labels) - 1) + 0.5 if task.kind == "ordinal" else 0.5


def hard_labels(kind: Kind, pred: np.ndarray, cut: Cut = 0.5) -> np.ndarray:
    """Labels int64 from predictions (n, T): (n, T) for multilabel, (n,) for the others.

    binary and multilabel: 1 where the probability is above ``cut``; multiclass: the most probable
    class (the first of equals); ordinal: number of cut points below the position; regression
    (quadratic kappa only): the nearest integer.
    """
    if kind == "multilabel":
        return (pred > cut).astype(np.int64)
    if kind == "binary":
        return (pred[:, 0] > cut).astype(np.int64)
    if kind == "multiclass":
        return pred.argmax(axis=1).astype(np.int64)
    if kind == "ordinal":
        return np.searchsorted(np.atleast_1d(cut), pred[:, 0]).astype(np.int64)
    return np.rint(pred[:, 0]).astype(np.int64)


def metric_inputs(task: Task, y: np.ndarray, pred: Block, cut: Cut) -> np.ndarray:
    """What the task's metric takes: labels, answers, or the predictions themselves.

    Args:
        task: gives the metric.
        y: of the same rows; read for the contexts of answers alone.
        pred: predictions.
        cut: see `hard_labels`.
    """
    needs = get_metric(task.metric, task.kind).needs
    if needs == "label":
        return hard_labels(task.kind, pred, cut)
    if needs == "answer":
        return answers_from([row.context for row in y], pred, task.longest)
    return pred


def score(task: Task, y: np.ndarray, pred: Block, cut: Cut | None = None) -> float:
    """Score predictions by the task's metric.

    Args:
        task: gives the metric and the kind.
        y: (n,) int64 class index, (n, T) int64 labels, (n, T) float64 targets, or (n,) `Answer`.
        pred: (n, T) float64, as `Task.outputs` names them, or of characters.
        cut: turns predictions into labels for metrics of labels; None = `default_cut`.

    Returns:
        The score; nan where it is not defined on these rows or a prediction is not finite.

    Raises:
        ConfigError: the metric does not fit the task.
        DataError: y and pred do not match in shape, or are empty.
    """
    chosen = get_metric(task.metric, task.kind)
    width = WIDTH if task.truth == "answer" else task.n_outputs
    if pred.shape != (len(y), width) or len(y) == 0:
        raise DataError(
            f"cannot score predictions of shape {pred.shape} against {len(y)} rows with "
            f"{task.n_outputs} outputs: they must match and not be empty"
        )
    if not finite(pred).all():
        return float("nan")
    cut = default_cut(task) if cut is None else cut
    return float(chosen.function(y, metric_inputs(task, y, pred, cut)))


def score_targets(task: Task, y: np.ndarray, pred: Block) -> dict[str, float]:
    """`scores_by_target` of predictions, cut at `default_cut`; {} where there is one target."""
    if not task.several:
        return {}
    return scores_by_target(task, y, metric_inputs(task, y, pred, default_cut(task)))


def scores_beside(task: Task, y: np.ndarray, inputs: np.ndarray) -> dict[str, float]:
    """Scores by the further metrics of the kind, of what `metric_inputs` gave."""
    names = [name for name in KINDS[task.kind].beside if name != task.metric]
    return {name: float(METRICS[name].function(y, inputs)) for name in names}


def scores_by_target(task: Task, y: np.ndarray, inputs: np.ndarray) -> dict[str, float]:
    """The metric of each target or label alone; {} where there is one.

    Args:
        task: gives metric and names.
        y: (n, T).
        inputs: (n, T) labels where the metric needs labels, else predictions.
    """
    if not task.several:
        return {}
    function = get_metric(task.metric, task.kind).function
    return {name: float(function(y[:, [t]], inputs[:, [t]])) for t, name in enumerate(task.outputs)}
