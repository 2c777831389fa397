"""Out-of-fold predictions: collected from the fold folders, and checked.

A fold counts as done when its ``scores.json`` is there. Every training row that belongs to a fold
must be predicted exactly once per seed, by the fold that it belongs to; anything else is an error.
"""

import itertools
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from oofline.blocks import Block, Blocks, average, finite, joined, stacked
from oofline.errors import DataError
from oofline.results import Task, prediction_array, prediction_columns
from oofline.storage import Paths, read_json

PREFIXES = ("pred", "last", "best")
"""Predictions of a fold: under the checkpoint rule, by the last and by the best weights."""


@dataclass(frozen=True)
class Oof:
    """All out-of-fold predictions of one experiment, in the order of train.csv.

    Attributes:
        exp: experiment.
        seeds: S training seeds.
        rows: (n,) int64, positions in train.csv of the rows that belong to a fold.
        ids: (n,) their ids.
        fold: (n,) int64, their folds.
        blocks: "pred", "last", "best" -> (S, n, T) float64, or S sparse blocks.
        test_ids: (n_test,) in the order of test.csv.
        test: (S, n_test, T) float64, or S sparse blocks, mean over folds.
        fold_scores: contents of the folds' scores.json with "fold" and "seed".
    """

    exp: str
    seeds: tuple[int, ...]
    rows: np.ndarray
    ids: np.ndarray
    fold: np.ndarray
    blocks: dict[str, Blocks]
    test_ids: np.ndarray
    test: Blocks
    fold_scores: list[dict[str, Any]]

    @property
    def folds(self) -> list[int]:
        """Fold indices, ascending."""
        return [int(k) for k in np.unique(self.fold)]


def collect(
    paths: Paths,
    exp: str,
    task: Task,
    ids: np.ndarray,
    fold: np.ndarray,
    test_ids: np.ndarray,
    seeds: list[int] | None = None,
) -> Oof:
    """Read every fold of an experiment and join the predictions by id.

    Args:
        paths: of the competition.
        exp: experiment name.
        task: gives the outputs.
        ids: (N,) ids in the order of train.csv.
        fold: (N,) fold of each; -1 = in no fold (never predicted).
        test_ids: (n_test,) ids in the order of test.csv.
        seeds: the seeds to read; None = all that have a folder.

    Raises:
        DataError: no fold is done, folds are missing (listed, with the command that trains them),
            ids are missing, repeated or of another fold, or predictions are not finite.
    """
    ids, fold = np.asarray(ids).astype(str), np.asarray(fold)
    rows = np.flatnonzero(fold >= 0)
    folds = [int(k) for k in np.unique(fold[rows])]
    seeds = _seeds_there(paths, exp) if seeds is None else list(seeds)
    _refuse_missing(paths, exp, seeds, folds)
    test_index = pd.Index(np.asarray(test_ids).astype(str))
    parts: dict[tuple[str, int], list] = {pair: [] for pair in itertools.product(PREFIXES, seeds)}
    position = np.full(len(ids), -1)
    position[rows] = np.arange(len(rows))
    index, fold_scores = pd.Index(ids), []
    for seed, k in itertools.product(seeds, folds):
        folder = paths.fold(exp, seed, k)
        frame = _read(folder / "oof.parquet", task, PREFIXES)
        at = position[_rows_of_fold(folder / "oof.parquet", frame, index, fold, k)]
        for prefix in PREFIXES:
            parts[prefix, seed].append((at, prediction_array(task, frame, prefix)))
        fold_scores.append({**read_json(folder / "scores.json"), "fold": k, "seed": seed})
    blocks = {p: stacked([joined(parts[p, seed]) for seed in seeds]) for p in PREFIXES}
    test = stacked([mean_of_folds(paths, exp, s, folds, task, test_index) for s in seeds])
    return Oof(
        exp, tuple(seeds), rows, ids[rows], fold[rows], blocks, test_index.to_numpy(), test,
        fold_scores,
    )  # fmt: skip


def mean_of_folds(
    paths: Paths, exp: str, seed: int, folds: list[int], task: Task, test_index: pd.Index
) -> Block:
    """(n_test, T) test predictions of one seed, averaged over its folds, in the order asked for.

    Raises:
        DataError: a fold's test.parquet is missing, lacks ids, or holds what is not finite.
    """
    found = []
    for k in folds:
        path = paths.fold(exp, seed, k) / "test.parquet"
        frame = _read(path, task, ("pred",))
        found.append(prediction_array(task, frame)[join(path, frame["id"], test_index)])
    return average(found)


def _seeds_there(paths: Paths, exp: str) -> list[int]:
    folder = paths.experiment(exp)
    names = [f.name[4:] for f in folder.glob("seed*") if f.name[4:].isdigit()]
    if not names:
        raise DataError(
            f"{folder} holds no trained seed: run `make train COMP={paths.comp} EXP={exp} FOLD=all`"
        )
    return sorted(int(name) for name in names)


