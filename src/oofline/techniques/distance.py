"""How far weights have moved."""

from collections.abc import Sequence

import torch
from torch import Tensor

DISTANCE_EVERY = 10
"""Optimizer steps between two measurements of a distance."""


@torch.no_grad()
def relative_distance(tensors: Sequence[Tensor], references: Sequence[Tensor]) -> Tensor:
    """||a - b|| / ||b|| over all tensors taken as one long vector.

    Takes the difference of one pair at a time, so that no second copy of the weights is made.

    Args:
        tensors: a, of any shapes.
        references: b, of the same shapes.

    Returns:
        () on the device of the tensors; reading it is left to the caller.
    """
    pairs = zip(tensors, references, strict=True)
    moved = torch.stack([torch.dist(tensor, reference) for tensor, reference in pairs])
    size = torch.stack([torch.linalg.vector_norm(reference) for reference in references])
    return moved.norm() / size.norm().clamp_min(1e-30)
