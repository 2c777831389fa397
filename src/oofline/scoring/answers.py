"""Answers cut out of a context: from probabilities to texts, and how right they are.

Exact match and F1 follow SQuAD's official evaluation, version 1.1 (Rajpurkar et al. 2016,
arXiv:1606.05250), letter by letter: English articles and ASCII punctuation are dropped, and an
answer of which nothing is left has F1 0 even against another of which nothing is left.
"""

import functools
import re
import string
from collections import Counter
from collections.abc import Callable, Sequence

import numpy as np

from oofline.blocks import Block
from oofline.scoring.registry import ANSWERS, metric

TOP = 20
"""Starts and ends of each row that are combined: the likeliest ones."""
_ROWS = 4096
"""Rows whose combinations are made at a time."""
_PUNCTUATION = str.maketrans("", "", string.punctuation)
_ARTICLES = re.compile(r"\b(a|an|the)\b")


def normalise_answer(text: str) -> str:
    """The text in lower case, without ASCII punctuation, then without articles and extra space."""
    return " ".join(_ARTICLES.sub(" ", text.lower().translate(_PUNCTUATION)).split())


def overlap_f1(true: Sequence[str], found: Sequence[str]) -> float:
    """F1 of two bags of words; 0 where they share none."""
    same = sum((Counter(true) & Counter(found)).values())
    return 2 * same / (len(true) + len(found)) if same else 0.0


@functools.lru_cache(maxsize=2**18)
def answer_f1_of(true: str, found: str) -> float:
    """Overlap of the words of two answers."""
    return overlap_f1(normalise_answer(true).split(), normalise_answer(found).split())


@functools.lru_cache(maxsize=2**18)
def exact_match_of(true: str, found: str) -> float:
    """1.0 where two answers are the same after normalisation."""
    return float(normalise_answer(true) == normalise_answer(found))


@functools.lru_cache(maxsize=2**18)
def character_f1_of(true: str, found: str) -> float:
    """Overlap of the characters of two answers, for languages that write no spaces."""
    sides = (normalise_answer(text).replace(" ", "") for text in (true, found))
    return overlap_f1(*sides)


@functools.lru_cache(maxsize=2**18)
def jaccard_of(true: str, found: str) -> float:
    """Shared words over all words, in lower case and with punctuation, as Kaggle has scored it."""
    words, others = set(true.lower().split()), set(found.lower().split())
    return len(words & others) / len(words | others) if words | others else 0.0


def _by_row(one: Callable[[str, str], float]) -> Callable[[np.ndarray, np.ndarray], np.ndarray]:
    """Values (n,) of answers y and texts found, by a score of two texts."""

    def values(y: np.ndarray, answers: np.ndarray) -> np.ndarray:
        """Scores (n,) of single rows."""
        pairs = zip(y.tolist(), answers.tolist(), strict=True)
        return np.array([one(row.text, found) for row, found in pairs], dtype=np.float64)

    return values


_F1, _EXACT, _CHARACTERS, _JACCARD = map(
    _by_row, (answer_f1_of, exact_match_of, character_f1_of, jaccard_of)
)


@metric("answer_f1", greater_is_better=True, needs="answer", kinds=ANSWERS, by_row=_F1)
def answer_f1(y: np.ndarray, answers: np.ndarray) -> float:
    """Mean over rows of the F1 of the words (SQuAD 1.1, 0 to 1)."""
    return float(_F1(y, answers).mean())


@metric("exact_match", greater_is_better=True, needs="answer", kinds=ANSWERS, by_row=_EXACT)
def exact_match(y: np.ndarray, answers: np.ndarray) -> float:
    """Share of rows whose answer is the true one after normalisation (SQuAD 1.1, 0 to 1)."""
    return float(_EXACT(y, answers).mean())


@metric("answer_char_f1", greater_is_better=True, needs="answer", kinds=ANSWERS, by_row=_CHARACTERS)
def answer_char_f1(y: np.ndarray, answers: np.ndarray) -> float:
    """Mean over rows of the F1 of the characters, as JSQuAD is scored."""
    return float(_CHARACTERS(y, answers).mean())


