"""What is known of each row by itself: counts of n-grams, statistics, columns of the tables."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from oofline.baselines.columns import (
    STATISTICS,
    Tables,
    read_tables,
    take_columns,
    text_statistics,
)
from oofline.baselines.ngrams import (
    Ngrams,
    Tfidf,
    count_known,
    count_ngrams,
    parse_range,
)
from oofline.baselines.pairs import LIKENESS, both_statistics, likeness, view, views_of
from oofline.config import CFG
from oofline.data.competition import Competition
from oofline.data.encoding import Row
from oofline.data.normalization import normalize, parse_steps
from oofline.data.words import split_words, splitter_of
from oofline.errors import ConfigError, DataError
from oofline.storage import Paths


@dataclass(frozen=True)
class Recipe:
    """What training found out about the tables, and later rows must be read by.

    Attributes:
        dictionary: with which MeCab finds the words, "" where spaces and marks part them.
        numbers: columns of the tables that are numbers.
        categories: columns of the tables that are categories.
    """

    dictionary: str
    numbers: tuple[str, ...]
    categories: tuple[str, ...]


@dataclass(frozen=True)
class Source:
    """What is known of every row by itself; nothing here is fitted.

    Attributes:
        n_train: n; rows are those of train, then those of test.
        ngrams: counts, a block for words and one for characters (those that are on); of pairs
            one for each view (see `oofline.baselines.pairs`).
        dense: (n + n_test, a) float64, statistics of the texts and numbers of the tables.
        dense_names: a names.
        tables: categories of the tables.
        dictionary: as in `Recipe`.
        notes: lines to print.
    """

    n_train: int
    ngrams: tuple[Ngrams, ...]
    dense: np.ndarray
    dense_names: tuple[str, ...]
    tables: Tables
    dictionary: str
    notes: tuple[str, ...] = ()

    @property
    def recipe(self) -> Recipe:
        """How other rows get the same columns."""
        return Recipe(self.dictionary, self.tables.number_names, self.tables.category_names)


@dataclass(frozen=True)
class _Side:
    """One text of each row: as it is, normalised ("char"), and cut into words ("word")."""

    raw: list[str]
    documents: dict[str, list[Any]]


def make_source(cfg: CFG, paths: Paths, competition: Competition) -> Source:
    """Normalise the texts, find their words, count n-grams and statistics.

    Raises:
        ConfigError: a setting of words or n-grams is malformed, a package for Japanese is
            missing, or no n-gram is left.
    """
    mecab = splitter_of(cfg, competition.train_texts) == "mecab"
    lengths = lengths_of(cfg)
    sides = _sides(cfg, paths, [*competition.train_rows, *competition.test_rows], mecab)
    ngrams = tuple(
        block for sort, between in lengths.items() for block in _count(sort, sides, between, cfg)
    )
    if not ngrams:
        raise ConfigError(
            f"no n-gram stands in tfidf_min_rows = {cfg.tfidf_min_rows} texts: lower it, or widen "
            "tfidf_words and tfidf_chars"
        )
    tables = read_tables(cfg, competition)
    dense, names = _dense(cfg, sides, tables)
    how = f"MeCab with {cfg.word_dictionary}" if mecab else "spaces and marks"
    n_words = sum(len(words) for side in sides for words in side.documents["word"])
    notes = [f"words by {how}: {n_words / max(1, len(sides[0].raw) * len(sides)):.0f} a text"]
    notes += [tables.note] if tables.note else []
    dictionary = cfg.word_dictionary if mecab else ""
    n_train = len(competition.train_texts)
    return Source(n_train, ngrams, dense, names, tables, dictionary, tuple(notes))


def lengths_of(cfg: CFG) -> dict[str, tuple[int, int]]:
    """Shortest and longest n-gram of each sort that is on.

    Raises:
        ConfigError: a setting is no range.
    """
    lengths = {"word": parse_range("tfidf_words", cfg.tfidf_words),
               "char": parse_range("tfidf_chars", cfg.tfidf_chars)}  # fmt: skip
    return {sort: between for sort, between in lengths.items() if between}


def source_of_rows(
    cfg: CFG, paths: Paths, recipe: Recipe, tfidfs: tuple[Tfidf, ...], rows: Sequence[Row],
    table: pd.DataFrame,
) -> Source:  # fmt: skip
    """Columns of rows that a stored model has not seen, counted with its own n-grams.

    Args:
        cfg: settings of its experiment.
        paths: gives the cache folder.
        recipe: of the stored model.
        tfidfs: as `oofline.baselines.stored.load_baseline` read them.
        rows: r texts or pairs.
        table: r rows with the columns of the recipe.

    Raises:
        DataError: the table lacks a column that the model was trained with.
    """
    lengths = lengths_of(cfg)
    lacking = [name for name in (*recipe.numbers, *recipe.categories) if name not in table.columns]
    if lacking:
        raise DataError(
            f"the table has no column {lacking[0]!r}, which the stored models were trained with"
        )
    sides = _sides(cfg, paths, rows, bool(recipe.dictionary))
    ngrams = []
    for tfidf in tfidfs:
        sort, between = tfidf.sort, lengths[tfidf.sort]
        counts = [count_known(sort, s.documents[sort], between, tfidf.names) for s in sides]
        ngrams.append(Ngrams(sort, tfidf.names, view(tfidf.view, counts), tfidf.view))
    tables = take_columns(table, recipe.numbers, recipe.categories)
    dense, names = _dense(cfg, sides, tables)
    return Source(0, tuple(ngrams), dense, names, tables, recipe.dictionary)


def _sides(cfg: CFG, paths: Paths, rows: Sequence[Row], mecab: bool) -> list[_Side]:
    """The texts of single rows, or the first and the second texts of pairs."""
    splitter, steps = "mecab" if mecab else "spaces", parse_steps(cfg.tfidf_normalize)
    columns = zip(*[(row,) if isinstance(row, str) else row for row in rows], strict=True)
    sides = []
    for raw in map(list, columns):
        texts = normalize(raw, steps)
        words = split_words(cfg, paths, texts, splitter)
        sides.append(_Side(raw, {"word": words, "char": texts}))
    return sides


def _count(sort: str, sides: list[_Side], between: tuple[int, int], cfg: CFG) -> Iterator[Ngrams]:
    """A block of n-grams for each view; none where no n-gram stands in enough texts."""
    documents = [document for side in sides for document in side.documents[sort]]
    found = count_ngrams(sort, documents, between, cfg.tfidf_min_rows)
    if found is None:
        return
    n = len(sides[0].raw)
    counts = [found.counts[i * n : (i + 1) * n] for i in range(len(sides))]
    for name in views_of(len(sides), cfg.pair_swap != "off"):
        yield Ngrams(sort, found.names, view(name, counts), name)


def _dense(cfg: CFG, sides: list[_Side], tables: Tables) -> tuple[np.ndarray, tuple[str, ...]]:
    """Statistics of the texts beside the tables' numbers, and their names."""
    n = len(sides[0].raw)
    if not cfg.text_stats:
        return np.hstack([np.zeros((n, 0)), tables.numbers]), tables.number_names
    found = [text_statistics(side.raw, side.documents["word"]) for side in sides]
    names = tuple(STATISTICS)
    if len(sides) == 1:
        return np.hstack([*found, tables.numbers]), (*names, *tables.number_names)
    both, names = both_statistics(names, found[0], found[1], cfg.pair_swap != "off")
    texts, words = (
        (sides[0].documents[sort], sides[1].documents[sort]) for sort in ("char", "word")
    )
    alike = likeness(texts, words)
    return np.hstack([both, alike, tables.numbers]), (*names, *LIKENESS, *tables.number_names)
