"""Metrics of class tasks: on labels, or on probabilities.

numpy and scipy one-liners, because a bootstrap calls them thousands of times; the tests hold each
equal to scikit-learn's. A score that the rows do not define is ``nan``.
"""

import numpy as np
from scipy.stats import rankdata

from oofline.scoring.registry import CLASSES, LABELS, ORDINAL, metric

EPSILON = float(np.finfo(np.float32).eps)
"""Probabilities are clipped to [EPSILON, 1 - EPSILON] for the log loss (1.2e-7: float32 models)."""


def confusion(y: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """Counts (K, K) float64 of true class (row) and label (column), K = the largest index + 1."""
    n_classes = int(max(y.max(), labels.max())) + 1
    counts = np.bincount(y * n_classes + labels, minlength=n_classes**2)
    return counts.reshape(n_classes, n_classes).astype(np.float64)


def f1_from_counts(tp: np.ndarray, fp: np.ndarray, fn: np.ndarray) -> np.ndarray:
    """F1 = 2 tp / (2 tp + fp + fn), elementwise; 0 where nothing is positive anywhere."""
    total = 2 * tp + fp + fn
    return np.divide(2 * tp, total, out=np.zeros_like(total, dtype=np.float64), where=total > 0)


def mcc_from_counts(tp: np.ndarray, fp: np.ndarray, fn: np.ndarray, tn: np.ndarray) -> np.ndarray:
    """Matthews correlation of binary counts, elementwise; 0 where a margin is empty."""
    margins = np.sqrt((tp + fp) * (tp + fn)) * np.sqrt((tn + fp) * (tn + fn))
    covariance = tp * tn - fp * fn
    return np.divide(covariance, margins, out=np.zeros_like(margins), where=margins > 0)


@metric("accuracy", greater_is_better=True, needs="label", kinds=(*CLASSES, *ORDINAL))
def accuracy(y: np.ndarray, labels: np.ndarray) -> float:
    """Share of rows labelled right."""
    return float(np.mean(y == labels))


@metric("f1", greater_is_better=True, needs="label", kinds=("binary",), thresholded=True)
def f1(y: np.ndarray, labels: np.ndarray) -> float:
    """F1 of the positive class."""
    tp = np.sum(y * labels)
    return float(f1_from_counts(tp, labels.sum() - tp, y.sum() - tp))


def _f1_by_class(y: np.ndarray, labels: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """F1 and number of true rows of each class that occurs in y or labels."""
    counts = confusion(y, labels)
    tp, true, chosen = counts.diagonal(), counts.sum(axis=1), counts.sum(axis=0)
    occurs = true + chosen > 0
    return f1_from_counts(tp, chosen - tp, true - tp)[occurs], true[occurs]


_F1_KINDS = (*CLASSES, *ORDINAL, *LABELS)


@metric("f1_macro", greater_is_better=True, needs="label", kinds=_F1_KINDS, thresholded=True)
def f1_macro(y: np.ndarray, labels: np.ndarray) -> float:
    """Mean F1 over classes or labels (those neither true nor chosen are left out)."""
    if y.ndim == 1:
        return float(_f1_by_class(y, labels)[0].mean())
    tp, true, chosen = (y * labels).sum(axis=0), y.sum(axis=0), labels.sum(axis=0)
    occurs = true + chosen > 0
    by_label = f1_from_counts(tp, chosen - tp, true - tp)[occurs]
    return float(by_label.mean()) if len(by_label) else float("nan")


@metric("f1_micro", greater_is_better=True, needs="label", kinds=LABELS, thresholded=True)
def f1_micro(y: np.ndarray, labels: np.ndarray) -> float:
    """F1 of all cells of all labels together."""
    return f1(y, labels)


_WEIGHTED = (*CLASSES, *ORDINAL)


@metric("f1_weighted", greater_is_better=True, needs="label", kinds=_WEIGHTED, thresholded=True)
def f1_weighted(y: np.ndarray, labels: np.ndarray) -> float:
    """Mean of the classes' F1, weighted by their number of true rows."""
    by_class, support = _f1_by_class(y, labels)
    return float(np.average(by_class, weights=support))


@metric("log_loss", greater_is_better=False, needs="probability", kinds=(*CLASSES, *LABELS))
def log_loss(y: np.ndarray, pred: np.ndarray) -> float:
    """Mean negative log probability of the truth (natural log, clipped at EPSILON).

    Over rows; several labels: over rows and labels, so it is the mean over label columns.
    """
    if y.ndim == 2:
        true = np.where(y == 1, pred, 1.0 - pred)
    elif pred.shape[1] == 1:
        true = np.where(y == 1, pred[:, 0], 1.0 - pred[:, 0])
    else:
        true = pred[np.arange(len(y)), y]
    return float(-np.log(np.clip(true, EPSILON, 1.0 - EPSILON)).mean())


@metric("roc_auc", greater_is_better=True, needs="probability", kinds=(*CLASSES, *LABELS))
def roc_auc(y: np.ndarray, pred: np.ndarray) -> float:
    """Area under the ROC curve; several classes: one against the rest, mean over classes.

    Computed from ranks (Mann-Whitney U), ties counting half. nan if a class has no row, or all.
    Several labels: mean over those labels (macro) that have both positive and negative rows.
    """
    if y.ndim == 2:
        by_label = np.array([_auc(y[:, t] == 1, pred[:, t]) for t in range(y.shape[1])])
        known = by_label[np.isfinite(by_label)]
        return float(known.mean()) if len(known) else float("nan")
    if pred.shape[1] == 1:
        return _auc(y == 1, pred[:, 0])
    return float(np.mean([_auc(y == k, pred[:, k]) for k in range(pred.shape[1])]))


@metric("roc_auc_micro", greater_is_better=True, needs="probability", kinds=LABELS)
def roc_auc_micro(y: np.ndarray, pred: np.ndarray) -> float:
    """Area under the ROC curve of all cells of all labels together."""
    return _auc(y.ravel() == 1, pred.ravel())


def _auc(positive: np.ndarray, values: np.ndarray) -> float:
    n_positive = int(positive.sum())
    n_pairs = n_positive * (len(positive) - n_positive)
    if n_pairs == 0:
        return float("nan")
    rank_sum = float(rankdata(values)[positive].sum())
    return (rank_sum - n_positive * (n_positive + 1) / 2) / n_pairs


@metric("mcc", greater_is_better=True, needs="label", kinds=_WEIGHTED, thresholded=True)
def mcc(y: np.ndarray, labels: np.ndarray) -> float:
    """Matthews correlation coefficient; several classes: Gorodkin's R_K (2004). 0 if constant."""
    counts = confusion(y, labels)
    n, true, chosen = counts.sum(), counts.sum(axis=1), counts.sum(axis=0)
    covariance = np.trace(counts) * n - true @ chosen
    spread = np.sqrt(n**2 - chosen @ chosen) * np.sqrt(n**2 - true @ true)
    return float(covariance / spread) if spread > 0 else 0.0


@metric("qwk", greater_is_better=True, needs="label", kinds=(*CLASSES, *ORDINAL, "regression"))
def qwk(y: np.ndarray, labels: np.ndarray) -> float:
    """Quadratically weighted kappa of ordered classes; regression: of rounded values.

    With quadratic weights it is 1 - E(y - l)^2 / (var y + var l + (mean y - mean l)^2), Cohen 1968.
    nan if y and labels are the same constant.
    """
    true, chosen = y.reshape(-1).astype(np.float64), labels.astype(np.float64)
    expected = true.var() + chosen.var() + (true.mean() - chosen.mean()) ** 2
    return float(1.0 - np.mean((true - chosen) ** 2) / expected) if expected > 0 else float("nan")
