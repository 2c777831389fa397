"""Lists of different lengths, read from a memory-mapped file."""

import bisect
import itertools
from typing import Any

import numpy as np


class Lists:
    """A memory-mapped column of lists.

    Args:
        chunks: (values, offsets) of each chunk of an Arrow column; list i of a chunk is
            ``values[offsets[i] : offsets[i + 1]]``.
    """

    def __init__(self, chunks: list[tuple[np.ndarray, np.ndarray]]) -> None:
        self._chunks = chunks
        counts = [0, *(len(offsets) - 1 for _, offsets in chunks)]
        self._starts = list(itertools.accumulate(counts))[: len(chunks)]

    @classmethod
    def of(cls, column: Any) -> "Lists":
        """The lists of a column of an Arrow table."""
        return cls([(chunk.values.to_numpy(), chunk.offsets.to_numpy()) for chunk in column.chunks])

    def split(self, width: int) -> "Lists":
        """Every list cut into lists of at most ``width`` values; empty ones stay."""
        chunks = []
        for values, offsets in self._chunks:
            ends = [
                end
                for low, high in itertools.pairwise(offsets.tolist())
                for end in (*range(low + width, high, width), high)
            ]
            chunks.append((values, np.array([offsets[0], *ends], dtype=np.int64)))
        return Lists(chunks)

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
