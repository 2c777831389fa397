"""Soft pseudo-labels, and the proof that they fit the folds: read and checked.

Fold k's student trains on labels by fold k's teachers, which have not seen the rows that fold k
validates on. An average over all folds' teachers would: each has seen the labels of most
validation rows, and an unlabelled row that resembles one carries its label into training.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from oofline.config import CFG
from oofline.data.competition import Competition
from oofline.data.encoding import Row
from oofline.data.unlabelled import unlabelled_path, unlabelled_rows
from oofline.errors import ConfigError, DataError
from oofline.results import Task, prediction_array
from oofline.scoring.oof import join, read_parquet
from oofline.storage import PSEUDO_LABELS, Paths, read_json, sha256_of
from oofline.tasks import Link

PROVENANCE = "pseudo.json"
"""Beside the labels, written last: who made them of what."""
SOFT_LINKS: tuple[Link, ...] = ("sigmoid", "softmax", "identity", "expected", "corn")
"""Kinds of predictions that can be labels, see `oofline.tasks.LOSSES`."""


@dataclass(frozen=True)
class PseudoLabels:
    """Predictions for m unlabelled rows, one set for each fold.

    Attributes:
        name: of the labels.
        rows: what a model reads of the m rows.
        by_fold: fold -> (m, T) float64, by teachers that have not seen the fold's validation rows.
        taken: fold -> (k,) int64, the rows that are confident enough.
        description: for printing.
    """

    name: str
    rows: list[Row]
    by_fold: dict[int, np.ndarray]
    taken: dict[int, np.ndarray]
    description: str


def read_pseudo(cfg: CFG, paths: Paths, competition: Competition) -> PseudoLabels:
    """Read the labels that ``cfg.pseudo`` names and check where they come from.

    Raises:
        ConfigError: pseudo_threshold is set for a task whose predictions are no probabilities.
        DataError: there are none of that name; or the labels, train, the folds, the unlabelled
            rows or a teacher are not those they were made with; or a fold's teacher is not of
            that fold.
    """
    folder, task = paths.pseudo(cfg.pseudo), competition.task
    refuse_other_links(task)
    made = _provenance(paths, cfg.pseudo)
    again = f"make the labels again: make pseudo COMP={paths.comp} NAME={cfg.pseudo}"
    source = unlabelled_path(paths, made["file"])
    now = {
        "labels": sha256_of(folder / PSEUDO_LABELS),
        "train file": competition.train_sha256,
        "folds.csv": sha256_of(paths.folds) if paths.folds.exists() else "",
        "unlabelled rows": sha256_of(source),
        "outputs": list(task.outputs),
    }
    changed = [name for name, value in now.items() if made[name] != value]
    if changed:
        raise DataError(
            f"{folder} was made with other {' and '.join(changed)} than there are now: {again}"
        )
    check_teachers(paths, folder, made["teachers"], cfg.n_folds)
    ids, rows = unlabelled_rows(cfg, paths, competition, made["file"])
    by_fold = _by_fold(folder / PSEUDO_LABELS, task, ids)
    taken = {fold: confident(cfg, task, pred) for fold, pred in by_fold.items()}
    if empty := [fold for fold, chosen in taken.items() if not len(chosen)]:
        raise ConfigError(
            f"pseudo_threshold = {cfg.pseudo_threshold}: no row of fold {empty[0]} is that "
            "confident: lower it"
        )
    who = sorted({f"{t['exp']}@{t['seed']}" for entry in made["teachers"].values() for t in entry})
    least, most = (f(map(len, taken.values())) for f in (min, max))
    counts = str(most) if least == most else f"{least} to {most}"
    described = (
        f"pseudo-labels {cfg.pseudo}: {counts} of {len(rows)} rows of {source.name} in each fold, "
        f"by {', '.join(who)} of the same fold, weight {cfg.pseudo_weight:g}"
    )
    return PseudoLabels(cfg.pseudo, list(rows), by_fold, taken, described)


def _provenance(paths: Paths, name: str) -> dict[str, Any]:
    folder = paths.pseudo(name)
    if not ((folder / PROVENANCE).is_file() and (folder / PSEUDO_LABELS).is_file()):
        there = ", ".join(sorted(p.parent.name for p in folder.parent.glob(f"*/{PROVENANCE}")))
        raise DataError(
            f"pseudo = {name!r}: {folder} holds no finished pseudo-labels (there: {there or '-'}); "
            f"make pseudo COMP={paths.comp} TEACHER=<experiment> NAME={name}"
        )
    made: dict[str, Any] = read_json(folder / PROVENANCE)
    return made


def refuse_other_links(task: Task) -> None:
    """Refuse tasks whose predictions are no soft labels (ConfigError)."""
    if task.link not in SOFT_LINKS:
        raise ConfigError(f"there are no soft pseudo-labels for {task.kind}: leave pseudo out")


def check_teachers(
    paths: Paths, folder: Path, teachers: dict[str, list[dict[str, Any]]], n_folds: int
) -> None:
    """Every fold has teachers, all of them of that very fold, and none was trained again since.

    Args:
        paths: of the competition.
        folder: of the labels, for messages.
        teachers: fold -> what made its labels: exp, seed, fold, and the SHA-256 of the scores.json
            of that fold. A teacher whose folder is gone is taken at its word.
        n_folds: folds that must be there.

    Raises:
        DataError: it is not so; says which fold and teacher.
    """
    if sorted(teachers) != sorted(str(fold) for fold in range(n_folds)):
        raise DataError(
            f"{folder} has labels for folds {', '.join(sorted(teachers))}, but there are "
            f"{n_folds} folds: make them again with teachers of these folds"
        )
    for fold, entries in teachers.items():
        for teacher in entries:
            name = f"{teacher['exp']} seed {teacher['seed']} fold {teacher['fold']}"
            if str(teacher["fold"]) != fold:
                raise DataError(
                    f"{folder}: the labels of fold {fold} are by {name}, which has seen rows that "
                    f"fold {fold} validates on: make them again with teachers of these folds"
                )
            scores = paths.fold(teacher["exp"], teacher["seed"], teacher["fold"]) / "scores.json"
            if scores.is_file() and sha256_of(scores) != teacher["sha256"]:
                raise DataError(
                    f"{folder}: its teacher {name} was trained again since: make the labels again"
                )
        if not entries:
            raise DataError(f"{folder}: fold {fold} has no teacher: make the labels again")


def _by_fold(path: Path, task: Task, ids: np.ndarray) -> dict[int, np.ndarray]:
    frame = read_parquet(path)
    found = {}
    for fold, part in frame.groupby("fold"):
        order = join(path, part["id"].reset_index(drop=True), pd.Index(ids))
        found[int(str(fold))] = prediction_array(task, part)[order]
    return found


def confident(cfg: CFG, task: Task, pred: np.ndarray) -> np.ndarray:
    """Rows (k,) whose confidence reaches ``cfg.pseudo_threshold``.

    The confidence is the probability of the likeliest class; of several labels, the least
    confident one's.

    Args:
        cfg: reads pseudo_threshold.
        task: what is predicted.
        pred: (m, T) probabilities, or values with a threshold of 0.

    Raises:
        ConfigError: a threshold, and predictions that are no probabilities.
    """
    if cfg.pseudo_threshold == 0:
        return np.arange(len(pred))
    if task.link == "sigmoid":
        confidence = np.maximum(pred, 1.0 - pred).min(axis=1)
    elif task.link == "softmax":
        confidence = pred.max(axis=1)
    else:
        raise ConfigError(
            f"pseudo_threshold needs probabilities, and {task.kind} predicts values: set it to 0"
        )
    return np.flatnonzero(confidence >= cfg.pseudo_threshold)
