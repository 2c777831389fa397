"""Predictions of n rows, whatever their form: a table, or probabilities of characters.

Most tasks have a table (n, T). Answers in a context have, for every character, the probability to
be their first and to be their last: a sparse array (n, `WIDTH`), since contexts differ in length
and nearly all of these are 0. Characters do not depend on a tokenizer, so models that cut a text in
different ways are averaged like any others. Both forms are indexed by rows, added, and multiplied
by numbers; what else is done with them is here.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
from scipy.sparse import csr_array, vstack

Block = Any
"""np.ndarray (n, T) float64, or csr_array (n, WIDTH) float32: column 2c has the probabilities that
an answer starts at character c, column 2c + 1 that c is its last one."""

Blocks = Any
"""Several blocks of the same rows: (M, n, T), or a list of sparse ones."""

WIDTH = 2**24
"""Columns of the sparse form; they cost nothing."""
SMALLEST = 1e-6
"""Smaller probabilities are left out of the sparse form."""


def from_cells(rows: np.ndarray, columns: np.ndarray, values: np.ndarray, n_rows: int) -> csr_array:
    """The sparse form of m cells; those of the same place are added up.

    Args:
        rows: (m,) int.
        columns: (m,) int.
        values: (m,) probabilities.
        n_rows: n.
    """
    block = csr_array((values.astype(np.float64), (rows, columns)), shape=(n_rows, WIDTH))
    block.sum_duplicates()
    block = block.astype(np.float32)
    block.data[block.data < SMALLEST] = 0
    block.eliminate_zeros()
    return block


def n_rows(block: Block) -> int:
    """Rows of a block."""
    return int(block.shape[0])


def finite(block: Block) -> np.ndarray:
    """(n,) bool: rows whose predictions are all finite."""
    if isinstance(block, np.ndarray):
        return np.asarray(np.isfinite(block).all(axis=1))
    good = np.ones(block.shape[0], dtype=bool)
    counts = np.diff(block.indptr)
    good[np.repeat(np.arange(len(good)), counts)[~np.isfinite(block.data)]] = False
    return good


def average(blocks: Blocks) -> Block:
    """Mean of blocks of the same rows."""
    if isinstance(blocks[0], np.ndarray):
        return np.mean(blocks, axis=0)
    return weighted_sum(np.full(len(blocks), 1 / len(blocks)), blocks)


def weighted_sum(weights: np.ndarray, blocks: Blocks) -> Block:
    """Sum of blocks of the same rows, each times its weight.

    Args:
        weights: (M,), or (M, T) where each column of a table has its own.
        blocks: M blocks, or (M, n, T).
    """
    if isinstance(blocks[0], np.ndarray):
        if weights.ndim == 2:
            return np.einsum("mt,mnt->nt", weights, np.asarray(blocks))
        return np.tensordot(weights, np.asarray(blocks), axes=1)
    total = blocks[0] * np.float32(weights[0])
    for weight, block in zip(weights[1:], blocks[1:], strict=True):
        total = total + block * np.float32(weight)
    return total


def stacked(blocks: Sequence[Block]) -> Blocks:
    """Blocks of the same rows behind each other: (M, n, T), or a list of M sparse ones."""
    return np.stack(blocks) if isinstance(blocks[0], np.ndarray) else list(blocks)


def of_rows(blocks: Blocks, rows: np.ndarray) -> Blocks:
    """The same rows of every block."""
    if isinstance(blocks, np.ndarray):
        return blocks[:, rows]
    return [block[rows] for block in blocks]


def blank(n: int, width: int, sparse: bool) -> Block:
    """A block of zeros."""
    return csr_array((n, WIDTH), dtype=np.float32) if sparse else np.zeros((n, width))


def joined(parts: Sequence[tuple[np.ndarray, Block]]) -> Block:
    """One block of parts that hold different rows of it.

    Args:
        parts: (rows of the whole, block of these rows); together every row once.
    """
    order = np.argsort(np.concatenate([rows for rows, _ in parts]), kind="stable")
    blocks = [block for _, block in parts]
    if isinstance(blocks[0], np.ndarray):
        return np.concatenate(blocks)[order]
    return vstack(blocks, format="csr")[order]


def cells(block: Block, columns: np.ndarray) -> np.ndarray:
    """(n,) one cell of each row of a sparse block."""
    return np.asarray(block[np.arange(block.shape[0]), columns], dtype=np.float64)


def largest_difference(first: Block, second: Block) -> float:
    """Largest absolute difference of two blocks of the same rows; nan where one is not finite."""
    apart = abs(first - second)
    if not isinstance(apart, np.ndarray):
        apart = np.append(apart.data, 0.0)
    return float(apart.max(initial=0.0))


def to_columns(prefix: str, names: Sequence[str], block: Block) -> dict[str, Any]:
    """Columns of a table to store: a number per name, or lists of characters and probabilities."""
    if isinstance(block, np.ndarray):
        return {f"{prefix}_{name}": block[:, index] for index, name in enumerate(names)}
    block.sort_indices()
    columns: dict[str, Any] = {}
    for index, name in enumerate(names):
        mine = block.indices % len(names) == index
        counts = np.add.reduceat(np.append(mine, 0), block.indptr[:-1]) if len(mine) else 0
        counts = np.where(np.diff(block.indptr) > 0, counts, 0)
        edges = np.cumsum(counts)
        places = (block.indices[mine] // len(names)).astype(np.int32)
        columns[f"{prefix}_{name}_at"] = _lists(np.split(places, edges)[:-1])
        columns[f"{prefix}_{name}"] = _lists(np.split(block.data[mine], edges)[:-1])
    return columns


def _lists(parts: list[np.ndarray]) -> np.ndarray:
    cells = np.empty(len(parts), dtype=object)
    cells[:] = parts
    return cells


def from_columns(prefix: str, names: Sequence[str], frame: pd.DataFrame) -> Block:
    """The block that `to_columns` laid out, in the frame's row order."""
    if f"{prefix}_{names[0]}_at" not in frame.columns:
        return frame[[f"{prefix}_{name}" for name in names]].to_numpy(dtype=np.float64)
    total = csr_array((len(frame), WIDTH), dtype=np.float32)
    for index, name in enumerate(names):
        places, values = frame[f"{prefix}_{name}_at"].tolist(), frame[f"{prefix}_{name}"].tolist()
        indptr = np.concatenate([[0], np.cumsum([len(cells) for cells in places])])
        columns = np.concatenate([*places, np.zeros(0)]).astype(np.int64) * len(names) + index
        data = np.concatenate([*values, np.zeros(0)]).astype(np.float32)
        total = total + csr_array((data, columns, indptr), shape=total.shape)
    return total


def column_names(prefix: str, names: Sequence[str], sparse: bool) -> list[str]:
    """Columns that `to_columns` makes."""
    plain = [f"{prefix}_{name}" for name in names]
    return [each for name in plain for each in (f"{name}_at", name)] if sparse else plain


def to_arrays(block: Block) -> dict[str, np.ndarray]:
    """The block as plain arrays, for a file of tensors."""
    if isinstance(block, np.ndarray):
        return {"table": block}
    return {"data": block.data, "indices": block.indices, "indptr": block.indptr}


def from_arrays(arrays: Mapping[str, np.ndarray]) -> Block:
    """The block that `to_arrays` took apart."""
    if "table" in arrays:
        return arrays["table"]
    parts = (arrays["data"], arrays["indices"], arrays["indptr"])
    return csr_array(parts, shape=(len(arrays["indptr"]) - 1, WIDTH))
