"""Rows without labels: the test rows, or a further table beside train.csv."""

from pathlib import Path

import numpy as np

from oofline.config import CFG
from oofline.data.competition import Competition
from oofline.data.pairs import Pair
from oofline.data.reading import SUFFIXES, find_table, read_table
from oofline.data.texts import build_texts
from oofline.errors import ConfigError, DataError
from oofline.storage import Paths

TEST = ""
"""Stands for the test rows where a file's name is asked for."""


def unlabelled_path(paths: Paths, file: str) -> Path:
    """Where a table of unlabelled rows is.

    Args:
        paths: of the competition.
        file: its name below input/<comp>, or `TEST`.

    Raises:
        ConfigError: it has no suffix that can be read.
        DataError: it is not there.
    """
    if file == TEST:
        return find_table(paths.input, "test")
    if _suffix(file) is None or Path(file).name != file:
        raise ConfigError(
            f"--file {file}: name a file in {paths.input} that ends with {' or '.join(SUFFIXES)}"
        )
    if not (paths.input / file).is_file():
        raise DataError(f"{paths.input / file} does not exist: put the unlabelled rows there")
    return paths.input / file


def unlabelled_rows(
    cfg: CFG, paths: Paths, competition: Competition, file: str
) -> tuple[np.ndarray, list[str] | list[Pair]]:
    """Ids (m,) str and what a model reads of m unlabelled rows.

    Args:
        cfg: says which columns are read, as for the test rows.
        paths: of the competition.
        competition: gives the test rows and the training table.
        file: a table below input/<comp> with the text columns of train, or `TEST`. Without the
            id column its rows are numbered.

    Raises:
        ConfigError, DataError: it cannot be read, or lacks a text column.
    """
    if file == TEST:
        return competition.test_ids, competition.test_rows
    path = unlabelled_path(paths, file)
    frame = read_table(paths.input, file.removesuffix(_suffix(file) or ""), cfg.encoding)
    reserved = (
        competition.id_col, *competition.task.targets, competition.group_col, cfg.time_col
    )  # fmt: skip
    texts = build_texts(cfg, competition.train, frame, reserved)
    ids = np.array([f"{path.name}-{number}" for number in range(len(frame))])
    if competition.id_col in frame:
        ids = frame[competition.id_col].to_numpy(dtype=str)
    if len(set(ids)) < len(ids):
        raise DataError(f"{path}: ids stand more than once in column {competition.id_col}")
    return ids, texts.test_pairs or texts.test


def _suffix(file: str) -> str | None:
    return next((suffix for suffix in SUFFIXES if file.endswith(suffix)), None)
