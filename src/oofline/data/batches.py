"""Which rows stand together in a batch, and how they are padded."""

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


def sorted_batches(lengths: np.ndarray, batch_size: int) -> list[np.ndarray]:
    """Batches for prediction, longest rows first: the peak of memory comes at once."""
    order = np.argsort(-lengths, kind="stable")
    return [order[i : i + batch_size] for i in range(0, len(order), batch_size)]


def padding_waste(lengths: np.ndarray, batches: list[np.ndarray]) -> float:
    """Share of padding tokens among all tokens computed, 0..1."""
    computed = sum(int(lengths[rows].max()) * len(rows) for rows in batches)
    return 1.0 - float(lengths.sum()) / computed if computed else 0.0


def padding_report(lengths: np.ndarray, batch_size: int, seed: int = 0) -> str:
    """One sentence: how many of the computed tokens are padding, with and without bucketing."""
    ours = padding_waste(lengths, shuffled_batches(lengths, batch_size, seed, 0))
    order = np.random.default_rng(seed).permutation(len(lengths))
    plain = [order[i : i + batch_size] for i in range(0, len(order), batch_size)]
    return (
        f"batches of {batch_size}: {ours:.1%} of the tokens are padding "
        f"({padding_waste(lengths, plain):.1%} without bucketing by length)"
    )


def collate(
    tokens: Tokens, rows: np.ndarray, device: torch.device, multiple: int = 1
) -> tuple[Tensor, Tensor | None]:
    """Pad rows to the longest of the batch.

    Args:
        tokens: the token cache.
        rows: (B,) row indices.
        device: where the tensors go; a copy to a GPU does not wait.
        multiple: the padded length is rounded up to this (8 suits tensor cores).

    Returns:
        ``input_ids`` (B, L) int64 and ``attention_mask`` (B, L) int64, or None in place of the
        mask when no position is padding: attention without a mask is faster.
    """
    lengths = tokens.lengths[rows]
    longest = -(-int(lengths.max()) // multiple) * multiple
    ids = np.full((len(rows), longest), tokens.pad_id, dtype=np.int64)
    for i, row in enumerate(rows):
        ids[i, : lengths[i]] = tokens[row]
    mask = None
    if int(lengths.min()) < longest:
        mask = (np.arange(longest) < lengths[:, None]).astype(np.int64)
    return _to(ids, device), None if mask is None else _to(mask, device)


def _to(array: np.ndarray, device: torch.device) -> Tensor:
    tensor = torch.from_numpy(array)
    if device.type == "cuda":
        return tensor.pin_memory().to(device, non_blocking=True)
    return tensor.to(device)
