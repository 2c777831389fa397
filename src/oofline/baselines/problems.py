"""What a baseline fits for a task: one problem for all classes, or one for each target."""

from dataclasses import dataclass
from typing import Literal

import numpy as np

from oofline.results import Task

Sort = Literal["binary", "classes", "value"]


@dataclass(frozen=True)
class Problem:
    """One thing to fit.

    Attributes:
        sort: two classes, several classes, or a value.
        y: (n,) float64; class indices for classes.
        n_classes: number of classes, 0 for a value.
    """

    sort: Sort
    y: np.ndarray
    n_classes: int

    @property
    def width(self) -> int:
        """Number of prediction columns."""
        return self.n_classes if self.sort == "classes" else 1

    def onehot(self) -> np.ndarray:
        """(n, width) float64 targets of a least-squares fit."""
        if self.sort != "classes":
            return self.y[:, None]
        return np.eye(self.n_classes)[self.y.astype(np.int64)]

    def at(self, rows: np.ndarray) -> "Problem":
        """The same problem on some rows."""
        return Problem(self.sort, self.y[rows], self.n_classes)


def problems_of(task: Task, y: np.ndarray) -> list[Problem]:
    """The problems of a task, in the order of its outputs.

    Args:
        task: several classes are one problem; each 0/1 label and each value is one of its own.
        y: (n,) int64 class indices, or (n, T) labels or values.
    """
    if task.kind == "multiclass":
        return [Problem("classes", y.astype(np.float64), task.n_outputs)]
    sort: Sort = "binary" if task.kind in ("binary", "multilabel") else "value"
    columns = y.reshape(len(y), -1).astype(np.float64)
    return [Problem(sort, column, 2 if sort == "binary" else 0) for column in columns.T]


def row_weights(problem: Problem, class_weights: str) -> np.ndarray:
    """(n,) float64 weights with mean 1: all 1, or by 1 / class frequency where "balanced"."""
    if class_weights != "balanced" or problem.sort == "value":
        return np.ones(len(problem.y))
    _, inverse, counts = np.unique(problem.y, return_inverse=True, return_counts=True)
    return len(problem.y) / (len(counts) * counts[inverse])


def loss_of(problem: Problem, pred: np.ndarray) -> float:
    """Mean log loss of probabilities, mean squared error of values.

    Args:
        problem: n rows.
        pred: (n, width) float64.
    """
    if problem.sort == "value":
        return float(((problem.y - pred[:, 0]) ** 2).mean())
    both = np.hstack([1 - pred, pred]) if problem.sort == "binary" else pred
    chosen = both[np.arange(len(pred)), problem.y.astype(np.int64)]
    return float(-np.log(np.clip(chosen, 1e-15, None)).mean())


def sigmoid(x: np.ndarray) -> np.ndarray:
    """1 / (1 + e^-x), without overflow."""
    return 0.5 * (1.0 + np.tanh(0.5 * x))


def softmax(x: np.ndarray) -> np.ndarray:
    """Probabilities over the last axis."""
    shifted = np.exp(x - x.max(axis=-1, keepdims=True))
    return shifted / shifted.sum(axis=-1, keepdims=True)
