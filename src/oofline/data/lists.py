"""Lists of different lengths, read from a memory-mapped file."""

import bisect
from typing import Any

import numpy as np


class Lists:
    """A memory-mapped column of lists.

    Args:
        column: of an Arrow table.
    """

    def __init__(self, column: Any) -> None:
        self._chunks: list[tuple[np.ndarray, np.ndarray]] = []
        self._starts: list[int] = []
        start = 0
        for chunk in column.chunks:
            self._chunks.append((chunk.values.to_numpy(), chunk.offsets.to_numpy()))
            self._starts.append(start)
            start += len(chunk)

    def __getitem__(self, row: int) -> np.ndarray:
        """One list, a view into the file."""
        chunk = bisect.bisect_right(self._starts, row) - 1
        values, offsets = self._chunks[chunk]
        local = row - self._starts[chunk]
        return values[offsets[local] : offsets[local + 1]]

    @property
    def lengths(self) -> np.ndarray:
        """(n,) int64."""
        lengths = [np.diff(offsets) for _, offsets in self._chunks] or [np.zeros(0, np.int64)]
        return np.concatenate(lengths).astype(np.int64)
