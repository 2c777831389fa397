"""Columns of sentence pairs: what each text has, what they share, and how alike they are."""

from collections.abc import Callable, Hashable, Sequence, Set
from itertools import pairwise

import numpy as np
from scipy import sparse

Words = Sequence[str]

_VIEWS: dict[str, Callable[..., sparse.csr_matrix]] = {
    "": lambda only: only,
    "first": lambda first, second: first,
    "second": lambda first, second: second,
    "both": lambda first, second: first.minimum(second),
    "one": lambda first, second: abs(first - second),
}


def views_of(n_sides: int, symmetric: bool) -> tuple[str, ...]:
    """Which views of counts make columns: of single texts one, of pairs several.

    Args:
        n_sides: 1 for single texts, 2 for pairs.
        symmetric: the order within a pair means nothing, so no column may tell it.
    """
    if n_sides == 1:
        return ("",)
    return ("one", "both") if symmetric else ("first", "second", "both")


def view(name: str, sides: Sequence[sparse.csr_matrix]) -> sparse.csr_matrix:
    """Counts (n, V) seen in one way: of one text, shared by both, or in one more than the other."""
    seen = _VIEWS[name](*sides).tocsr()
    seen.eliminate_zeros()
    return seen


def both_statistics(
    names: Sequence[str], first: np.ndarray, second: np.ndarray, symmetric: bool
) -> tuple[np.ndarray, tuple[str, ...]]:
    """Statistics (n, a) of both texts as (n, 2 a) columns, and their names.

    Of symmetric pairs the smaller and the larger figure stand in place of the first's and second's.
    """
    titles = ("first", "second")
    if symmetric:
        first, second = np.minimum(first, second), np.maximum(first, second)
        titles = ("smaller", "larger")
    return np.hstack([first, second]), tuple(f"{t}: {n}" for t in titles for n in names)


def _jaccard(a: Set[Hashable], b: Set[Hashable]) -> float:
    return len(a & b) / max(1, len(a | b))


def _grams(text: str, length: int = 3) -> set[str]:
    return {text[i : i + length] for i in range(max(1, len(text) - length + 1))}


def _figures(words: Sequence[str]) -> set[str]:
    return {word for word in words if any(map(str.isdigit, word))}


def _contained(a: Words, b: Words) -> float:
    return len(set(a) & set(b)) / max(1, len(set(a)))


LIKENESS: dict[str, Callable[[str, str, Words, Words], float]] = {
    "alike: words": lambda a, b, u, v: _jaccard(set(u), set(v)),
    "alike: pairs of words": lambda a, b, u, v: _jaccard(set(pairwise(u)), set(pairwise(v))),
    "alike: characters": lambda a, b, u, v: _jaccard(_grams(a), _grams(b)),
    "alike: figures": lambda a, b, u, v: float(_figures(u) == _figures(v)),
    "alike: length": lambda a, b, u, v: min(len(a), len(b)) / max(1, len(a), len(b)),
    "shorter in longer": lambda a, b, u, v: max(_contained(u, v), _contained(v, u)),
    "longer in shorter": lambda a, b, u, v: min(_contained(u, v), _contained(v, u)),
}
"""Figures between 0 and 1 that do not change when the texts change places, by name."""


def likeness(
    texts: tuple[Sequence[str], Sequence[str]], words: tuple[Sequence[Words], Sequence[Words]]
) -> np.ndarray:
    """(n, number of `LIKENESS`) float64: how alike the two (normalised) texts of a pair are."""
    rows = [
        [figure(*row) for figure in LIKENESS.values()] for row in zip(*texts, *words, strict=True)
    ]
    return np.array(rows, dtype=np.float64).reshape(len(texts[0]), len(LIKENESS))
