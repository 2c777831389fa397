"""Columns besides n-grams: statistics of each text, and the numbers and categories of the tables.

Statistics of a text need no other row. Categories, means and spreads are fitted on a fold's
training rows.
"""

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from scipy import sparse

from oofline.config import CFG
from oofline.data.competition import Competition
from oofline.data.language import script_of
from oofline.data.texts import require_column

_SENTENCE_ENDS = re.compile(r"[.!?。！？]+|\n+")
_MOST_CATEGORIES = 0.5
"""A column with more distinct values than this share of its filled rows is no category."""


def _share(count: Callable[[str], int]) -> Callable[[str, Sequence[str]], float]:
    return lambda text, words: count(text) / max(1, len(text))


STATISTICS: dict[str, Callable[[str, Sequence[str]], float]] = {
    "characters": lambda text, words: len(text),
    "words": lambda text, words: len(words),
    "sentences": lambda text, words: len([s for s in _SENTENCE_ENDS.split(text) if s.strip()]),
    "lines": lambda text, words: text.count("\n") + 1,
    "mean word length": lambda text, words: sum(map(len, words)) / max(1, len(words)),
    "words of 7 characters or more": lambda text, words: (
        sum(len(w) > 6 for w in words) / max(1, len(words))
    ),
    "words per sentence": lambda text, words: (
        len(words) / max(1, len([s for s in _SENTENCE_ENDS.split(text) if s.strip()]))
    ),
    "distinct words": lambda text, words: len(set(words)) / max(1, len(words)),
    "share of digits": _share(lambda text: sum(map(str.isdigit, text))),
    "share of capitals": _share(lambda text: sum(map(str.isupper, text))),
    "share of marks": _share(lambda text: sum(not (c.isalnum() or c.isspace()) for c in text)),
    "share of kanji": _share(lambda text: sum(script_of(c) == "Han" for c in text)),
    "share of katakana": _share(lambda text: sum(script_of(c) == "Katakana" for c in text)),
    "exclamation marks": lambda text, words: text.count("!") + text.count("！"),
    "question marks": lambda text, words: text.count("?") + text.count("？"),
    "addresses": lambda text, words: text.count("http"),
}
"""Statistics by name: (text, its words) -> number."""


def text_statistics(texts: Sequence[str], words: Sequence[Sequence[str]]) -> np.ndarray:
    """(n, number of `STATISTICS`) float64."""
    rows = [[count(*pair) for count in STATISTICS.values()]
            for pair in zip(texts, words, strict=True)]  # fmt: skip
    return np.array(rows, dtype=np.float64)


@dataclass(frozen=True)
class Tables:
    """The columns of train and test that are used, train then test.

    Attributes:
        numbers: (n + n_test, a) float64, nan where a cell is empty or no number.
        number_names: a names.
        categories: (n + n_test, b) str.
        category_names: b names.
        note: one line for the user, "" where there is no such column.
    """

    numbers: np.ndarray
    number_names: tuple[str, ...]
    categories: np.ndarray
    category_names: tuple[str, ...]
    note: str


def read_tables(cfg: CFG, competition: Competition) -> Tables:
    """The columns that ``extra_cols`` names or finds.

    Found are all columns of both tables but id, targets, group, time and text: a number where 95 %
    of the filled cells are one, a category where values repeat.

    Raises:
        ConfigError: a named column is not in train or test.
    """
    both = pd.concat([competition.train, competition.test], ignore_index=True)
    numbers, categories, unused = [], [], []
    for name in _candidates(cfg, competition):
        filled = both[name][both[name].str.strip() != ""]
        numeric = pd.to_numeric(filled, errors="coerce").notna().mean() >= 0.95
        if filled.nunique() < 2:
            unused.append(name)
        elif numeric:
            numbers.append(name)
        elif cfg.extra_cols != "auto" or filled.nunique() <= _MOST_CATEGORIES * len(filled):
            categories.append(name)
        else:
            unused.append(name)
    return take_columns(both, numbers, categories, _note(numbers, categories, unused))


