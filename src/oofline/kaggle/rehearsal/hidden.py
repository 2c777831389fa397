"""The hidden test: larger than the public one, with an empty text and groups never seen."""

import shutil
from pathlib import Path

import numpy as np
import pandas as pd

from oofline.config import CFG
from oofline.data.competition import Competition
from oofline.data.reading import find_table
from oofline.storage import Paths

UNSEEN = "group-never-seen"
"""Starts the values of the group column in the added rows."""


def write_hidden(
    cfg: CFG, paths: Paths, competition: Competition, folder: Path, multiply: int
) -> int:
    """Lay out the competition as a rerun on the hidden test sees it.

    The public rows keep their ids and stand first; their copies have new ids, and unseen groups
    where there is a group column. One row with an empty text comes last.

    Args:
        cfg: reads the encoding.
        paths: of the competition.
        competition: as read.
        folder: receives the files; all but test and sample_submission are the competition's own.
        multiply: how many times the public rows are there.

    Returns:
        Number of rows of the hidden test.
    """
    folder.mkdir(parents=True)
    for path in sorted(paths.input.iterdir()):
        known = path.name.startswith(("test.", "sample_submission."))
        if path.is_file() and not known and path.name != "cfg.toml":
            shutil.copyfile(path, folder / path.name)
    test, sample = competition.test, competition.sample
    tests, samples = [test], [sample]
    for copy in range(1, multiply):
        ids = new_ids(competition, copy)
        tests.append(_other_rows(competition, test, ids))
        samples.append(_sample_for(sample, competition, ids))
    last = new_ids(competition, max(1, multiply))[:1]
    empty = _other_rows(competition, test.iloc[:1], last)
    for column in text_columns(competition):
        empty[column] = ""
    tests, samples = [*tests, empty], [*samples, _sample_for(sample, competition, last, 1)]
    for stem, parts in (("test", tests), ("sample_submission", samples)):
        name = find_table(paths.input, stem).name
        _write(pd.concat(parts, ignore_index=True), folder / name, cfg.encoding)
    return sum(map(len, tests))


def _sample_for(
    sample: pd.DataFrame, competition: Competition, ids: np.ndarray, rows: int | None = None
) -> pd.DataFrame:
    return sample.iloc[: rows or len(ids)].assign(**{competition.id_col: ids})


def new_ids(competition: Competition, copy: int) -> np.ndarray:
    """Ids of one copy of the test rows: numbers behind all others, or the old ones with an end."""
    there = np.concatenate([competition.train_ids, competition.test_ids])
    count = len(competition.test_ids)
    if all(text.isdecimal() and len(text) < 16 for text in there):
        first = max(map(int, there)) + 1 + (copy - 1) * count
        return np.array([str(first + row) for row in range(count)])
    return np.array([f"{text}-hidden{copy}" for text in competition.test_ids])


def _other_rows(competition: Competition, test: pd.DataFrame, ids: np.ndarray) -> pd.DataFrame:
    changed, group_col = {competition.id_col: ids}, competition.group_col
    if group_col in test.columns:
        changed[group_col] = np.array([f"{UNSEEN}-{row % 7}" for row in range(len(ids))])
    return test.iloc[: len(ids)].assign(**changed)


def text_columns(competition: Competition) -> list[str]:
    """Columns of the test that the texts are made of, but for the id and the group."""
    kept = (competition.id_col, competition.group_col)
    return [name for name in competition.text_columns if name not in kept]


def _write(frame: pd.DataFrame, path: Path, encoding: str) -> None:
    if path.suffix == ".parquet":
        frame.to_parquet(path, index=False)
    else:
        frame.to_csv(path, index=False, encoding=encoding)
