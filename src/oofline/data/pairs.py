"""Sentence pairs: how they are shown, told apart, and kept together."""

from typing import NamedTuple

import numpy as np
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from oofline.data.duplicates import exact_groups, normalise

MARK = " || "
"""Stands between the two texts of a pair where they are shown as one."""

Pair = tuple[str, str]


class Passage(NamedTuple):
    """A question and the context that holds its answer: a pair whose context is read whole."""

    question: str
    context: str


def shown(pair: Pair) -> str:
    """A pair as one text, for tables, pictures and lengths."""
    return MARK.join(pair)


def key(pair: Pair, symmetric: bool) -> str:
    """What two equal pairs share: their text, and for symmetric ones their text in one order."""
    return "\n".join(sorted(pair, key=normalise) if symmetric else pair)


def sentences(pairs: list[Pair]) -> np.ndarray:
    """Number of each text, (n, 2) int64: equal (after normalisation) texts of either side alike."""
    both = [normalise(text) for pair in pairs for text in pair]
    return exact_groups(both).reshape(-1, 2)


def with_shared_sentences(pairs: list[Pair], groups: np.ndarray) -> np.ndarray:
    """Groups (n,) merged where two pairs share a text, on whichever side."""
    n = len(pairs)
    left = np.repeat(np.arange(n), 2)
    of_text = sentences(pairs).ravel() + n
    of_group = np.unique(groups, return_inverse=True)[1] + of_text.max(initial=n) + 1
    rows = np.concatenate([left, np.arange(n)])
    columns = np.concatenate([of_text, of_group])
    size = int(columns.max(initial=n)) + 1
    graph = coo_array((np.ones(len(rows), np.int8), (rows, columns)), shape=(size, size))
    _, label = connected_components(graph, directed=False)
    _, first, merged = np.unique(label[:n], return_index=True, return_inverse=True)
    order = np.empty(len(first), dtype=np.int64)
    order[np.argsort(first)] = np.arange(len(first))
    return order[merged]


def crossing(pairs: list[Pair], fold: np.ndarray) -> tuple[int, int, int]:
    """Texts that stand in more than one fold.

    Returns:
        Their number, the number of all different texts, and the rows that hold one of them.
    """
    of_text = sentences(pairs)
    folds = np.repeat(fold, 2).reshape(-1, 2)
    lowest = np.full(of_text.max() + 1, np.iinfo(np.int64).max)
    highest = np.full(of_text.max() + 1, -2)
    np.minimum.at(lowest, of_text, folds)
    np.maximum.at(highest, of_text, folds)
    crosses = lowest < highest
    return int(crosses.sum()), len(crosses), int(crosses[of_text].any(axis=1).sum())
