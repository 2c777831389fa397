"""From logits to predictions."""

import torch
from torch import Tensor

from oofline.tasks import Link

ON_A_SCALE: tuple[Link, ...] = ("expected", "corn")
"""Links whose one prediction is a position on a scale."""


def linked(link: Link, logits: Tensor) -> Tensor:
    """Predictions, the mean over S.

    Args:
        link: what the logits mean, see `oofline.tasks.LOSSES`.
        logits: (S, B, T) float32; (S, B, 2, G) of starts and ends among G tokens ("span").

    Returns:
        (B, T) probabilities ("sigmoid", "softmax") or the logits themselves ("identity");
        (B, 1) the expected position on a scale, from 0 for its lowest step ("expected", "corn");
        (B, 2, G) probabilities of each token ("span").
    """
    if link == "sigmoid":
        return logits.sigmoid().mean(0)
    if link in ("softmax", "span"):
        return logits.softmax(-1).mean(0)
    if link == "expected":
        steps = torch.arange(logits.shape[-1], device=logits.device)
        return (logits.softmax(-1) * steps).sum(-1, keepdim=True).mean(0)
    if link == "corn":  # the mean of a count is the sum of P(y > k)
        return logits.sigmoid().cumprod(-1).sum(-1, keepdim=True).mean(0)
    return logits.mean(0)


def linked_width(link: Link, n_logits: int) -> int:
    """Width of the predictions: a scale has one, whatever its logits."""
    return 1 if link in ON_A_SCALE else n_logits
