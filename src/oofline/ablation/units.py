"""Units, (seed, fold), of an arm as training leaves them, and what counts as chance."""

import numpy as np
import pandas as pd

from oofline.ablation.contrast import Runs
from oofline.blocks import Block, blank, finite, joined, stacked
from oofline.crossval import Unit, is_done
from oofline.errors import DataError
from oofline.results import Task, prediction_array
from oofline.scoring.metrics import get_metric, score
from oofline.scoring.oof import join, read_parquet
from oofline.scoring.summary import decided_score
from oofline.storage import Paths


def read_runs(
    paths: Paths, exp: str, task: Task, ids: np.ndarray, fold: np.ndarray, units: list[Unit]
) -> Runs:
    """Out-of-fold predictions of an arm's finished units, seed by seed.

    Args:
        paths: of the competition.
        exp: the arm's experiment.
        task: gives the outputs.
        ids: (n,) str.
        fold: (n,) int64.
        units: of all arms; those that this one did not finish are left out.

    Raises:
        DataError: a file is damaged, or made for other rows.
    """
    seeds = list(dict.fromkeys(seed for seed, _ in units))
    parts: dict[int, list] = {seed: [] for seed in seeds}
    there = np.zeros((len(seeds), len(ids)), dtype=bool)
    for seed, k in units:
        if is_done(paths.fold(exp, seed, k)):
            rows = np.flatnonzero(fold == k)
            parts[seed].append((rows, _fold_predictions(paths, exp, task, ids[rows], seed, k)))
            there[seeds.index(seed), rows] = True
    for seed, known in zip(seeds, there, strict=True):
        left = np.flatnonzero(~known)
        parts[seed].append((left, blank(len(left), task.n_outputs, task.truth == "answer")))
    if not seeds:
        return Runs(np.zeros((0, len(ids), task.n_outputs)), there)
    return Runs(stacked([joined(parts[seed]) for seed in seeds]), there)


def _fold_predictions(
    paths: Paths, exp: str, task: Task, ids: np.ndarray, seed: int, k: int
) -> Block:
    """(rows, T) in the order of ``ids``."""
    path = paths.fold(exp, seed, k) / "oof.parquet"
    frame = read_parquet(path)
    if len(frame) != len(ids):
        raise DataError(
            f"{path} has {len(frame)} rows, fold {k} has {len(ids)}: folds.csv changed since "
            "training; restore it or train again under another NAME"
        )
    pred = prediction_array(task, frame)[join(path, frame["id"], pd.Index(ids.astype(str)))]
    if not finite(pred).all():
        raise DataError(f"{path} holds predictions that are not finite: delete the fold's folder")
    return pred


def chance_score(task: Task, y_train: np.ndarray, y_valid: np.ndarray) -> float:
    """Score on ``y_valid`` of the best prediction that is the same for every row.

    Labels: the class that scores best on the training rows (the majority for accuracy).
    Probabilities: the training shares of the classes. Values: the training mean. A score that a
    constant does not have (a correlation) counts as 0. Answers: the whole context.
    """
    metric = get_metric(task.metric, task.kind)
    if task.truth == "answer":
        whole = np.array([answer.context for answer in y_valid], dtype=object)
        return decided_score(task, y_valid, whole)
    if task.truth == "labels":
        shares = y_train.mean(axis=0)
        constants = [shares, np.ones(len(shares)), np.zeros(len(shares))]
        constants = constants[1:] if metric.needs == "label" else constants[:1]
    elif task.kind == "ordinal":
        constants = [np.array([float(step)]) for step in range(len(task.labels))]
    elif task.truth == "values":
        constants = [y_train.reshape(len(y_train), -1).mean(axis=0)]
    elif metric.needs == "label":
        constants = [np.array([0.0]), np.array([1.0])]
        constants = constants if task.kind == "binary" else list(np.eye(task.n_outputs))
    else:
        shares = np.bincount(y_train, minlength=max(2, task.n_outputs)) / len(y_train)
        constants = [shares[-1:] if task.kind == "binary" else shares]

    def scored(y: np.ndarray, constant: np.ndarray) -> float:
        """Score of one constant prediction; 0 where it has none."""
        value = score(task, y, np.tile(constant, (len(y), 1)))
        return value if np.isfinite(value) else 0.0

    best = max(constants, key=lambda constant: metric.sign * scored(y_train, constant))
    return scored(y_valid, best)


def at_chance(task: Task, y_train: np.ndarray, y_valid: np.ndarray, inputs: np.ndarray) -> bool:
    """Whether decided predictions score no better than a constant one (see `chance_score`).

    Args:
        task: gives metric and kind.
        y_train: (m,) or (m, T).
        y_valid: (n,) or (n, T).
        inputs: what `Decision.inputs` holds, (n,) or (n, T): as in the arm's own score.
    """
    sign = get_metric(task.metric, task.kind).sign
    value = decided_score(task, y_valid, inputs)
    return bool(sign * value <= sign * chance_score(task, y_train, y_valid) + 1e-12)
