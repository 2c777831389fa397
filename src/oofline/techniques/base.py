"""The protocol of a technique: named no-ops around one optimizer step."""

from collections.abc import Iterator
from typing import Protocol

from torch import Tensor, nn


class StepView(Protocol):
    """What a technique sees of one optimizer step.

    Iterating goes through the micro-batches of the accumulation window; ``forward`` and
    ``backward`` act on the micro-batch that the iteration stands at.
    """

    model: nn.Module
    epoch: int
    index: int

    def __iter__(self) -> Iterator[None]: ...

    def forward(self) -> tuple[Tensor, Tensor]:
        """Logits (S, B, T) float32 and the mean loss of the micro-batch, under autocast."""

    def backward(self, loss: Tensor) -> None:
        """Add d(loss)/dw to ``.grad``: weighted by the micro-batch's share, and loss-scaled."""


class Technique:
    """Base class: every hook does nothing. Subclasses override what they need.

    Order within a step: clean forward, ``extra_loss``, backward (for each micro-batch), then
    ``after_backward``, then gradients are unscaled and clipped once, the optimizer steps, and
    ``after_update``.
    """

    name = "technique"

    def prepare(self, model: nn.Module) -> None:
        """Change the model before the optimizer is built."""

    def extra_loss(self, step: StepView, logits: Tensor, loss: Tensor) -> Tensor | None:
        """A scalar to add to the micro-batch's loss, or None.

        Args:
            step: standing at the current micro-batch.
            logits: (S, B, T) of its clean forward.
            loss: its clean loss.
        """
        return None

    def after_backward(self, step: StepView) -> None:
        """May add to ``.grad``; must restore every weight, also when it raises."""

    def after_update(self, step: StepView) -> None:
        """Runs after the optimizer's step."""

    def figures(self) -> dict[str, float]:
        """What it did since the last call, for the log."""
        return {}

    def state(self) -> dict[str, Tensor]:
        """Tensors that a resumed fold needs."""
        return {}

    def load_state(self, tensors: dict[str, Tensor]) -> None:
        """Take up what `state` gave."""
