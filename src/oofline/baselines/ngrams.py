"""N-grams: counted once for all rows, weighted by TF-IDF that sees a fold's training rows alone.

Counting learns nothing from a row about another one. What does - which n-grams are kept, and how
rare they are - is fitted on the rows that `fit_tfidf` is given: the result is that of
scikit-learn's ``TfidfVectorizer(sublinear_tf=True)`` fitted on these rows, without counting them
again in every fold.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy import sparse
from sklearn.feature_extraction.text import CountVectorizer
from sklearn.preprocessing import normalize

from oofline.errors import ConfigError


@dataclass(frozen=True)
class Ngrams:
    """Counts of one sort of n-grams in all rows, train then test.

    Attributes:
        sort: "word" or "char".
        names: the V n-grams, in alphabetical order; words are joined by spaces.
        counts: (n + n_test, V) float32, sparse by rows.
        view: of a pair, which text's counts they are ("" of single texts).
    """

    sort: str
    names: np.ndarray
    counts: sparse.csr_matrix
    view: str = ""


@dataclass(frozen=True)
class Tfidf:
    """TF-IDF fitted on some rows.

    Attributes:
        sort: "word" or "char".
        names: (V',) the n-grams that are kept.
        columns: (V',) int64, their columns in `Ngrams.counts`.
        idf: (V',) float32, ln((1 + n) / (1 + df)) + 1.
        view: as in `Ngrams`.
    """

    sort: str
    names: np.ndarray
    columns: np.ndarray
    idf: np.ndarray
    view: str = ""

    @property
    def titles(self) -> list[tuple[str, str]]:
        """(sort, name) of each column, names with the view they were counted in."""
        mark = f" ({self.view})" if self.view else ""
        return [(self.sort, f"{name}{mark}") for name in self.names]

    def transform(self, counts: sparse.csr_matrix) -> sparse.csr_matrix:
        """(r, V') float32 rows of length 1 (or 0): (1 + ln tf) x idf.

        Args:
            counts: (r, V) rows of `Ngrams.counts`.
        """
        kept = counts[:, self.columns].tocsr().astype(np.float32)
        kept.data = (np.log(kept.data) + 1.0).astype(np.float32)
        return normalize(kept.multiply(self.idf).tocsr(), copy=False)


def parse_range(field: str, text: str) -> tuple[int, int] | None:
    """Shortest and longest n-gram of a setting, None where it is "".

    Raises:
        ConfigError: it is not "2" or "1-3".
    """
    if not text.strip():
        return None
    found = re.fullmatch(r"(\d+)(?:-(\d+))?", text.strip())
    low, high = (int(found[1]), int(found[2] or found[1])) if found else (0, 0)
    if not 1 <= low <= high:
        raise ConfigError(f'{field} = "{text}" is no range of lengths: use "1", "1-2" or ""')
    return low, high


def count_ngrams(
    sort: str, documents: Sequence[Any], lengths: tuple[int, int], min_rows: int
) -> Ngrams | None:
    """Count the n-grams of all rows; those in fewer than ``min_rows`` of them can be left out.

    Args:
        sort: "word" (documents are lists of words) or "char" (documents are texts).
        documents: n + n_test of them.
        lengths: shortest and longest n-gram.
        min_rows: fewest rows.

    Returns:
        The counts, or None where no n-gram stands in that many rows.
    """
    counter = CountVectorizer(min_df=min_rows, **_options(sort, lengths))
    try:
        counts = counter.fit_transform(documents)
    except ValueError:  # an empty vocabulary
        return None
    return Ngrams(sort, counter.get_feature_names_out().astype(object), counts.tocsr())


def count_known(
    sort: str, documents: Sequence[Any], lengths: tuple[int, int], names: np.ndarray
) -> sparse.csr_matrix:
    """Counts (r, V) of n-grams that are known already, as those of a stored model are.

    Args:
        sort: "word" or "char", as in `count_ngrams`.
        documents: r of them.
        lengths: shortest and longest n-gram.
        names: (V,) the n-grams, whose order the counts' columns have.
    """
    if not len(names):
        return sparse.csr_matrix((len(documents), 0), dtype=np.float32)
    counter = CountVectorizer(vocabulary=list(names), **_options(sort, lengths))
    return counter.transform(documents).tocsr()


def _options(sort: str, lengths: tuple[int, int]) -> dict[str, Any]:
    options: dict[str, Any] = {"analyzer": "char"}
    if sort == "word":
        options = {"tokenizer": _same, "preprocessor": _same, "token_pattern": None}
    return options | {"lowercase": False, "ngram_range": lengths, "dtype": np.float32}


def _same(words: Any) -> Any:
    return words


def fit_tfidf(ngrams: Ngrams, rows: np.ndarray, min_rows: int, most: int = 0) -> Tfidf:
    """Choose and weigh n-grams by these rows alone.

    Args:
        ngrams: counts of all rows.
        rows: (r,) int64 row numbers to fit on.
        min_rows: n-grams in fewer of these rows are left out.
        most: keep this many, the most frequent in these rows; 0 = all.
    """
    counts = ngrams.counts[rows]
    frequency = np.bincount(counts.indices, minlength=counts.shape[1])
    columns = np.flatnonzero(frequency >= min_rows)
    if most and len(columns) > most:
        total = np.asarray(counts[:, columns].sum(axis=0)).ravel()
        columns = np.sort(columns[np.argsort(-total, kind="stable")[:most]])
    idf = np.log((1 + len(rows)) / (1 + frequency[columns])) + 1.0
    idf = idf.astype(np.float32)
    return Tfidf(ngrams.sort, ngrams.names[columns], columns, idf, ngrams.view)
