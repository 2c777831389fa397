"""Which rows stand together in a batch, and how they are padded."""

from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from oofline.data.tokens import Tokens

BATCHES_PER_BUCKET = 50
"""Rows are sorted by length within buckets of this many batches."""


def shuffled_batches(
    lengths: np.ndarray, batch_size: int, seed: int, epoch: int
) -> list[np.ndarray]:
    """Length-bucketed random batches of one epoch, every row once.

    Rows are shuffled, cut into buckets of 50 batches, sorted by length inside each bucket, cut
    into batches, and the batches are shuffled. The order depends on (seed, epoch) alone.

    Args:
        lengths: (n,) tokens per row.
        batch_size: rows per batch; the one short batch stands anywhere.
        seed: training seed.
        epoch: epoch index, from 0.

    Returns:
        Arrays of row positions 0..n-1.
    """
    rng = np.random.default_rng([seed, epoch])
    order = rng.permutation(len(lengths))
    batches: list[np.ndarray] = []
    bucket = batch_size * BATCHES_PER_BUCKET
    for start in range(0, len(order), bucket):
        rows = order[start : start + bucket]
        rows = rows[np.argsort(lengths[rows], kind="stable")]
        batches += [rows[i : i + batch_size] for i in range(0, len(rows), batch_size)]
    return [batches[i] for i in rng.permutation(len(batches))]


def sorted_batches(
    lengths: np.ndarray, batch_size: int, windows: np.ndarray | None = None
) -> list[np.ndarray]:
    """Batches for prediction, longest rows first: the peak of memory comes at once.

    Args:
        lengths: (n,) tokens per row.
        batch_size: inputs per batch: rows, or with ``windows`` their windows (one row at least).
        windows: (n,) windows per row.
    """
    return split_by_inputs(np.argsort(-lengths, kind="stable"), windows, batch_size)


def split_by_inputs(rows: np.ndarray, windows: np.ndarray | None, most: int) -> list[np.ndarray]:
    """Cut rows, in their order, into parts of at most ``most`` inputs, and at least one row.

    Args:
        rows: (m,) row indices.
        windows: (n,) windows of every row; None = 1 each.
        most: inputs per forward pass.
    """
    if windows is None or (windows[rows] == 1).all():
        return [rows[i : i + most] for i in range(0, len(rows), most)]
    parts: list[list[int]] = []
    room = 0
    for row, count in zip(rows.tolist(), windows[rows].tolist(), strict=True):
        if not parts or count > room:
            parts.append([])
            room = most
        parts[-1].append(row)
        room -= count
    return [np.array(part, dtype=np.int64) for part in parts]


def padding_waste(
    lengths: np.ndarray, batches: list[np.ndarray], max_len: int | None = None
) -> float:
    """Share of padding tokens among all tokens computed, 0..1.

    Args:
        lengths: (n,) tokens per row.
        batches: arrays of row indices.
        max_len: rows longer than this are windows of this length.
    """
    limit = int(lengths.max(initial=1)) if max_len is None else max_len
    windows = np.maximum(1, -(-lengths // limit))
    computed = sum(
        min(limit, int(lengths[rows].max())) * int(windows[rows].sum()) for rows in batches
    )
    return 1.0 - float(lengths.sum()) / computed if computed else 0.0


def padding_report(
    lengths: np.ndarray, batch_size: int, seed: int = 0, max_len: int | None = None
) -> str:
    """One sentence: how many of the computed tokens are padding, with and without bucketing."""
    ours = padding_waste(lengths, shuffled_batches(lengths, batch_size, seed, 0), max_len)
    order = np.random.default_rng(seed).permutation(len(lengths))
    plain = [order[i : i + batch_size] for i in range(0, len(order), batch_size)]
    return (
        f"batches of {batch_size}: {ours:.1%} of the tokens are padding "
        f"({padding_waste(lengths, plain, max_len):.1%} without bucketing by length)"
    )


class Batch(NamedTuple):
    """What the model reads, W inputs of B rows; W = B unless rows have several windows.

    Attributes:
        input_ids: (W, L) int64.
        attention_mask: (W, L) int64, or None when no position is padding: attention without a
            mask is faster.
        token_type_ids: (W, L) int64, 1 on the second text of a pair; None without pairs.
        windows: (B,) int64 windows of each row, one row after the other; None = one each.
        places: (B, G, 2) int64, where the tokens of each context stand among the W x L tokens, see
            `oofline.data.passages.places`; None where no answers are looked for.
    """

    input_ids: Tensor
    attention_mask: Tensor | None = None
    token_type_ids: Tensor | None = None
    windows: Tensor | None = None
    places: Tensor | None = None

    def repeat(self, copies: int) -> "Batch":
        """The batch ``copies`` times, one copy after the other."""
        mask, types = (None if t is None else t.repeat(copies, 1) for t in self[1:3])
        windows = None if self.windows is None else self.windows.repeat(copies)
        places = self.places
        if places is not None:
            apart = self.input_ids.numel() * (places >= 0)
            places = torch.cat([places + copy * apart for copy in range(copies)])
        return Batch(self.input_ids.repeat(copies, 1), mask, types, windows, places)


def collate(tokens: Tokens, rows: np.ndarray, device: torch.device, multiple: int = 1) -> Batch:
    """Pad rows, or their windows, to the longest of the batch.

    Args:
        tokens: the token cache.
        rows: (B,) row indices.
        device: where the tensors go; a copy to a GPU does not wait.
        multiple: the padded length is rounded up to this (8 suits tensor cores).
    """
    inputs, counts = [tokens[row] for row in rows], None
    if int(tokens.lengths[rows].max()) > tokens.max_len:
        step = tokens.max_len
        counts = tokens.n_windows[rows]
        inputs = [ids[i : i + step] for ids in inputs for i in range(0, len(ids), step)]
    lengths = np.array([len(ids) for ids in inputs])
    longest = -(-int(lengths.max()) // multiple) * multiple
    table = np.full((len(inputs), longest), tokens.pad_id, dtype=np.int64)
    for i, ids in enumerate(inputs):
        table[i, : lengths[i]] = ids
    positions = np.arange(longest)
    inside = positions < lengths[:, None]
    mask = inside.astype(np.int64) if int(lengths.min()) < longest else None
    types, places = None, None
    if tokens.first is not None:
        first = tokens.first[rows] if counts is None else np.repeat(tokens.first[rows], counts)
        types = (inside & (positions >= first[:, None])).astype(np.int64)
    if tokens.spans is not None:
        places = tokens.places(rows, longest)
    arrays = (mask, types, counts, places)
    given = [None if array is None else _to(array, device) for array in arrays]
    return Batch(_to(table, device), *given)


def _to(array: np.ndarray, device: torch.device) -> Tensor:
    tensor = torch.from_numpy(array)
    if device.type == "cuda":
        return tensor.pin_memory().to(device, non_blocking=True)
    return tensor.to(device)
