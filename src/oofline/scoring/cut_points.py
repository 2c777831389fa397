"""Cuts with several parts: a threshold per label, the borders between the steps of a scale."""

import numpy as np
from scipy.optimize import minimize

from oofline.scoring.class_metrics import f1_from_counts
from oofline.scoring.registry import METRICS, Metric
from oofline.scoring.thresholds import best_threshold, ladder

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
    """Cut points between the steps of a scale that give the best score on these rows.

    Nelder and Mead's search (the score is a staircase, without slopes) from two starts: the middles
    between the steps, and the cuts under which the labels have the shares that y has. The better
    of the results is taken.

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

    def loss(cuts: np.ndarray) -> float:
        """What is minimised; a score that is not defined counts as the worst."""
        value = metric.sign * metric.function(y, np.searchsorted(np.sort(cuts), position))
        return -value if np.isfinite(value) else np.inf

    shares = np.cumsum(np.bincount(y, minlength=n_steps))[:-1] / len(y)
    found = [middles, np.quantile(position, shares)]
    if not quick and n_steps > 1:
        options = {"xatol": 1e-3, "fatol": 1e-6}
        found += [minimize(loss, s, method="Nelder-Mead", options=options).x for s in found]
    best = np.sort(min(found, key=loss))
    return best, float(metric.function(y, np.searchsorted(best, position)))
