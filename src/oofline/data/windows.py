"""Long texts as overlapping windows of token ids."""

import math


def cut_windows(
    ids: list[int], before: list[int], behind: list[int], max_len: int, most: int, overlap: int
) -> list[int]:
    """The windows of a text, one after the other; all but the last are ``max_len`` long.

    Args:
        ids: of the text, without special tokens.
        before: special tokens that each window starts with.
        behind: special tokens that each window ends with.
        max_len: longest window, special tokens included.
        most: most windows; what follows them is cut.
        overlap: text tokens that a window repeats from the one before.
    """
    body = max_len - len(before) - len(behind)
    step = body - overlap
    count = 1 + max(0, math.ceil((len(ids) - body) / step))
    result: list[int] = []
    for index in range(min(count, most)):
        result += before + ids[index * step : index * step + body] + behind
    return result