def complete_seeds(
    paths: Paths, exp: str, fold: np.ndarray
) -> tuple[list[int], dict[int, list[int]]]:
    """Which seeds of an experiment can be scored.

    Args:
        paths: of the competition.
        exp: experiment name.
        fold: (N,) fold of each row; -1 = in no fold.

    Returns:
        The seeds of which every fold is done (what `collect` takes as ``seeds``), and for each
        other seed that has a folder its missing folds; all ascending.

    Raises:
        DataError: no seed has a folder.
    """
    folds = [int(k) for k in np.unique(fold) if k >= 0]
    missing = {seed: _missing(paths, exp, seed, folds) for seed in _seeds_there(paths, exp)}
    complete = [seed for seed, todo in missing.items() if not todo]
    return complete, {seed: todo for seed, todo in missing.items() if todo}


def _missing(paths: Paths, exp: str, seed: int, folds: list[int]) -> list[int]:
    """The folds without scores.json."""
    return [k for k in folds if not (paths.fold(exp, seed, k) / "scores.json").is_file()]


def _refuse_missing(paths: Paths, exp: str, seeds: list[int], folds: list[int]) -> None:
    """Raise DataError naming every fold that is not done and the command that trains it."""
    missing = []
    for seed in seeds:
        todo = ",".join(map(str, _missing(paths, exp, seed, folds)))
        if todo:
            missing.append(
                f"seed {seed}: fold{'s' * (',' in todo)} {todo.replace(',', ', ')} missing: run "
                f"`make train COMP={paths.comp} EXP={exp} FOLD={todo} SEED={seed}`"
            )
    if missing:
        raise DataError(f"experiment {exp!r} is not complete: " + "; ".join(missing))


def _read(path: Path, task: Task, prefixes: tuple[str, ...]) -> pd.DataFrame:
    """Read a prediction file; refuse missing columns and values that are not finite."""
    columns = [name for prefix in prefixes for name in prediction_columns(task, prefix)]
    frame = read_parquet(path)
    absent = [name for name in ["id", *columns] if name not in frame.columns]
    if absent:
        raise DataError(
            f"{path} has no column {', '.join(absent)}: was the task changed since? Train again "
            "under another EXP"
        )
    bad = ~np.all([finite(prediction_array(task, frame, p)) for p in prefixes], axis=0)
    if bad.any():
        raise DataError(
            f"{path}: predictions of {bad.sum()} rows are not finite ({_examples(frame['id'][bad])}"
            "): training diverged; lower lr, delete the fold's folder and train it again"
        )
    return frame


def read_parquet(path: Path) -> pd.DataFrame:
    """Read a parquet file with text ids.

    Raises:
        DataError: missing or unreadable.
    """
    try:
        frame = pd.read_parquet(path)
    except FileNotFoundError:
        raise DataError(f"{path} does not exist: run the step that makes it again") from None
    except (OSError, ValueError) as error:
        reason = str(error).splitlines()[0]
        raise DataError(f"{path} cannot be read ({reason}): delete it and run again") from None
    return frame.assign(id=frame["id"].astype(str)) if "id" in frame.columns else frame


def _rows_of_fold(
    path: Path, frame: pd.DataFrame, index: pd.Index, fold: np.ndarray, k: int
) -> np.ndarray:
    """Positions in train.csv of the frame's rows, which must be exactly those of fold ``k``."""
    at = index.get_indexer(pd.Index(frame["id"]))
    if (at < 0).any():
        raise DataError(
            f"{path}: {(at < 0).sum()} ids are not in train.csv ({_examples(frame['id'][at < 0])}):"
            " it changed since training; restore it or train again under another EXP"
        )
    if frame["id"].duplicated().any():
        twice = frame["id"][frame["id"].duplicated()]
        raise DataError(f"{path}: ids stand twice ({_examples(twice)}): train fold {k} again")
    strangers = fold[at] != k
    if strangers.any() or len(at) != (fold == k).sum():
        raise DataError(
            f"{path}: {strangers.sum()} of its {len(at)} rows are not in fold {k}, which has "
            f"{(fold == k).sum()} rows: folds.csv changed since training; restore it or train "
            "again under another EXP"
        )
    return at


def join(path: Path, found: pd.Series, wanted: pd.Index) -> np.ndarray:
    """Positions (n,) in ``found`` of the ``wanted`` ids.

    Raises:
        DataError: ids are repeated, or an id that is wanted is not there (``path`` is named).
    """
    if found.duplicated().any():
        raise DataError(f"{path}: ids stand twice ({_examples(found[found.duplicated()])})")
    order = pd.Index(found).get_indexer(wanted)
    if (order < 0).any():
        raise DataError(
            f"{path}: {(order < 0).sum()} ids have no prediction "
            f"({_examples(wanted[order < 0])}): the data changed since; run training again"
        )
    return order


def _examples(ids: pd.Series | pd.Index) -> str:
    """The first three ids, for a message."""
    return ", ".join(map(str, ids[:3])) + ", ..." * (len(ids) > 3)
