"""Metrics of values: errors and correlations of (n, T) targets and predictions.

The tests hold each equal to scikit-learn's or scipy's. A correlation with a constant is ``nan``.
"""

import numpy as np
from scipy.stats import rankdata

from oofline.scoring.registry import REGRESSION, metric


@metric("mse", greater_is_better=False, needs="value", kinds=REGRESSION)
def mse(y: np.ndarray, pred: np.ndarray) -> float:
    """Mean squared error, over rows and targets."""
    return float(np.mean((y - pred) ** 2))


@metric("rmse", greater_is_better=False, needs="value", kinds=REGRESSION)
def rmse(y: np.ndarray, pred: np.ndarray) -> float:
    """Root of `mse`."""
    return float(np.sqrt(np.mean((y - pred) ** 2)))


@metric("mcrmse", greater_is_better=False, needs="value", kinds=REGRESSION)
def mcrmse(y: np.ndarray, pred: np.ndarray) -> float:
    """Mean over targets of their RMSE."""
    return float(np.sqrt(np.mean((y - pred) ** 2, axis=0)).mean())


@metric("mae", greater_is_better=False, needs="value", kinds=REGRESSION)
def mae(y: np.ndarray, pred: np.ndarray) -> float:
    """Mean absolute error, over rows and targets."""
    return float(np.mean(np.abs(y - pred)))


@metric("r2", greater_is_better=True, needs="value", kinds=REGRESSION)
def r2(y: np.ndarray, pred: np.ndarray) -> float:
    """Coefficient of determination, mean over targets; nan if a target is constant."""
    spread = y.var(axis=0)
    if (spread == 0).any():
        return float("nan")
    return float(np.mean(1.0 - np.mean((y - pred) ** 2, axis=0) / spread))


@metric("pearson", greater_is_better=True, needs="value", kinds=REGRESSION)
def pearson(y: np.ndarray, pred: np.ndarray) -> float:
    """Pearson correlation, mean over targets; nan if a column is constant."""
    if (np.ptp(y, axis=0) == 0).any() or (np.ptp(pred, axis=0) == 0).any():
        return float("nan")
    return float(np.mean([np.corrcoef(a, b)[0, 1] for a, b in zip(y.T, pred.T, strict=True)]))


@metric("spearman", greater_is_better=True, needs="value", kinds=REGRESSION)
def spearman(y: np.ndarray, pred: np.ndarray) -> float:
    """Spearman rank correlation, mean over targets; nan if a column is constant."""
    return pearson(rankdata(y, axis=0), rankdata(pred, axis=0))
