"""The columns that a baseline learns from: made once for all rows, fitted on training rows."""

from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy import sparse
from sklearn.decomposition import TruncatedSVD

from oofline.baselines.columns import (
    STATISTICS,
    Categories,
    Scale,
    Tables,
    fit_categories,
    fit_scale,
    read_tables,
    text_statistics,
)
from oofline.baselines.ngrams import Ngrams, Tfidf, count_ngrams, fit_tfidf, parse_range
from oofline.config import CFG
from oofline.data.competition import Competition
from oofline.data.normalization import normalize, parse_steps
from oofline.data.words import split_words, splitter_of
from oofline.errors import ConfigError
from oofline.storage import Paths


@dataclass(frozen=True)
class Source:
    """What is known of every row by itself; nothing here is fitted.

    Attributes:
        n_train: n; rows are those of train, then those of test.
        ngrams: counts, a block for words and one for characters (those that are on).
        dense: (n + n_test, a) float64, statistics of the texts and numbers of the tables.
        dense_names: a names.
        tables: categories of the tables.
        notes: lines to print.
    """

    n_train: int
    ngrams: tuple[Ngrams, ...]
    dense: np.ndarray
    dense_names: tuple[str, ...]
    tables: Tables
    notes: tuple[str, ...]


def make_source(cfg: CFG, paths: Paths, competition: Competition) -> Source:
    """Normalise the texts, find their words, count n-grams and statistics.

    Raises:
        ConfigError: a setting of words or n-grams is malformed, a package for Japanese is
            missing, or no n-gram is left.
    """
    raw = competition.train_texts + competition.test_texts
    texts = normalize(raw, parse_steps(cfg.tfidf_normalize))
    splitter = splitter_of(cfg, competition.train_texts)
    lengths = {"word": parse_range("tfidf_words", cfg.tfidf_words),
               "char": parse_range("tfidf_chars", cfg.tfidf_chars)}  # fmt: skip
    words = split_words(cfg, paths, texts, splitter)
    documents: dict[str, list[Any]] = {"word": words, "char": texts}
    blocks = [
        count_ngrams(sort, documents[sort], between, cfg.tfidf_min_rows)
        for sort, between in lengths.items()
        if between
    ]
    ngrams = tuple(block for block in blocks if block is not None)
    if not ngrams:
        raise ConfigError(
            f"no n-gram stands in tfidf_min_rows = {cfg.tfidf_min_rows} texts: lower it, or widen "
            "tfidf_words and tfidf_chars"
        )
    tables = read_tables(cfg, competition)
    statistics = text_statistics(raw, words) if cfg.text_stats else np.zeros((len(raw), 0))
    names = (*(STATISTICS if cfg.text_stats else ()), *tables.number_names)
    how = f"MeCab with {cfg.word_dictionary}" if splitter == "mecab" else "spaces and marks"
    notes = [f"words by {how}: {sum(map(len, words)) / max(1, len(words)):.0f} a text"]
    notes += [tables.note] if tables.note else []
    dense = np.hstack([statistics, tables.numbers])
    return Source(len(competition.train_texts), ngrams, dense, names, tables, tuple(notes))


@dataclass(frozen=True)
class Features:
    """Columns fitted on some training rows.

    Attributes:
        tfidfs: one for each block of n-grams.
        svd: (components, V') float32, None where it is off.
        beside: whether the n-grams stay beside the components.
        scale: of the dense columns.
        categories: 0/1 columns of the tables' values.
        names: (sort, name) of each column, in order; sorts are "word", "char", "svd", "number"
            and "category".
    """

    tfidfs: tuple[Tfidf, ...]
    svd: np.ndarray | None
    beside: bool
    scale: Scale
    categories: Categories
    names: tuple[tuple[str, str], ...]

    def transform(self, source: Source, rows: np.ndarray) -> sparse.csr_matrix:
        """(r, number of names) float32, sparse by rows.

        Args:
            source: of all rows.
            rows: (r,) int64.
        """
        grams = _grams(self.tfidfs, source, rows)
        blocks = [grams] if self.svd is None or self.beside else []
        if self.svd is not None:
            blocks.append(sparse.csr_matrix(grams @ self.svd.T))
        blocks.append(sparse.csr_matrix(self.scale.transform(source.dense[rows])))
        blocks.append(self.categories.transform(source.tables.categories[rows]))
        return sparse.hstack(blocks, format="csr", dtype=np.float32)


def _grams(tfidfs: tuple[Tfidf, ...], source: Source, rows: np.ndarray) -> sparse.csr_matrix:
    pairs = zip(tfidfs, source.ngrams, strict=True)
    return sparse.hstack([t.transform(block.counts[rows]) for t, block in pairs], format="csr")


def fit_features(cfg: CFG, source: Source, rows: np.ndarray, seed: int) -> Features:
    """Fit TF-IDF, SVD, scales and categories on these rows alone.

    Args:
        cfg: gives tfidf_*, svd_* and, for kind "lightgbm", lgbm_min_rows.
        source: of all rows.
        rows: (r,) int64 training rows.
        seed: of the SVD.

    Raises:
        ConfigError: no n-gram stands in enough of these rows.
    """
    fewest = max(cfg.tfidf_min_rows, cfg.lgbm_min_rows if cfg.kind == "lightgbm" else 1)
    tfidfs = tuple(fit_tfidf(block, rows, fewest, cfg.tfidf_max) for block in source.ngrams)
    names = [(t.sort, str(name)) for t in tfidfs for name in t.names]
    if not names:
        raise ConfigError(
            f"no n-gram stands in {fewest} training rows: lower tfidf_min_rows or lgbm_min_rows"
        )
    svd = _fit_svd(cfg, tfidfs, source, rows, seed)
    if svd is not None:
        names = (names if cfg.svd_beside else []) + [
            ("svd", f"component {i}") for i in range(len(svd))
        ]
    categories = fit_categories(source.tables, rows, fewest)
    names += [("number", name) for name in source.dense_names]
    names += [("category", name) for name in categories.names]
    scale = fit_scale(source.dense[rows])
    return Features(tfidfs, svd, cfg.svd_beside, scale, categories, tuple(names))


def _fit_svd(
    cfg: CFG, tfidfs: tuple[Tfidf, ...], source: Source, rows: np.ndarray, seed: int
) -> np.ndarray | None:
    if not cfg.svd_dims:
        return None
    grams = _grams(tfidfs, source, rows)
    dims = min(cfg.svd_dims, min(grams.shape) - 1)
    if dims < 1:
        return None
    return TruncatedSVD(dims, random_state=seed).fit(grams).components_.astype(np.float32)
