"""Weights of an ensemble's members, fitted on the rows given."""

from collections.abc import Callable

import numpy as np
from scipy.optimize import minimize

from oofline.blocks import Block, Blocks, cells, weighted_sum
from oofline.results import Task
from oofline.scoring.class_metrics import EPSILON
from oofline.scoring.decisions import fit_cut
from oofline.scoring.metrics import Cut, get_metric, metric_inputs

HILL_STEPS = 50
"""Most members that hill climbing adds, with replacement."""
HILL_PATIENCE = 10
"""Hill climbing stops after this many steps without a new best."""
PER_TARGET = "_per_target"
"""Ending of the methods that fit the weights of each target on its own."""


def hill_climb(task: Task, y: np.ndarray, members: Blocks) -> np.ndarray:
    """Weights (M,) by adding members with replacement while the metric rises (Caruana 2004).

    Args:
        task: gives the metric, which is maximised itself (where it has cuts: at good ones).
        y: (n,) or (n, T).
        members: (M, n, T).
    """
    sign = get_metric(task.metric, task.kind).sign
    counts, total = np.zeros(len(members)), members[0] * 0.0
    best_value, best_counts = -np.inf, np.ones(len(members))
    for step in range(1, HILL_STEPS + 1):
        trials = [sign * fitted_score(task, y, (total + m) / step, quick=True)[0] for m in members]
        chosen = int(np.argmax(np.nan_to_num(trials, nan=-np.inf)))
        counts[chosen] += 1
        total = total + members[chosen]
        if trials[chosen] > best_value + 1e-12:
            best_value, best_counts = trials[chosen], counts.copy()
        elif step - best_counts.sum() >= HILL_PATIENCE:
            break
    return best_counts / best_counts.sum()


def fitted_score(task: Task, y: np.ndarray, pred: Block, quick: bool = False) -> tuple[float, Cut]:
    """(score, cut) with the cut, if any, chosen on these very rows (`quick`: see `fit_cut`)."""
    metric = get_metric(task.metric, task.kind)
    cut = fit_cut(task, y, pred, quick)
    return float(metric.function(y, metric_inputs(task, y, pred, cut))), cut


def convex_weights(task: Task, y: np.ndarray, members: Blocks) -> np.ndarray:
    """Weights (M,), non-negative with sum 1, that minimise log loss (classes) or squared error.

    Both are convex in the weights, so SLSQP finds the one minimum; the metric itself may be another
    one (log loss stands in for accuracy, F1 and the like).
    """
    distances = task.truth == "values" or task.kind == "ordinal"
    loss = _squared_error(y, np.asarray(members)) if distances else _log_loss(y, members)
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


def _log_loss(y: np.ndarray, members: Blocks) -> Loss:
    """Weights -> (mean negative log of the blended true-class probability, its gradient)."""
    if not isinstance(members, np.ndarray):
        true = true_edges(y, members)
    elif y.ndim == 2:
        true = np.where(y == 1, members, 1 - members).reshape(len(members), -1)
    elif members.shape[2] == 1:
        true = np.where(y == 1, members[:, :, 0], 1 - members[:, :, 0])
    else:
        true = members[:, np.arange(len(y)), y]

    def loss(weights: np.ndarray) -> tuple[float, np.ndarray]:
        """Loss of the blend and its gradient."""
        blended = np.clip(weights @ true, EPSILON, None)
        return -float(np.log(blended).mean()), -(true / blended).mean(axis=1)

    return loss


def true_edges(y: np.ndarray, members: Blocks) -> np.ndarray:
    """(M, 2n) probabilities of the first characters of the answers y (n,), then of the last."""
    first = np.array([2 * answer.start for answer in y])
    last = np.array([2 * answer.end - 1 for answer in y])
    return np.stack([np.concatenate([cells(m, first), cells(m, last)]) for m in members])


def _squared_error(y: np.ndarray, members: np.ndarray) -> Loss:
    """Weights -> (mean squared error in units of var y, its gradient), through the Gram matrix."""
    y = y.reshape(len(y), -1)
    scale = y.std(axis=0)
    errors = (members - y[None]) / np.where(scale > 0, scale, 1.0)
    errors = errors.reshape(len(members), -1)
    gram = errors @ errors.T / errors.shape[1]  # weights sum to 1: blend - y = w @ errors
    return lambda weights: (float(weights @ gram @ weights), 2 * gram @ weights)


def fit_weights(task: Task, y: np.ndarray, members: Blocks, method: str) -> np.ndarray:
    """Weights of one method on these rows: (M,), or (M, T) where each target has its own.

    Args:
        task: gives metric and kind.
        y: (n,) or (n, T).
        members: (M, n, T) (ranks under rank_mean).
        method: one of `METHODS` but "auto".
    """
    base = method.removesuffix(PER_TARGET)
    if base != method:
        table = np.asarray(members)
        parts = [
            fit_weights(task.one(t), y[:, [t]], table[:, :, [t]], base)
            for t in range(task.n_outputs)
        ]
        return np.stack(parts, axis=1)
    if method == "hill_climbing":
        return hill_climb(task, y, members)
    if method == "convex":
        return convex_weights(task, y, members)
    return np.full(len(members), 1 / len(members))


def mix(weights: np.ndarray, members: Blocks) -> Block:
    """(n, T) weighted sum of members (M, n, T); weights (M,), or (M, T) for each target."""
    return weighted_sum(weights, members)
