"""Finding and reading what was written: experiments, single seeds of them, and ensembles."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from oofline.blocks import Block, average
from oofline.errors import DataError
from oofline.results import Task, prediction_array
from oofline.scoring.oof import join, read_parquet
from oofline.storage import Paths, read_json

ENSEMBLES = "ensembles/"
"""Prefix that names an ensemble where an experiment has the same name."""


@dataclass(frozen=True)
class Stored:
    """Predictions of an experiment, of one of its seeds, or of an ensemble, averaged over seeds.

    Attributes:
        name: "awp", "awp@42", "blend".
        pred: `Block`, (n, T) float64 as a rule, out of fold, in the order of the ids asked for.
        fold: (n,) int64, the fold that each row was predicted in.
        test: `Block`, in the order of ``test_ids``.
        test_ids: (n_test,) str.
        scores: contents of scores.json.
    """

    name: str
    pred: Block
    fold: np.ndarray
    test: Block
    test_ids: np.ndarray
    scores: dict[str, Any]

    @property
    def seeds(self) -> list[int]:
        """Training seeds behind the predictions."""
        seed = self.name.partition("@")[2]
        return [int(seed)] if seed else list(self.scores["seeds"])


def stored_names(paths: Paths) -> list[str]:
    """Names of all scored experiments, then ensembles, each in alphabetical order.

    An ensemble whose name is an experiment's too is told apart by the prefix `ENSEMBLES`; every
    name is one that `stored_folder` takes.
    """
    ready = [f.parent.name for f in sorted(paths.output.glob("*/scores.json"))]
    blends = [f.parent.name for f in sorted(paths.ensemble("x").parent.glob("*/scores.json"))]
    return ready + [ENSEMBLES * _is_experiment(paths, name) + name for name in blends]


def _is_experiment(paths: Paths, name: str) -> bool:
    """Whether an experiment of that name is scored or was at least started."""
    folder = paths.experiment(name)
    return "/" not in name and ((folder / "scores.json").is_file() or any(folder.glob("seed*")))


def stored_folder(paths: Paths, name: str) -> Path:
    """Folder of a scored experiment or ensemble; where both have the name, the experiment's.

    Args:
        paths: of the competition.
        name: "awp", "blend", or "ensembles/blend" for the ensemble whatever else has its name.

    Raises:
        DataError: there is none of that name (those there are listed), or it is not scored yet.
    """
    experiment, ensemble = paths.experiment(name), paths.ensemble(name.removeprefix(ENSEMBLES))
    if _is_experiment(paths, name):
        if (experiment / "scores.json").is_file():
            return experiment
        raise DataError(
            f"experiment {name!r} is not scored yet: run `make oof COMP={paths.comp} EXP={name}`"
        )
    if (ensemble / "scores.json").is_file():
        return ensemble
    there = ", ".join(stored_names(paths)) or "nothing scored yet"
    raise DataError(f"{paths.output} has no experiment or ensemble {name!r}; there: {there}")


def members_that_count(blend: dict[str, Any]) -> dict[str, np.ndarray]:
    """Member -> weight () or weights (T,) of an ensemble's weights.json; without those of all 0."""
    pairs = zip(blend["members"], blend["weights"], strict=True)
    weights = {member: np.asarray(weight, dtype=np.float64) for member, weight in pairs}
    return {member: weight for member, weight in weights.items() if weight.any()}


def load_stored(paths: Paths, spec: str, task: Task, ids: np.ndarray) -> Stored:
    """Read an experiment ("awp"), one seed of it ("awp@42") or an ensemble ("blend").

    Args:
        paths: of the competition.
        spec: what to read.
        task: gives the outputs and the metric.
        ids: (n,) training ids that belong to a fold; exactly these must be predicted, per seed.

    Raises:
        DataError: not there, other ids, another metric, or no such seed.
    """
    name, _, seed = spec.partition("@")
    folder = stored_folder(paths, name)
    scores = read_json(folder / "scores.json")
    if scores.get("metric") != task.metric:
        again = f"run `make oof COMP={paths.comp} EXP={name}` again"
        again = again if _is_experiment(paths, name) else "make that ensemble again"
        raise DataError(
            f"{name!r} was scored by {scores.get('metric')}, not {task.metric}: {again}"
        )
    oof_frames = _by_seed(folder / "oof.parquet", seed)
    index = pd.Index(np.asarray(ids).astype(str))
    pred, fold = _mean(folder / "oof.parquet", oof_frames, task, index)
    test, test_ids = mean_of_seeds(folder / "test.parquet", task, seed)
    return Stored(spec, pred, fold, test, test_ids, scores)


def mean_of_seeds(path: Path, task: Task, seed: str = "") -> tuple[Block, np.ndarray]:
    """Predictions (n, T) of a file averaged over its seeds, and their ids (n,) in file order.

    Args:
        path: oof.parquet or test.parquet of an experiment or ensemble.
        task: gives the outputs.
        seed: "42" for that seed alone; "" = all.

    Raises:
        DataError: no such seed, or the seeds hold other rows.
    """
    frames = _by_seed(path, seed)
    index = pd.Index(frames[0]["id"])
    return _mean(path, frames, task, index)[0], index.to_numpy()


def _by_seed(path: Path, seed: str) -> list[pd.DataFrame]:
    frame = read_parquet(path)
    seeds = [int(s) for s in frame["seed"].unique()]
    if seed and seed not in map(str, seeds):
        raise DataError(f"{path} has no seed {seed}; there: {', '.join(map(str, seeds))}")
    return [frame[frame["seed"] == s] for s in seeds if not seed or str(s) == seed]


def _mean(
    path: Path, frames: list[pd.DataFrame], task: Task, index: pd.Index
) -> tuple[Block, np.ndarray]:
    """Predictions (n, T) averaged over the seeds' frames, and fold (n,), in ``index`` order."""
    found = []
    for frame in frames:
        if len(frame) != len(index):
            raise DataError(
                f"{path} has {len(frame)} rows per seed instead of {len(index)}: train.csv or "
                "folds.csv changed since; run `make oof` again"
            )
        order = join(path, frame["id"], index)
        found.append(prediction_array(task, frame)[order])
    return average(found), frames[-1]["fold"].to_numpy(dtype=np.int64)[order]