def take_columns(
    table: pd.DataFrame, numbers: Sequence[str], categories: Sequence[str], note: str = ""
) -> Tables:
    """These columns of a table, which must be there."""
    values = [pd.to_numeric(table[name], errors="coerce") for name in numbers]
    return Tables(
        np.stack(values, axis=1).astype(np.float64) if values else np.zeros((len(table), 0)),
        tuple(numbers), table[list(categories)].to_numpy(dtype=str), tuple(categories), note,
    )  # fmt: skip


def _candidates(cfg: CFG, competition: Competition) -> list[str]:
    named = [part.strip() for part in cfg.extra_cols.split(",") if part.strip()]
    if cfg.extra_cols != "auto":
        for name in named:
            require_column(name, competition.train, "extra_cols", "train")
            require_column(name, competition.test, "extra_cols", "test")
        return named
    taken = {competition.id_col, *competition.task.targets, competition.group_col, cfg.time_col,
             *competition.text_columns}  # fmt: skip
    return [c for c in competition.train.columns if c in competition.test.columns
            and c not in taken]  # fmt: skip


def _note(numbers: list[str], categories: list[str], unused: list[str]) -> str:
    parts = [
        f"{what} {', '.join(names)}"
        for what, names in (
            ("numbers", numbers), ("categories", categories), ("not used", unused),
        )
        if names
    ]  # fmt: skip
    return f"extra columns: {'; '.join(parts)}" if parts else ""


@dataclass(frozen=True)
class Categories:
    """One 0/1 column for each value that repeats in the rows it was fitted on.

    Attributes:
        values: (column of `Tables.categories`, value) of each 0/1 column.
        names: its name, as in "keyword = fire".
    """

    values: list[tuple[int, str]]
    names: list[str]

    def transform(self, categories: np.ndarray) -> sparse.csr_matrix:
        """(r, number of values) float32; a value that was not seen in fitting sets nothing."""
        place = {pair: index for index, pair in enumerate(self.values)}
        found = [
            (row, place[column, value])
            for (row, column), value in np.ndenumerate(categories)
            if (column, value) in place
        ]
        where = np.array(found, dtype=np.int64).reshape(-1, 2)
        ones = np.ones(len(where), dtype=np.float32)
        shape = (len(categories), len(self.values))
        return sparse.csr_matrix((ones, (where[:, 0], where[:, 1])), shape=shape)


def fit_categories(tables: Tables, rows: np.ndarray, min_rows: int) -> Categories:
    """Values that stand in at least ``min_rows`` of these rows (empty is a value too)."""
    values: list[tuple[int, str]] = []
    names: list[str] = []
    for column, title in enumerate(tables.category_names):
        found, counts = np.unique(tables.categories[rows, column], return_counts=True)
        for value in found[counts >= min_rows]:
            values.append((column, str(value)))
            names.append(f"{title} = {value or '(empty)'}")
    return Categories(values, names)


@dataclass(frozen=True)
class Scale:
    """Means and spreads of dense columns, fitted on some rows.

    Attributes:
        mean: (a,) float64; stands in for missing values.
        spread: (a,) float64, 1 where a column is constant.
    """

    mean: np.ndarray
    spread: np.ndarray

    def transform(self, values: np.ndarray) -> np.ndarray:
        """(r, a) float32, (value - mean) / spread, 0 where a value is missing."""
        scaled = (values - self.mean) / self.spread
        return np.nan_to_num(scaled, nan=0.0).astype(np.float32)


def fit_scale(values: np.ndarray) -> Scale:
    """Mean and standard deviation of each column of the rows given, without missing values."""
    seen = np.isfinite(values)
    count = np.maximum(1, seen.sum(axis=0))
    filled = np.where(seen, values, 0.0)
    mean = filled.sum(axis=0) / count
    spread = np.sqrt((np.where(seen, values - mean, 0.0) ** 2).sum(axis=0) / count)
    return Scale(mean, np.where(spread > 1e-12, spread, 1.0))
