"""SiFT: predictions must hold when the normalised embeddings are disturbed."""

import functools
from collections.abc import Callable
from typing import Self, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from transformers import PreTrainedModel

from oofline.config import CFG
from oofline.models.structure import embeddings_module
from oofline.models.text_model import TextModel
from oofline.results import Task
from oofline.tasks import Link
from oofline.techniques.base import StepView, Technique
from oofline.techniques.divergence import divergence

VARIANCE_EPS = 1e-12
"""Added to a token's variance, so that the gradient of its root is finite at padding of zeros."""


class Sift(Technique):
    """Scale-invariant fine-tuning (He et al. 2021, arXiv:2006.03654), after VAT (Miyato 2018).

    The loss of a micro-batch becomes loss + lambda * D(f(e), f(e + delta)), where e are the
    normalised embeddings (mean 0 and variance 1 per token, without affine) and D is `divergence`:

    1. delta0 ~ N(0, noise), clamped to +-2 noise; one perturbed forward.
    2. g = dD(clean logits as constants, perturbed logits) / d delta0, by ``autograd.grad`` with
       respect to delta0 alone: no parameter is frozen, no ``.grad`` is written, and no gradient
       of a weight is computed.
    3. delta = delta0 + lr * g / max|g|, the maximum over each token's H values; a token whose g is
       0 or not finite keeps delta0.
    4. A second perturbed forward; lambda * D(clean logits, perturbed logits) is added, with
       gradients through both sides and none through delta.

    The model stays in training mode, so each of the three forwards draws dropout masks of its
    own, as in the authors' code.

    The perturbation is put in front of the embeddings' own normalisation as x + std(x) * delta, x
    being its input. A LayerNorm takes out shift and scale, so that is LayerNorm(e + delta) to
    rounding; and with delta = 0 it is the clean forward bit for bit. Where embeddings have no
    normalisation of their own (decoders: it stands inside each layer, beside the residual stream),
    x is what the embeddings give out.

    Tally: ``divergence`` D of step 4, ``added_loss`` lambda * D, ``relative_perturbation``
    ||delta|| / ||e||, ``ascent_gain`` D of step 4 minus D of step 1 (dropout makes single values
    noisy).

    Args:
        weight: lambda, above 0.
        rate: length of the ascent step per token, in units of normalised embeddings.
        noise: standard deviation of delta0, above 0, in the same units.
        link: of the task.
    """

    name = "sift"

    def __init__(self, weight: float, rate: float, noise: float, link: Link) -> None:
        super().__init__()
        self.weight, self.rate, self.noise, self.link = weight, rate, noise, link
        self._delta_of: Callable[[Tensor], Tensor] | None = None
        self._missed = False

    @classmethod
    def from_cfg(cls, cfg: CFG, task: Task) -> Self | None:
        """SiFT where sift_lambda is above 0."""
        if cfg.sift_lambda == 0:
            return None
        return cls(cfg.sift_lambda, cfg.sift_lr, cfg.sift_noise, task.link)

    def prepare(self, model: nn.Module) -> None:
        """Hook the normalisation that the embeddings pass through, or what they give out."""
        backbone = cast(TextModel, model).backbone
        norm = embedding_norm(backbone)
        if norm is not None:
            norm.register_forward_pre_hook(lambda _, inputs: self._perturb(*inputs))
        else:
            words = embeddings_module(backbone)
            words.register_forward_hook(lambda _module, _inputs, out: self._perturb(out))

    def extra_loss(self, step: StepView, logits: Tensor, loss: Tensor) -> Tensor | None:
        """Lambda times the divergence under perturbed embeddings; two forwards, one half backward.

        None when the hook was not reached, which `verdict` then reports.
        """
        deltas: list[Tensor] = []
        noisy = self._perturbed(step, lambda x: _draw(x, self.noise, deltas))
        if not deltas:
            self._missed = True
            return None
        before = divergence(logits.detach(), noisy, self.link)
        gradients = torch.autograd.grad(step.scaled(before), deltas)
        moved = map(functools.partial(ascend, rate=self.rate), deltas, gradients)
        disturbed = self._perturbed(step, lambda x: self._measured(x, next(moved)))
        after = divergence(logits, disturbed, self.link)
        added = self.weight * after
        self.tally.add("divergence", after)
        self.tally.add("added_loss", added)
        self.tally.add("ascent_gain", after.detach() - before.detach())
        return added

    def verdict(self, finished: bool) -> str | None:
        """A line when no forward pass came by the hook, or the perturbation changed nothing."""
        if self._missed:
            return (
                "the normalisation of the embeddings never runs in this encoder, so nothing could "
                "be perturbed: choose another model or set sift_lambda = 0"
            )
        distance = self.tally.means().get("divergence")
        if distance is None:
            return "no training step ran under it" if finished else None
        if distance > 0:
            return None
        return (
            "perturbed embeddings never changed a prediction: raise sift_noise (1e-2) and sift_lr "
            "(1e-4), or set sift_lambda = 0"
        )

    def _perturbed(self, step: StepView, delta_of: Callable[[Tensor], Tensor]) -> Tensor:
        """Logits (S, C*B, T) of a forward pass with ``delta_of(x)`` on the embeddings."""
        self._delta_of = delta_of
        try:
            return step.forward()[0]
        finally:
            self._delta_of = None

    def _perturb(self, x: Tensor) -> Tensor | None:
        """What the normalisation gets in place of ``x`` (B, L, H); None leaves it as it is."""
        if self._delta_of is None:
            return None
        std = (x.float().var(-1, correction=0, keepdim=True) + VARIANCE_EPS).sqrt()
        return x + std * self._delta_of(x)

    def _measured(self, x: Tensor, delta: Tensor) -> Tensor:
        """``delta``, with its size relative to the normalised ``x`` put into the tally."""
        normalised = F.layer_norm(x.detach().float(), x.shape[-1:], eps=VARIANCE_EPS)
        self.tally.add("relative_perturbation", delta.norm() / normalised.norm())
        return delta


def embedding_norm(backbone: PreTrainedModel) -> nn.Module | None:
    """The normalisation that the embeddings pass through: the first in their module, or None."""
    for module in embeddings_module(backbone).modules():
        name = type(module).__name__
        if isinstance(module, nn.LayerNorm) or name.endswith(("LayerNorm", "RMSNorm")):
            return module
    return None


def ascend(delta: Tensor, gradient: Tensor, rate: float) -> Tensor:
    """Delta one step uphill: delta + rate * g / max|g|, the maximum over each token's H values.

    Args:
        delta: (B, L, H).
        gradient: (B, L, H), times any positive factor. A token whose gradient is 0 or not finite
            (fp16 overflow) keeps its delta.
        rate: length of the step in the inf-norm.

    Returns:
        (B, L, H), without gradient.
    """
    largest = gradient.abs().amax(-1, keepdim=True)
    usable = largest.isfinite() & (largest > 0)
    return delta.detach() + torch.where(usable, rate * gradient / largest, 0.0)


def _draw(x: Tensor, noise: float, drawn: list[Tensor]) -> Tensor:
    """Clamped float32 noise in the shape of ``x``, which is also appended to ``drawn``."""
    delta = noise * torch.randn(x.shape, device=x.device)
    drawn.append(delta.clamp_(-2 * noise, 2 * noise).requires_grad_())
    return delta
