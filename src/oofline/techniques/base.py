"""The protocol of a technique: named no-ops around one optimizer step."""

import contextlib
from collections.abc import Iterator
from typing import Protocol, Self

from torch import Tensor, nn

from oofline.config import CFG
from oofline.results import Task
from oofline.techniques.tally import Tally


class StepView(Protocol):
    """What a technique sees of one optimizer step.

    Iterating goes through the micro-batches of the accumulation window; ``forward``, ``loss_of``
    and ``backward`` act on the micro-batch that the iteration stands at.

    Attributes:
        model: the model in training.
        epoch: epoch index, from 0.
        index: index of the optimizer step, from 0 over all epochs.
        scores: validation scores so far, oldest first.
    """

    model: nn.Module
    epoch: int
    index: int
    scores: list[float]

    def __iter__(self) -> Iterator[None]: ...

    def forward(self) -> tuple[Tensor, Tensor]:
        """Logits (S, C*B, T) float32 and the mean loss of the micro-batch, under autocast.

        C is the largest `Technique.copies`, 1 as a rule; copy c stands in rows c*B to (c+1)*B.
        """

    def loss_of(self, logits: Tensor) -> Tensor:
        """Mean loss of logits (S, C*B, T) against the micro-batch's labels: mean over copies."""

    def scaled(self, loss: Tensor) -> Tensor:
        """The loss times the GradScaler's factor, so that fp16 gradients do not underflow."""

    def backward(self, loss: Tensor) -> None:
        """Add d(loss)/dw to ``.grad``: weighted by the micro-batch's share, and loss-scaled."""

    def adding(self) -> contextlib.AbstractContextManager[None]:
        """Context for every `backward` in ``after_backward``.

        Where several processes share the window, each sees the whole window's gradient in
        ``after_backward`` and goes through its own micro-batches; on leaving the context, what all
        of them added to ``.grad`` stands there, and what stood there before counts once.
        """


class Technique:
    """Base class: every hook does nothing. Subclasses override what they need.

    Order within a step: clean forward, ``extra_loss``, backward (for each micro-batch), then
    ``after_backward``, then gradients are unscaled and clipped once, the optimizer steps, and
    ``after_update``.

    Attributes:
        name: names its figures, its state and its line in scores.json.
        copies: forward passes of every row in the step, each with dropout masks of its own.
        one_pass: whether the copies may run as one larger batch (masks drawn per row).
        tally: what it did; logged every few steps and kept over interruptions.
    """

    name = "technique"
    copies = 1
    one_pass = True

    def __init__(self) -> None:
        self.tally = Tally()

    @classmethod
    def from_cfg(cls, cfg: CFG, task: Task) -> Self | None:
        """The technique as the settings ask for it; None where its strength is 0.

        Raises:
            ConfigError: the settings do not fit the task.
        """
        raise NotImplementedError

    def prepare(self, model: nn.Module) -> None:
        """Change the model before the optimizer is built."""

    def extra_loss(self, step: StepView, logits: Tensor, loss: Tensor) -> Tensor | None:
        """A scalar to add to the micro-batch's loss, or None.

        Args:
            step: standing at the current micro-batch.
            logits: (S, C*B, T) of its clean forward.
            loss: its clean loss.
        """
        return None

    def after_backward(self, step: StepView) -> None:
        """May add to ``.grad``; must restore every weight, also when it raises."""

    def after_update(self, step: StepView) -> None:
        """Runs after the optimizer's step."""

    def evaluating(self, model: nn.Module) -> contextlib.AbstractContextManager[None]:
        """Context in which the model predicts and is saved; leaving it puts everything back."""
        return contextlib.nullcontext()

    def figures(self) -> dict[str, float]:
        """What it did since the last call, by ``<name>/<figure>``, for the log."""
        return {f"{self.name}/{key}": value for key, value in self.tally.recent().items()}

    def verdict(self, finished: bool) -> str | None:
        """Why its setting had no effect, in one line that says what to change; None = it acted.

        Asked every few steps, and with ``finished`` at the end of training, when never having
        begun counts too.
        """
        return None

    def state(self) -> dict[str, Tensor]:
        """Tensors that a resumed fold needs."""
        return self.tally.state()

    def load_state(self, tensors: dict[str, Tensor]) -> None:
        """Take up what `state` gave."""
        self.tally.load_state(tensors)
