"""Answers inside a context: from the states of tokens to logits of where it starts and ends."""

from collections.abc import Sequence

import torch
from torch import Tensor

from oofline.models.pooling import Pooling

NOWHERE = -1e4
"""Logit of what is no token of the context: its probability is 0, and no difference is nan."""


class TokenStates(Pooling):
    """No pooling: the last layer's state of every token."""

    def forward(
        self, hidden_states: Tensor | Sequence[Tensor], attention_mask: Tensor | None = None
    ) -> Tensor:
        """(W, L, H) float32, padding included."""
        states = hidden_states if isinstance(hidden_states, Tensor) else hidden_states[-1]
        return states.float()


def span_logits(logits: Tensor, places: Tensor) -> Tensor:
    """Logits of all windows of a row as one distribution over its context.

    Windows share one normalisation (Clark and Gardner 2018, arXiv:1710.10723): a softmax over all
    context tokens of a row, so that windows compete and their probabilities can be averaged. A
    token that stands in two windows has the sum of its two exponentials.

    Args:
        logits: (S, W, L, 2) of starts and ends, for every token of every window.
        places: (B, G, 2), see `oofline.data.passages.places`.

    Returns:
        (S, B, 2, G), `NOWHERE` behind the last token of a row.
    """
    flat = logits.flatten(1, 2)
    flat = torch.cat([flat, flat.new_full((len(flat), 1, flat.shape[-1]), NOWHERE)], dim=1)
    last = flat.shape[1] - 1
    index = torch.where(places < 0, last, places)
    copies = flat[:, index.flatten()].view(len(flat), *places.shape, flat.shape[-1])
    return torch.logaddexp(copies[..., 0, :], copies[..., 1, :]).transpose(-1, -2)
