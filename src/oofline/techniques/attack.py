"""What AWP and FGM share: the window once more, with weights moved along their gradient."""

import contextlib
from collections.abc import Iterator

import torch
from torch import Tensor, nn

from oofline.techniques.base import StepView, Technique
from oofline.techniques.delay import Delay


@contextlib.contextmanager
def standing_at(parameters: list[nn.Parameter], values: list[Tensor]) -> Iterator[None]:
    """Let the parameters hold other values; leaving puts their own storage back.

    Nothing is copied, so the weights are bit-identical afterwards, also when the body raises.
    A parameter stays the same object: autograd and the optimizer do not notice.

    Args:
        parameters: each once.
        values: tensors of the same shapes, dtypes and device.
    """
    originals = [parameter.data for parameter in parameters]
    try:
        for parameter, value in zip(parameters, values, strict=True):
            parameter.data = value
        yield
    finally:
        for parameter, original in zip(parameters, originals, strict=True):
            parameter.data = original


class Attack(Technique):
    """Base of AWP and FGM: adds the gradient of the loss at w + v, with v along dL/dw.

    After the clean backward of the whole window, ``.grad`` is the gradient of its mean loss; each
    matrix moves by v = length * g / ||g|| (0 where g is 0), every micro-batch of the window runs
    forward and backward there, and the weights are put back before gradients are unscaled and
    clipped and the optimizer steps. The direction does not depend on the loss scale. Dropout
    masks are drawn anew; the loss is the plain one, without other techniques' extra terms.

    A step whose gradient is 0 is left as it is. One whose gradient is not finite is skipped where
    a loss scaler expects that (fp16, the only case in which the device is waited for); without a
    scaler its gradients stay non-finite, on which the loop stops.

    Tally: ``active`` 1 or 0 a step; ``relative_perturbation`` ||v|| / ||w|| over all moved
    matrices, of the v that really stood in the weights; ``loss`` at w + v.

    Args:
        delay: from when on it acts.
        replace: zero the clean gradients first, so that the adversarial ones take their place.

    Attributes:
        strength: settings that lengthen v, for the verdict.
    """

    strength = ""

    def __init__(self, delay: Delay, replace: bool = False) -> None:
        super().__init__()
        self.delay, self.replace = delay, replace
        self._begun = False

    def targets(self, model: nn.Module) -> list[nn.Parameter]:
        """Matrices to move, each once and with a gradient.

        Raises:
            ConfigError: there is none.
        """
        raise NotImplementedError

    def lengths(self, weights: list[Tensor]) -> Tensor | float:
        """||v|| of each matrix: (n,) or one for all."""
        raise NotImplementedError

    def limit(self, moves: list[Tensor], weights: list[Tensor]) -> None:
        """Shorten v in place where single weights would move too far."""

    def after_backward(self, step: StepView) -> None:
        """Attack, unless it is too early or the gradient overflowed."""
        parameters = self.targets(step.model)  # first, so that nothing to move shows at once
        if not self.delay.over(step.epoch, step.scores):
            self.tally.add("active", 0.0)
            return
        self._begun = True
        gradients = [p.grad for p in parameters if p.grad is not None]
        norms = torch.stack(torch._foreach_norm(gradients))
        usable = norms.isfinite().all() & (norms > 0).any()
        scaler_is_on = step.scaled(norms) is not norms
        if scaler_is_on and not usable:
            self.tally.add("active", 0.0)
            return
        moved = self._moved(parameters, gradients, norms)
        if self.replace:
            torch._foreach_zero_([p.grad for p in step.model.parameters() if p.grad is not None])
        with step.adding(), standing_at(parameters, moved):
            for _ in step:
                loss = step.forward()[1]
                step.backward(loss * usable)  # times 0 where the gradient is 0
                self.tally.add("loss", loss)
        self.tally.add("active", usable)
        self._note_distance(moved, [p.data for p in parameters])

    @torch.no_grad()
    def _moved(
        self, parameters: list[nn.Parameter], gradients: list[Tensor], norms: Tensor
    ) -> list[Tensor]:
        """W + v, in new tensors."""
        weights = [parameter.data for parameter in parameters]
        factors = torch.where(norms == 0, 0.0, self.lengths(weights) / norms)
        moves = list(torch._foreach_mul(gradients, list(factors.unbind())))
        self.limit(moves, weights)
        torch._foreach_add_(moves, weights)
        return moves

    @torch.no_grad()
    def _note_distance(self, moved: list[Tensor], weights: list[Tensor]) -> None:
        """Tally how far the weights stood from their own; overwrites ``moved``."""
        torch._foreach_sub_(moved, weights)
        distance, size = (
            torch.stack(torch._foreach_norm(tensors)).norm() for tensors in (moved, weights)
        )
        self.tally.add("relative_perturbation", distance / size)

    def verdict(self, finished: bool) -> str | None:
        """It never began, no gradient could be used, or no weight moved."""
        means = self.tally.means()
        if means.get("active", 0.0) == 0:
            if not finished:
                return None
            return _NO_GRADIENT if self._begun else self.delay.missed()
        if means["relative_perturbation"] == 0:
            return f"no weight moved, the perturbation is too small: raise {self.strength}"
        return None


_NO_GRADIENT = (
    'every gradient that it could have used overflowed or was 0: use precision = "fp32" or "bf16"'
)
