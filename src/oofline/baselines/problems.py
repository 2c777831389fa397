"""What a baseline fits for a task: one problem for all classes, or one for each target."""

from dataclasses import dataclass
from typing import Literal

import numpy as np

from oofline.results import Task

Sort = Literal["binary", "classes", "scale", "value"]


@dataclass(frozen=True)
class Problem:
    """One thing to fit.

    Attributes:
        sort: two classes, several classes, steps of a scale, or a value.
        y: (n,) float64; class indices for classes and steps.
        n_classes: number of classes or steps, 0 for a value.
    """

    sort: Sort
    y: np.ndarray
    n_classes: int

    @property
    def width(self) -> int:
        """Number of prediction columns."""
        return self.n_classes if self.sort == "classes" else 1

    @property
    def n_logits(self) -> int:
        """Number of raw values of a row: one for each of several classes or steps."""
        return self.n_classes if self.sort in ("classes", "scale") else 1

    def onehot(self) -> np.ndarray:
        """(n, n_logits) float64 targets of a least-squares fit."""
        if self.n_logits == 1:
            return self.y[:, None]
        return np.eye(self.n_classes)[self.y.astype(np.int64)]

    def at(self, rows: np.ndarray) -> "Problem":
        """The same problem on some rows."""
        return Problem(self.sort, self.y[rows], self.n_classes)


def problems_of(task: Task, y: np.ndarray) -> list[Problem]:
    """The problems of a task, in the order of its outputs.

    Args:
        task: several classes are one problem, as are the steps of a scale (``ordinal =
            "classes"``); each 0/1 label and each value is one of its own.
        y: (n,) int64 class indices, or (n, T) labels or values.
    """
    if task.link in ("softmax", "expected"):
        several: Sort = "classes" if task.link == "softmax" else "scale"
        return [Problem(several, y.astype(np.float64), len(task.labels))]
    sort: Sort = "binary" if task.link == "sigmoid" else "value"
    columns = y.reshape(len(y), -1).astype(np.float64)
    return [Problem(sort, column, 2 if sort == "binary" else 0) for column in columns.T]


def row_weights(problem: Problem, class_weights: str) -> np.ndarray:
    """(n,) float64 weights with mean 1: all 1, or by 1 / class frequency where "balanced"."""
    if class_weights != "balanced" or problem.sort == "value":
        return np.ones(len(problem.y))
    _, inverse, counts = np.unique(problem.y, return_inverse=True, return_counts=True)
    return len(problem.y) / (len(counts) * counts[inverse])


def loss_of(problem: Problem, pred: np.ndarray) -> float:
    """Mean log loss of probabilities, mean squared error of values and positions on a scale.

    Args:
        problem: n rows.
        pred: (n, width) float64.
    """
    if problem.sort in ("scale", "value"):
        return float(((problem.y - pred[:, 0]) ** 2).mean())
    both = np.hstack([1 - pred, pred]) if problem.sort == "binary" else pred
    chosen = both[np.arange(len(pred)), problem.y.astype(np.int64)]
    return float(-np.log(np.clip(chosen, 1e-15, None)).mean())


def predictions_of(sort: Sort, raw: np.ndarray) -> np.ndarray:
    """Probabilities, values, or expected positions on a scale (0 = its lowest step).

    Args:
        sort: of the problem.
        raw: (r, n_logits) float64.

    Returns:
        (r, width) float64.
    """
    if sort == "value":
        return raw
    if sort == "binary":
        return sigmoid(raw)
    shares = softmax(raw)
    return shares if sort == "classes" else (shares @ np.arange(raw.shape[1]))[:, None]


def sigmoid(x: np.ndarray) -> np.ndarray:
    """1 / (1 + e^-x), without overflow."""
    return 0.5 * (1.0 + np.tanh(0.5 * x))


def softmax(x: np.ndarray) -> np.ndarray:
    """Probabilities over the last axis."""
    shifted = np.exp(x - x.max(axis=-1, keepdims=True))
    return shifted / shifted.sum(axis=-1, keepdims=True)
