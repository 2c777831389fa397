"""A window of batches, shared out to several processes."""

import numpy as np


def share_out(
    batches: list[np.ndarray], lengths: np.ndarray, n_shares: int
) -> list[list[np.ndarray]]:
    """Divide a window's batches into shares of about the same number of padded tokens.

    Whole batches go to one share each, so that the forward passes are those of a single process;
    only where there are fewer batches than shares are they cut, as evenly as possible.

    Args:
        batches: arrays of row indices.
        lengths: (n,) tokens of every row.
        n_shares: W, at least 1.

    Returns:
        W lists of arrays, each in the window's order; empty where there are fewer rows than shares.
    """
    if n_shares == 1:
        return [batches]
    costs = [_cost(batch, lengths) for batch in batches]
    pieces = _cut(batches, costs, n_shares) if len(batches) < n_shares else batches
    costs = [_cost(piece, lengths) for piece in pieces]
    loads, chosen = [0] * n_shares, [list[int]() for _ in range(n_shares)]
    for index in sorted(range(len(pieces)), key=lambda i: -costs[i]):
        least = loads.index(min(loads))
        loads[least] += costs[index]
        chosen[least].append(index)
    return [[pieces[index] for index in sorted(indices)] for indices in chosen]


def _cost(rows: np.ndarray, lengths: np.ndarray) -> int:
    """Tokens of the padded rows."""
    return len(rows) * int(lengths[rows].max())


def _cut(batches: list[np.ndarray], costs: list[int], n_pieces: int) -> list[np.ndarray]:
    """Every batch in as many parts as its cost deserves, ``n_pieces`` in all; none empty."""
    counts = [1] * len(batches)
    for _ in range(n_pieces - len(batches)):
        counts[max(range(len(batches)), key=lambda i: costs[i] / counts[i])] += 1
    cut = (np.array_split(batch, n) for batch, n in zip(batches, counts, strict=True))
    return [piece for pieces in cut for piece in pieces if len(piece)]
