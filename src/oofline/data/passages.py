"""Questions with their contexts as token ids: overlapping windows, tokens and their characters."""

from collections.abc import Callable
from typing import Any

import numpy as np

from oofline.data.alignment import tokens_with_spans
from oofline.data.windows import cut_windows
from oofline.errors import ConfigError

Pieces = tuple[list[int], list[int], list[int]]
"""Special tokens before, between and behind two texts."""


def passages_encoder(
    tokenizer: Any, max_len: int, overlap: int
) -> Callable[[list], dict[str, list]]:
    """Pairs of question and context to the columns of the token cache.

    Every window is made of the question and a part of the context, as the tokenizer puts a pair
    together; no token of the context is left out. A question longer than half a window is cut.

    Args:
        tokenizer: a transformers tokenizer.
        max_len: longest window, special tokens included.
        overlap: context tokens that neighbouring windows share, half a window's at most.

    Raises:
        ConfigError: the tokenizer does not write the context behind the question, or ``max_len``
            leaves no room.
    """
    before, between, behind = pair_tokens(tokenizer)
    room = max_len - len(before) - len(between) - len(behind)
    if room < 4:
        raise ConfigError(f"max_len = {max_len} leaves no room for questions and contexts")

    def encode(pairs: list) -> dict[str, list]:
        """Columns of a batch; contexts that come back are read once."""
        contexts = list(dict.fromkeys(context for _, context in pairs))
        found = dict(zip(contexts, tokens_with_spans(tokenizer, contexts), strict=True))
        questions = tokenizer(
            [question for question, _ in pairs], add_special_tokens=False,
            return_attention_mask=False, verbose=False,
        )["input_ids"]  # fmt: skip
        columns: dict[str, list] = {"input_ids": [], "n_tokens": [], "first": [], "spans": []}
        for (_, context), question in zip(pairs, questions, strict=True):
            ids, spans = found[context]
            head = before + question[: room // 2] + between
            part = max_len - len(head) - len(behind)
            windows = cut_windows(
                ids, head, behind, max_len, len(ids) + 1, shared_tokens(part, overlap)
            )
            columns["input_ids"].append(windows)
            columns["n_tokens"].append(max_len - room + len(question) + len(ids))
            columns["first"].append(len(head))
            columns["spans"].append([edge for span in spans for edge in span])
        return columns

    return encode


def shared_tokens(part: int, overlap: int) -> int:
    """Context tokens that windows of ``part`` of them really share: at most half of them."""
    return min(overlap, part // 2)


def pair_tokens(tokenizer: Any) -> Pieces:
    """Special tokens that the tokenizer puts before, between and behind the texts of a pair.

    Raises:
        ConfigError: it does not write the second text behind the first one.
    """
    for first, second in (("a", "b"), ("1", "2"), ("the", "of"), ("の", "東")):
        left, right = (tokenizer(t, add_special_tokens=False)["input_ids"] for t in (first, second))
        full = list(tokenizer(first, second)["input_ids"])
        for start in range(len(full) - len(left) + 1):
            if not left or not right or full[start : start + len(left)] != left:
                continue
            rest = full[start + len(left) :]
            for gap in range(len(rest) - len(right) + 1):
                if rest[gap : gap + len(right)] == right:
                    return full[:start], rest[:gap], rest[gap + len(right) :]
    raise ConfigError(
        "this model's tokenizer does not write a context behind its question: choose another model"
    )


def places(
    counts: np.ndarray, first: np.ndarray, windows: np.ndarray, part: np.ndarray, overlap: int,
    width: int,
) -> np.ndarray:  # fmt: skip
    """Where the context tokens of B rows stand among the W x L tokens of a batch.

    Args:
        counts: (B,) context tokens of each row.
        first: (B,) tokens in front of the context in each of its windows.
        windows: (B,) windows of each row, one row after the other.
        part: (B,) context tokens of a full window.
        overlap: as in `passages_encoder`.
        width: L.

    Returns:
        (B, G, 2) int64, G the largest count (at least 1): the flat index of a token in the last
        window that holds it and in the one before, -1 = in none. Windows share at most half of
        their tokens, so no token stands in three.
    """
    result = np.full((len(counts), max(1, int(counts.max())), 2), -1, dtype=np.int64)
    opens = np.cumsum(windows) - windows
    for row, count in enumerate(counts.tolist()):
        token = np.arange(count)
        step = int(part[row]) - shared_tokens(int(part[row]), overlap)
        last = np.minimum(token // step, windows[row] - 1)
        for copy, window in enumerate((last, last - 1)):
            inside = (window >= 0) & (token < window * step + part[row])
            place = (opens[row] + window) * width + first[row] + token - window * step
            result[row, :count, copy] = np.where(inside, place, -1)
    return result


def token_labels(spans: np.ndarray, start: int, end: int) -> tuple[int, int]:
    """First and last token of an answer.

    Args:
        spans: (G, 2) characters of the context's tokens, ascending; G at least 1.
        start: first character of the answer.
        end: the one behind its last.

    Returns:
        The tokens that hold its first and its last character (or the nearest inside the answer).
    """
    first = int(np.searchsorted(spans[:, 1], start, side="right"))
    last = int(np.searchsorted(spans[:, 0], end, side="left")) - 1
    first = min(first, len(spans) - 1)
    return first, max(first, last)