@metric("jaccard", greater_is_better=True, needs="answer", kinds=ANSWERS, by_row=_JACCARD)
def jaccard(y: np.ndarray, answers: np.ndarray) -> float:
    """Mean over rows of the Jaccard index of the words."""
    return float(_JACCARD(y, answers).mean())


def likeliest_spans(
    pred: Block, longest: int, n: int = 1, top: int = TOP
) -> tuple[np.ndarray, np.ndarray]:
    """The n best valid spans of each row: not empty, not backwards, not longer than ``longest``.

    Spans are ranked by P(start) * P(end), over the ``top`` likeliest of each.

    Args:
        pred: probabilities of m rows' characters, see `oofline.blocks`.
        longest: most characters of an answer.
        n: spans wanted.
        top: starts and ends to combine.

    Returns:
        (m, n, 2) int64 first character and the one behind the last, -1 where there is no further
        span; (m, n) float64 their probabilities, 0 there.
    """
    starts, p_start = _likeliest(pred, 0, top)
    ends, p_end = _likeliest(pred, 1, top)
    spans = np.full((pred.shape[0], n, 2), -1, dtype=np.int64)
    chances = np.zeros((pred.shape[0], n))
    for low in range(0, len(spans), _ROWS):
        part = slice(low, low + _ROWS)
        first, last = starts[part, :, None], ends[part, None, :]
        length = last - first + 1
        valid = (first >= 0) & (last >= 0) & (length >= 1) & (length <= longest)
        both = np.where(valid, p_start[part, :, None] * p_end[part, None, :], 0.0)
        both = both.reshape(len(both), -1)
        order = np.argsort(-both, axis=1, kind="stable")[:, :n]
        chance = np.take_along_axis(both, order, axis=1)
        row = np.arange(len(both))[:, None]
        chosen = np.stack([first[row, order // top, 0], last[row, 0, order % top] + 1], axis=-1)
        width = order.shape[1]
        spans[part, :width] = np.where(chance[..., None] > 0, chosen, -1)
        chances[part, :width] = chance
    return spans, chances


def _likeliest(pred: Block, side: int, top: int) -> tuple[np.ndarray, np.ndarray]:
    """Characters (m, top) of the likeliest starts (side 0) or ends (1), and their probabilities.

    Filled up with -1 and 0.
    """
    rows = np.repeat(np.arange(pred.shape[0]), np.diff(pred.indptr))
    mine = pred.indices % 2 == side
    rows, at, chance = rows[mine], pred.indices[mine] // 2, pred.data[mine].astype(np.float64)
    order = np.lexsort((at, -chance, rows))
    rows, at, chance = rows[order], at[order], chance[order]
    rank = np.arange(len(rows)) - np.searchsorted(rows, rows)
    kept = rank < top
    places = np.full((pred.shape[0], top), -1, dtype=np.int64)
    chances = np.zeros((pred.shape[0], top))
    places[rows[kept], rank[kept]] = at[kept]
    chances[rows[kept], rank[kept]] = chance[kept]
    return places, chances


def answers_from(contexts: Sequence[str], pred: Block, longest: int) -> np.ndarray:
    """The likeliest valid answer of each row, (m,) str objects.

    Where none of the likeliest starts stands before one of the likeliest ends, all of them are
    combined; a context without tokens has the empty answer.

    Args:
        contexts: m texts.
        pred: probabilities of their characters.
        longest: most characters of an answer.
    """
    spans = likeliest_spans(pred, longest)[0][:, 0]
    lost = np.flatnonzero(spans[:, 0] < 0)
    if len(lost):
        most = max(TOP, int(np.diff(pred[lost].indptr).max(initial=0)))
        for row in lost:
            spans[row] = likeliest_spans(pred[[row]], longest, top=most)[0][0, 0]
    answers = np.empty(len(spans), dtype=object)
    pairs = zip(contexts, spans.tolist(), strict=True)
    answers[:] = [context[start:end] if start >= 0 else "" for context, (start, end) in pairs]
    return answers
