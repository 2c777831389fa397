"""The task that was read, and the line that says so."""

from dataclasses import dataclass

import numpy as np

from oofline.config import CFG
from oofline.errors import ConfigError
from oofline.results import Asks, Kind, Task
from oofline.tasks import KINDS

_PLURAL = {
    "label": "labels",
    "probability": "probabilities",
    "value": "values",
    "answer": "answers",
}
SHOWN = 6
"""Names of classes or targets that a line shows."""


@dataclass(frozen=True)
class Target:
    """The task and the target values of the training rows.

    Attributes:
        task: what is predicted.
        y: (n,) int64 class indices, (n, T) int64 labels of 0 and 1, (n, T) float64 values, or
            (n,) `Answer` objects.
        notes: one line each, how it was decided.
    """

    task: Task
    y: np.ndarray
    notes: tuple[str, ...]


def make_task(cfg: CFG, kind: Kind, targets: list[str], labels: list[str], asks: Asks) -> Task:
    """A task with its usual metric, or the one that is set.

    Args:
        cfg: gives metric and ordinal.
        kind: of task.
        targets: columns of train.csv.
        labels: in class order, empty for values.
        asks: what the submission wants.

    Raises:
        ConfigError: target_weights is set for one target, or ordinal for no scale.
    """
    metric = KINDS[kind].metrics[asks] if cfg.metric == "auto" else cfg.metric
    outputs = KINDS[kind].outputs or tuple(labels if kind == "multiclass" else targets)
    task = Task(kind, tuple(targets), tuple(labels), outputs, metric, asks, cfg.ordinal)
    if kind != "ordinal" and cfg.ordinal != "regression":
        raise ConfigError(
            f'ordinal = "{cfg.ordinal}" is for a scale, but the task is {kind}: set task = '
            '"ordinal", or leave it out'
        )
    if cfg.target_weights and not task.several:
        raise ConfigError(f"target_weights weighs several targets, but there is one: {targets[0]}")
    return task


def task_line(task: Task, why: str) -> str:
    """One line: kind, reason, classes or targets, metric and what the submission asks for."""
    about = ""
    if task.kind == "binary":
        about = f"; positive class {task.labels[1]}, negative {task.labels[0]}"
    elif task.several:
        about = f"; {task.n_outputs} targets: {_some(task.targets)}"
    elif task.labels:
        about = f"; {len(task.labels)} classes: {_some(task.labels)}"
    if task.kind == "ordinal":
        about += f'; ordinal = "{task.ordinal}"'
    return (
        f"task: {task.kind} ({why}){about}; metric {task.metric}; submission asks for "
        f"{_PLURAL[task.asks]}"
    )


def _some(names: tuple[str, ...]) -> str:
    return ", ".join(names[:SHOWN]) + (", ..." if len(names) > SHOWN else "")
