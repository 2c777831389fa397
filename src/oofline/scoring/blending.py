"""How members are blended: mean, rank mean, hill climbing, convex weights; scored by cross-fitting.

Weights fitted on the rows that they are scored on flatter the blend. So the score of every method
is cross-fitted: for each fold, weights and threshold come from the other folds' rows only. The
weights for the test rows come from all rows.
"""

from dataclasses import dataclass

import numpy as np

from oofline.blocks import Block, Blocks, joined, of_rows
from oofline.errors import ConfigError, DataError
from oofline.results import Task
from oofline.scoring.metrics import Cut, get_metric, metric_inputs
from oofline.scoring.weights import (
    PER_TARGET,
    convex_weights,
    fit_weights,
    fitted_score,
    hill_climb,
    mix,
)

__all__ = [
    "METHODS", "Blend", "blend", "check_method", "convex_weights", "fit_weights", "fitted_score",
    "hill_climb", "ranks_within",
]  # fmt: skip

METHODS = (
    "auto", "mean", "rank_mean", "hill_climbing", "convex", "hill_climbing_per_target",
    "convex_per_target",
)  # fmt: skip
"""What `blend` accepts; "auto" takes the best of mean, hill_climbing and convex, and where there
are several targets or labels of hill_climbing and convex with weights for each of them too.

rank_mean is not among them: its scale is another one, and folds that choose different methods would
mix the two in one column.
"""
RANK_METRICS = ("roc_auc", "f1", "f1_macro", "f1_weighted", "mcc", "spearman")
"""Metrics that survive replacing predictions by ranks (binary ones, and Spearman's)."""


@dataclass(frozen=True)
class Blend:
    """A blend of M members over n rows, nothing fitted on the rows it is scored on.

    Attributes:
        method: one of `METHODS` but "auto".
        pred: `Block`, (n, T) float64 as a rule, each fold blended by weights from the other folds.
        inputs: what the metric takes: labels or answers (n,) where it needs them, else ``pred``.
        fold_weights: fold -> (M,) weights used there, or (M, T) for each target.
        fold_methods: fold -> method used there (differs under "auto" only).
        fold_thresholds: fold -> cut used there (`default_cut` where none is tuned).
        weights: (M,) or (M, T) for the test rows, fitted on all rows.
        threshold: cut for the test rows, chosen on all rows.
        score: cross-fitted.
        in_sample: score of ``weights`` and ``threshold`` on the rows that chose them: optimistic.
    """

    method: str
    pred: Block
    inputs: np.ndarray
    fold_weights: dict[int, np.ndarray]
    fold_methods: dict[int, str]
    fold_thresholds: dict[int, Cut]
    weights: np.ndarray
    threshold: Cut
    score: float
    in_sample: float


def check_method(task: Task, method: str) -> tuple[str, ...]:
    """The methods to try: one, or for "auto" all that fit the task.

    Raises:
        ConfigError: unknown, or rank mean for a metric that ranks would break.
    """
    if method not in METHODS:
        raise ConfigError(f"unknown ensemble method {method!r}: use one of {', '.join(METHODS)}")
    ranks = task.kind not in ("multiclass", "ordinal") and task.metric in RANK_METRICS
    if method == "rank_mean" and not ranks:
        raise ConfigError(
            f"rank_mean replaces predictions by ranks, which {task.metric} of a {task.kind} task "
            f"cannot score: use mean, hill_climbing or convex (ranks fit {', '.join(RANK_METRICS)})"
        )
    if method.endswith(PER_TARGET) and not task.several:
        raise ConfigError(f"{method} needs several targets or labels: use convex or hill_climbing")
    if method != "auto":
        return (method,)
    fitted = ("hill_climbing", "convex")
    if task.truth == "answer":  # hill climbing cuts all answers again at each of its steps
        return ("mean", "convex")
    return ("mean", *fitted, *(name + PER_TARGET for name in fitted if task.several))


def ranks_within(reference: np.ndarray, values: np.ndarray) -> np.ndarray:
    """Mid-ranks (n, T) in 0..1 of ``values`` within the columns of ``reference`` (m, T).

    A member's test rows are ranked within its out-of-fold predictions, so that rank means of the
    two, and a threshold on them, agree.
    """
    columns = []
    for known, column in zip(reference.T, values.T, strict=True):
        ordered = np.sort(known)
        left, right = (np.searchsorted(ordered, column, side) for side in ("left", "right"))
        columns.append((left + right) / (2 * len(ordered)))
    return np.stack(columns, axis=1)


def blend(task: Task, y: np.ndarray, members: Blocks, fold: np.ndarray, method: str) -> Blend:
    """Blend members and score the blend by cross-fitting.

    Under "auto" the method is part of what is fitted: for each fold it is chosen by the
    cross-fitted score on the other folds (nested), so the choice flatters nothing.

    Args:
        task: gives metric and kind.
        y: (n,) or (n, T).
        members: (M, n, T) out-of-fold predictions, or M sparse blocks.
        fold: (n,) int64.
        method: one of `METHODS`.

    Raises:
        ConfigError: see `check_method`.
        DataError: fewer than two folds: nothing to cross-fit on.
    """
    methods = check_method(task, method)
    if len(np.unique(fold)) < 2:
        raise DataError("an ensemble is scored across folds and needs at least two of them")
    if methods == ("rank_mean",):
        members = np.stack([ranks_within(member, member) for member in members])
    return _cross_fit(task, y, members, fold, methods)


def _cross_fit(
    task: Task, y: np.ndarray, members: Blocks, fold: np.ndarray, methods: tuple[str, ...]
) -> Blend:
    """Blend with the best of ``methods``, chosen and fitted without the rows it is scored on."""
    metric = get_metric(task.metric, task.kind)
    parts, inputs = [], []
    weights, chosen, thresholds = {}, {}, {}
    for held in map(int, np.unique(fold)):
        inside = fold == held
        others = of_rows(members, ~inside)
        chosen[held] = _choose(task, y[~inside], others, fold[~inside], methods)
        weights[held] = fit_weights(task, y[~inside], others, chosen[held])
        thresholds[held] = fitted_score(task, y[~inside], mix(weights[held], others))[1]
        mixed = mix(weights[held], of_rows(members, inside))
        parts.append((np.flatnonzero(inside), mixed))
        decided = metric_inputs(task, y[inside], mixed, thresholds[held])
        inputs.append((np.flatnonzero(inside), decided))
    method = _choose(task, y, members, fold, methods)
    final = fit_weights(task, y, members, method)
    in_sample, threshold = fitted_score(task, y, mix(final, members))
    value = float(metric.function(y, joined(inputs)))
    return Blend(
        method, joined(parts), joined(inputs), weights, chosen, thresholds, final, threshold,
        value, in_sample,
    )  # fmt: skip


def _choose(
    task: Task, y: np.ndarray, members: Blocks, fold: np.ndarray, methods: tuple[str, ...]
) -> str:
    """The method with the best cross-fitted score (in-sample where there is one fold only)."""
    if len(methods) == 1:
        return methods[0]
    sign = get_metric(task.metric, task.kind).sign
    values = {}
    for method in methods:
        if len(np.unique(fold)) > 1:
            value = _cross_fit(task, y, members, fold, (method,)).score
        else:
            mixed = mix(fit_weights(task, y, members, method), members)
            value = fitted_score(task, y, mixed)[0]
        values[method] = sign * value if np.isfinite(value) else -np.inf
    return max(values, key=lambda method: values[method])
