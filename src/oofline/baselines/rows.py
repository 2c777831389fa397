"""What is known of each row by itself: counts of n-grams, statistics, columns of the tables."""

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
from oofline.config import CFG
from oofline.data.competition import Competition
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
        ngrams: counts, a block for words and one for characters (those that are on).
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


def make_source(cfg: CFG, paths: Paths, competition: Competition) -> Source:
    """Normalise the texts, find their words, count n-grams and statistics.

    Raises:
        ConfigError: a setting of words or n-grams is malformed, a package for Japanese is
            missing, or no n-gram is left.
    """
    raw = competition.train_texts + competition.test_texts
    mecab = splitter_of(cfg, competition.train_texts) == "mecab"
    documents = documents_of(cfg, paths, raw, mecab)
    words = documents["word"]
    blocks = [
        count_ngrams(sort, documents[sort], between, cfg.tfidf_min_rows)
        for sort, between in lengths_of(cfg).items()
    ]
    ngrams = tuple(block for block in blocks if block is not None)
    if not ngrams:
        raise ConfigError(
            f"no n-gram stands in tfidf_min_rows = {cfg.tfidf_min_rows} texts: lower it, or widen "
            "tfidf_words and tfidf_chars"
        )
    tables = read_tables(cfg, competition)
    dense, names = _dense(cfg, raw, words, tables)
    how = f"MeCab with {cfg.word_dictionary}" if mecab else "spaces and marks"
    notes = [f"words by {how}: {sum(map(len, words)) / max(1, len(words)):.0f} a text"]
    notes += [tables.note] if tables.note else []
    n_train = len(competition.train_texts)
    dictionary = cfg.word_dictionary if mecab else ""
    return Source(n_train, ngrams, dense, names, tables, dictionary, tuple(notes))


def lengths_of(cfg: CFG) -> dict[str, tuple[int, int]]:
    """Shortest and longest n-gram of each sort that is on.

    Raises:
        ConfigError: a setting is no range.
    """
    lengths = {"word": parse_range("tfidf_words", cfg.tfidf_words),
               "char": parse_range("tfidf_chars", cfg.tfidf_chars)}  # fmt: skip
    return {sort: between for sort, between in lengths.items() if between}


def documents_of(cfg: CFG, paths: Paths, raw: list[str], mecab: bool) -> dict[str, list[Any]]:
    """What n-grams are counted in: normalised texts ("char") and their words ("word")."""
    texts = normalize(raw, parse_steps(cfg.tfidf_normalize))
    splitter = "mecab" if mecab else "spaces"
    return {"word": split_words(cfg, paths, texts, splitter), "char": texts}


def source_of_rows(
    cfg: CFG, paths: Paths, recipe: Recipe, tfidfs: tuple[Tfidf, ...], raw: list[str],
    table: pd.DataFrame,
) -> Source:  # fmt: skip
    """Columns of rows that a stored model has not seen, counted with its own n-grams.

    Args:
        cfg: settings of its experiment.
        paths: gives the cache folder.
        recipe: of the stored model.
        tfidfs: as `oofline.baselines.stored.load_baseline` read them.
        raw: r texts.
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
    documents = documents_of(cfg, paths, raw, bool(recipe.dictionary))
    ngrams = tuple(count_known(t.sort, documents[t.sort], lengths[t.sort], t.names) for t in tfidfs)
    tables = take_columns(table, recipe.numbers, recipe.categories)
    dense, names = _dense(cfg, raw, documents["word"], tables)
    return Source(0, ngrams, dense, names, tables, recipe.dictionary)


def _dense(
    cfg: CFG, raw: list[str], words: list[Any], tables: Tables
) -> tuple[np.ndarray, tuple[str, ...]]:
    """Statistics of the texts beside the tables' numbers, and their names."""
    statistics = text_statistics(raw, words) if cfg.text_stats else np.zeros((len(raw), 0))
    names = (*(STATISTICS if cfg.text_stats else ()), *tables.number_names)
    return np.hstack([statistics, tables.numbers]), names
