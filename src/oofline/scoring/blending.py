"""How members are blended: mean, rank mean, hill climbing, convex weights; scored by cross-fitting.

Weights fitted on the rows that they are scored on flatter the blend. So the score of every method
is cross-fitted: for each fold, weights and threshold come from the other folds' rows only. The
weights for the test rows come from all rows.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from scipy.optimize import minimize

from oofline.errors import ConfigError, DataError
from oofline.results import Task
from oofline.scoring.class_metrics import EPSILON
from oofline.scoring.decisions import best_threshold, is_thresholded
from oofline.scoring.metrics import get_metric, hard_labels

METHODS = ("auto", "mean", "rank_mean", "hill_climbing", "convex")
"""What `blend` accepts; "auto" takes the best of mean, hill_climbing and convex.

rank_mean is not among them: its scale is another one, and folds that choose different methods would
mix the two in one column.
"""
RANK_METRICS = ("roc_auc", "f1", "f1_macro", "f1_weighted", "mcc", "spearman")
"""Metrics that survive replacing predictions by ranks (binary ones, and Spearman's)."""
HILL_STEPS = 50
"""Most members that hill climbing adds, with replacement."""
HILL_PATIENCE = 10
"""Hill climbing stops after this many steps without a new best."""


@dataclass(frozen=True)
class Blend:
    """A blend of M members over n rows, nothing fitted on the rows it is scored on.

    Attributes:
        method: one of `METHODS` but "auto".
        pred: (n, T) float64, each fold blended by weights from the other folds.
        inputs: what the metric takes: labels (n,) where it needs labels, else ``pred``.
        fold_weights: fold -> (M,) weights used there.
        fold_methods: fold -> method used there (differs under "auto" only).
        fold_thresholds: fold -> threshold used there (0.5 where none is tuned).
        weights: (M,) for the test rows, fitted on all rows.
        threshold: for the test rows, chosen on all rows.
        score: cross-fitted.
        in_sample: score of ``weights`` and ``threshold`` on the rows that chose them: optimistic.
    """

    method: str
    pred: np.ndarray
    inputs: np.ndarray
    fold_weights: dict[int, np.ndarray]
    fold_methods: dict[int, str]
    fold_thresholds: dict[int, float]
    weights: np.ndarray
    threshold: float
    score: float
    in_sample: float


def check_method(task: Task, method: str) -> tuple[str, ...]:
    """The methods to try: one, or for "auto" all that fit the task.

    Raises:
        ConfigError: unknown, or rank mean for a metric that ranks would break.
    """
    if method not in METHODS:
        raise ConfigError(f"unknown ensemble method {method!r}: use one of {', '.join(METHODS)}")
    ranks = task.kind != "multiclass" and task.metric in RANK_METRICS
    if method == "rank_mean" and not ranks:
        raise ConfigError(
            f"rank_mean replaces predictions by ranks, which {task.metric} of a {task.kind} task "
            f"cannot score: use mean, hill_climbing or convex (ranks fit {', '.join(RANK_METRICS)})"
        )
    return ("mean", "hill_climbing", "convex") if method == "auto" else (method,)


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


def hill_climb(task: Task, y: np.ndarray, members: np.ndarray) -> np.ndarray:
    """Weights (M,) by adding members with replacement while the metric rises (Caruana 2004).

    Args:
        task: gives the metric, which is maximised itself (F1 and MCC: at their best threshold).
        y: (n,) or (n, T).
        members: (M, n, T).
    """
    sign = get_metric(task.metric, task.kind).sign
    counts, total = np.zeros(len(members)), np.zeros(members.shape[1:])
    best_value, best_counts = -np.inf, np.ones(len(members))
    for step in range(1, HILL_STEPS + 1):
        trials = [sign * fitted_score(task, y, (total + m) / step)[0] for m in members]
        chosen = int(np.argmax(np.nan_to_num(trials, nan=-np.inf)))
        counts[chosen] += 1
        total += members[chosen]
        if trials[chosen] > best_value + 1e-12:
            best_value, best_counts = trials[chosen], counts.copy()
        elif step - best_counts.sum() >= HILL_PATIENCE:
            break
    return best_counts / best_counts.sum()


def fitted_score(task: Task, y: np.ndarray, pred: np.ndarray) -> tuple[float, float]:
    """(score, threshold) with the threshold, if any, chosen on these very rows."""
    metric = get_metric(task.metric, task.kind)
    if is_thresholded(task):
        threshold, value = best_threshold(metric, y, pred[:, 0])
        return value, threshold
    inputs = hard_labels(task.kind, pred) if metric.needs == "label" else pred
    return float(metric.function(y, inputs)), 0.5


def convex_weights(task: Task, y: np.ndarray, members: np.ndarray) -> np.ndarray:
    """Weights (M,), non-negative with sum 1, that minimise log loss (classes) or squared error.

    Both are convex in the weights, so SLSQP finds the one minimum; the metric itself may be another
    one (log loss stands in for accuracy, F1 and the like).
    """
    loss = _squared_error(y, members) if task.kind == "regression" else _log_loss(y, members)
    n_members = len(members)
    found = minimize(
        loss, np.full(n_members, 1 / n_members), jac=True, method="SLSQP",
        bounds=[(0, 1)] * n_members, options={"ftol": 1e-10, "maxiter": 200},
        constraints={"type": "eq", "fun": lambda w: w.sum() - 1, "jac": np.ones_like},
    )  # fmt: skip
    weights = np.clip(found.x, 0, None)
    weights[weights < 1e-6] = 0
    return weights / weights.sum()


Loss = Callable[[np.ndarray], tuple[float, np.ndarray]]


def _log_loss(y: np.ndarray, members: np.ndarray) -> Loss:
    """Weights -> (mean negative log of the blended true-class probability, its gradient)."""
    if members.shape[2] == 1:
        true = np.where(y == 1, members[:, :, 0], 1 - members[:, :, 0])
    else:
        true = members[:, np.arange(len(y)), y]

    def loss(weights: np.ndarray) -> tuple[float, np.ndarray]:
        """Loss of the blend and its gradient."""
        blended = np.clip(weights @ true, EPSILON, None)
        return -float(np.log(blended).mean()), -(true / blended).mean(axis=1)

    return loss


def _squared_error(y: np.ndarray, members: np.ndarray) -> Loss:
    """Weights -> (mean squared error in units of var y, its gradient), through the Gram matrix."""
    scale = float(y.var()) or 1.0
    errors = (members - y[None]).reshape(len(members), -1)
    gram = errors @ errors.T / errors.shape[1] / scale  # weights sum to 1: blend - y = w @ errors
    return lambda weights: (float(weights @ gram @ weights), 2 * gram @ weights)


def fit_weights(task: Task, y: np.ndarray, members: np.ndarray, method: str) -> np.ndarray:
    """Weights (M,) of one method on these rows; members (M, n, T) (ranks under rank_mean)."""
    if method == "hill_climbing":
        return hill_climb(task, y, members)
    if method == "convex":
        return convex_weights(task, y, members)
    return np.full(len(members), 1 / len(members))


def blend(task: Task, y: np.ndarray, members: np.ndarray, fold: np.ndarray, method: str) -> Blend:
    """Blend members and score the blend by cross-fitting.

    Under "auto" the method is part of what is fitted: for each fold it is chosen by the
    cross-fitted score on the other folds (nested), so the choice flatters nothing.

    Args:
        task: gives metric and kind.
        y: (n,) or (n, T).
        members: (M, n, T) out-of-fold predictions.
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
    task: Task, y: np.ndarray, members: np.ndarray, fold: np.ndarray, methods: tuple[str, ...]
) -> Blend:
    """Blend with the best of ``methods``, chosen and fitted without the rows it is scored on."""
    metric = get_metric(task.metric, task.kind)
    pred, labels = np.empty(members.shape[1:]), np.empty(len(y), dtype=np.int64)
    weights, chosen, thresholds = {}, {}, {}
    for held in map(int, np.unique(fold)):
        inside = fold == held
        others = members[:, ~inside]
        chosen[held] = _choose(task, y[~inside], others, fold[~inside], methods)
        weights[held] = fit_weights(task, y[~inside], others, chosen[held])
        thresholds[held] = fitted_score(task, y[~inside], _mix(weights[held], others))[1]
        pred[inside] = _mix(weights[held], members[:, inside])
        labels[inside] = hard_labels(task.kind, pred[inside], thresholds[held])
    method = _choose(task, y, members, fold, methods)
    final = fit_weights(task, y, members, method)
    in_sample, threshold = fitted_score(task, y, _mix(final, members))
    inputs = labels if metric.needs == "label" else pred
    value = float(metric.function(y, inputs))
    return Blend(
        method, pred, inputs, weights, chosen, thresholds, final, threshold, value, in_sample
    )


def _mix(weights: np.ndarray, members: np.ndarray) -> np.ndarray:
    """(n, T) weighted sum of members (M, n, T)."""
    return np.tensordot(weights, members, axes=1)


def _choose(
    task: Task, y: np.ndarray, members: np.ndarray, fold: np.ndarray, methods: tuple[str, ...]
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
            mixed = _mix(fit_weights(task, y, members, method), members)
            value = fitted_score(task, y, mixed)[0]
        values[method] = sign * value if np.isfinite(value) else -np.inf
    return max(values, key=lambda method: values[method])
