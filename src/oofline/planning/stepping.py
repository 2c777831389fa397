"""Optimizer steps of a fold, timed and counted on windows that stand for all of an epoch's."""

import time
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from torch.utils.flop_counter import FlopCounterMode

from oofline.planning.calendar import Stretch
from oofline.training.optim import set_rates
from oofline.training.plan import make_plan
from oofline.training.probe import Probe

FEWEST, MOST = 3, 64
"""Timed steps of a stretch."""


@dataclass(frozen=True)
class Stepping:
    """What the steps of one stretch showed; s timed steps.

    Attributes:
        seconds: (s,) of each step.
        tokens: (s,) real tokens of each.
        rows: (s,) rows of each.
        flops_per_token: operations per real token.
        passes: forward passes of a step.
    """

    seconds: np.ndarray
    tokens: np.ndarray
    rows: np.ndarray
    flops_per_token: float
    passes: float

    @property
    def seconds_per_token(self) -> float:
        """Of all timed steps together: long windows weigh more, as they do in an epoch."""
        return float(self.seconds.sum() / self.tokens.sum())

    @property
    def error(self) -> float:
        """Relative standard error of it."""
        rest = self.seconds - self.seconds_per_token * self.tokens
        return float(rest.std() / self.seconds.mean() / np.sqrt(len(rest)))


def evenly(sizes: np.ndarray, most: int) -> np.ndarray:
    """At most ``most`` positions, evenly over the sorted sizes, in an order that ends anywhere.

    Args:
        sizes: (n,) tokens of each window.
        most: how many are wanted.
    """
    n = min(most, len(sizes))
    ranks = ((np.arange(n) + 0.5) / n * len(sizes)).astype(int)
    return np.random.default_rng(0).permutation(np.argsort(sizes, kind="stable")[ranks])


class Stepper:
    """Takes steps of a probe and times them.

    Args:
        probe: the fold before its first step.
        clock: tells the time in seconds.
    """

    def __init__(self, probe: Probe, clock: Callable[[], float] = time.perf_counter) -> None:
        self.probe, self.clock = probe, clock
        self.plan = make_plan(probe.cfg, len(probe.data.rows))

    def windows(self, epoch: int) -> tuple[np.ndarray, np.ndarray]:
        """(w,) real tokens and (w,) rows of each window of an epoch."""
        batches, size = self.probe.steps.batches(epoch), self.probe.cfg.accumulation
        lengths = self.probe.data.tokens.lengths
        windows = [np.concatenate(batches[i : i + size]) for i in range(0, len(batches), size)]
        return (
            np.array([lengths[window].sum() for window in windows]),
            np.array([len(window) for window in windows]),
        )

    def stretch(self, part: Stretch, seconds: float) -> Stepping:
        """Steps of one stretch: the largest to warm up, one that is counted, then timed ones.

        Args:
            part: the stretch; its first epoch stands for all.
            seconds: time for the timed steps; at least `FEWEST` are taken.
        """
        (sizes, rows), scores = self.windows(part.first), list(part.scores)
        first, order = part.first * len(sizes), evenly(sizes, MOST)
        self._take(first + int(np.argmax(sizes)), scores)
        flops, passes = self._count(first + int(order[0]), scores)
        took, until = list[float](), self.clock() + seconds
        for position in order:
            before = self.clock()
            self._take(first + int(position), scores)
            took.append(self.clock() - before)
            if self.clock() >= until and len(took) >= FEWEST:
                break
        timed = order[: len(took)]
        per_token = flops / float(sizes[order[0]])
        return Stepping(np.array(took), sizes[timed], rows[timed], per_token, passes)

    def activations(self) -> int:
        """Bytes that the forward pass of the largest micro-batch keeps for its backward pass.

        Tensors that share memory count once, weights not at all.
        """
        probe = self.probe
        step = probe.step(int(np.argmax(self.windows(0)[0])))
        lengths, kept = probe.data.tokens.lengths, dict[int, int]()
        weights = {p.untyped_storage().data_ptr() for p in probe.model.parameters()}
        largest = max(int(lengths[part].sum()) for part in step.parts)

        def pack(tensor: torch.Tensor) -> torch.Tensor:
            """Count a tensor that autograd keeps."""
            storage = tensor.untyped_storage()
            if storage.data_ptr() not in weights:
                kept[storage.data_ptr()] = storage.nbytes()
            return tensor

        for part, _ in zip(step.parts, step, strict=False):
            if int(lengths[part].sum()) == largest:
                with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
                    outputs = step.forward()
                del outputs
                break
        return sum(kept.values())

    def _take(self, index: int, scores: list[float]) -> None:
        """One optimizer step as training takes it."""
        set_rates(self.probe.optimizer, self.probe.cfg, self.plan, index)
        self.probe.take(index, scores)
        wait_for(self.probe.precision.device)

    def _count(self, index: int, scores: list[float]) -> tuple[float, float]:
        """Operations and forward passes of one step."""
        calls = [0]

        def called(*_: object) -> None:
            """Count a forward pass of the backbone."""
            calls[0] += 1

        hook = self.probe.model.backbone.register_forward_hook(called)
        try:
            with FlopCounterMode(display=False) as counter:
                self._take(index, scores)
        finally:
            hook.remove()
        return float(counter.get_total_flops()), float(calls[0])


def wait_for(device: torch.device) -> None:
    """Wait until a GPU has done what it was given."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)
