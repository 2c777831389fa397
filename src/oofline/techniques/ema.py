"""EMA: predict with an exponential moving average of the weights."""

import contextlib
from collections.abc import Iterator
from typing import Self

import torch
from torch import Tensor, nn

from oofline.config import CFG
from oofline.results import Task
from oofline.techniques.base import StepView, Technique
from oofline.techniques.distance import DISTANCE_EVERY, relative_distance


class Ema(Technique):
    """Exponential moving average of the trainable weights (Polyak, Juditsky 1992).

    The average starts as the weights before the first update. After update t (from 0) it becomes
    d_t * average + (1 - d_t) * weights with d_t = min(decay, (1 + t) / (10 + t)), the warm-up of
    TensorFlow's ``tf.train.ExponentialMovingAverage``, so that the fresh head is soon forgotten.
    Training never sees the average: only evaluation, and what is saved.

    Costs one copy of the trainable weights. Figure: ``distance``, ||average - w|| / ||w||, every
    `DISTANCE_EVERY` steps.

    Args:
        decay: 0 < decay < 1.
    """

    name = "ema"

    def __init__(self, decay: float) -> None:
        super().__init__()
        self.decay = decay
        self._model: nn.Module
        self._weights: list[Tensor] = []
        self._average: dict[str, Tensor] = {}
        self._swapped = False

    @classmethod
    def from_cfg(cls, cfg: CFG, task: Task) -> Self | None:
        """EMA with ``ema_decay``; None for 0."""
        return cls(cfg.ema_decay) if cfg.ema_decay > 0 else None

    def prepare(self, model: nn.Module) -> None:
        """Take note of the model; the average begins with the first update."""
        self._model = model

    def decay_at(self, update: int) -> float:
        """Weight of the old average at an update, counted from 0."""
        return min(self.decay, (1 + update) / (10 + update))

    def after_backward(self, step: StepView) -> None:
        """Before the first update: start from a copy of every weight that trains."""
        if not self._average:
            trained = (pair for pair in self._model.named_parameters() if pair[1].requires_grad)
            self._follow({name: weight.detach().clone() for name, weight in trained})

    @torch.no_grad()
    def after_update(self, step: StepView) -> None:
        """Move the average towards the weights."""
        average = list(self._average.values())
        torch._foreach_lerp_(average, self._weights, 1.0 - self.decay_at(step.index))
        if step.index % DISTANCE_EVERY == 0:
            self.tally.add("distance", relative_distance(average, self._weights))

    @contextlib.contextmanager
    def evaluating(self, model: nn.Module) -> Iterator[None]:
        """The model holds the average inside; storages are exchanged, nothing is copied.

        Entering it again inside changes nothing.
        """
        if self._swapped:
            yield
            return
        self._swap()
        try:
            yield
        finally:
            self._swap()

    def verdict(self, finished: bool) -> str | None:
        """At the end, the average is exactly the weights."""
        if not finished:
            return None
        average = list(self._average.values())
        if average and float(relative_distance(average, self._weights)) > 0:
            return None
        return (
            f"the average equals the weights: raise ema_decay (now {self.decay:g}; 0.99 to "
            "0.9999), or lr if nothing was trained"
        )

    def state(self) -> dict[str, Tensor]:
        """The average by ``average.<parameter>``, and the tally; not to be called inside the view.

        Raises:
            RuntimeError: called inside `evaluating`, when weights and average have changed places.
        """
        if self._swapped:
            raise RuntimeError("the state was asked for while the model holds the average")
        average = {f"average.{name}": tensor for name, tensor in self._average.items()}
        return super().state() | average

    @torch.no_grad()
    def load_state(self, tensors: dict[str, Tensor]) -> None:
        """Take up what `state` gave."""
        super().load_state(tensors)
        weights = self._model.named_parameters()  # their order; a file has another
        saved = {n: (w, tensors[f"average.{n}"]) for n, w in weights if f"average.{n}" in tensors}
        self._follow({n: torch.empty_like(w).copy_(value) for n, (w, value) in saved.items()})

    def _follow(self, average: dict[str, Tensor]) -> None:
        """Pair each average with its parameter."""
        weights = dict(self._model.named_parameters())
        self._weights = [weights[name] for name in average]
        self._average = average

    def _swap(self) -> None:
        self._swapped = not self._swapped
        for weight, average in zip(self._weights, self._average.values(), strict=True):
            weight.data, average.data = average.data, weight.data
