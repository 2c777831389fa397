"""Mixout: in training, parts of the weights go back to their pretrained values."""

from typing import Self

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from transformers import PreTrainedModel

from oofline.config import CFG
from oofline.errors import ConfigError
from oofline.models.dropout import set_dropout
from oofline.models.structure import encoder_layers
from oofline.models.text_model import TextModel
from oofline.results import Task
from oofline.techniques.base import StepView, Technique
from oofline.techniques.distance import DISTANCE_EVERY, relative_distance


class MixedLinear(nn.Linear):
    """A linear layer whose weight W is mixed with the pretrained W0 in training.

    W' = [M * W + (1 - M) * W0 - p * W0] / (1 - p) with M ~ Bernoulli(1 - p), drawn anew in every
    forward pass. That is W0 + M / (1 - p) * (W - W0), so E[W'] = W and the gradient of W is
    M / (1 - p) times that of W'. The bias is not mixed. In evaluation W is used as it is.

    Attributes:
        pretrained: (out, in) W0; follows ``.to(device)``, absent from the state_dict.
        p: probability of going back, 0 < p < 1.
        per_element: one mask entry per weight instead of one per input column.
        kept: () mean of M / (1 - p) in the last forward pass in training, or None.
    """

    pretrained: Tensor

    def __init__(self, linear: nn.Linear, p: float, per_element: bool) -> None:
        super().__init__(linear.in_features, linear.out_features, bias=False, device="meta")
        self.weight, self.bias = linear.weight, linear.bias  # the same Parameter objects
        self.p, self.per_element = p, per_element
        self.kept: Tensor | None = None
        self.register_buffer("pretrained", linear.weight.detach().clone(), persistent=False)
        self.train(linear.training)

    def forward(self, input: Tensor) -> Tensor:
        """(..., in) -> (..., out)."""
        if not self.training:
            return super().forward(input)
        keep = 1.0 - self.p
        shape = self.weight.shape if self.per_element else (1, self.in_features)
        factor = self.weight.new_empty(shape).bernoulli_(keep).div_(keep)
        self.kept = factor.mean()
        return F.linear(input, torch.lerp(self.pretrained, self.weight, factor), self.bias)


class Mixout(Technique):
    """Mixout (Lee, Cho, Kang 2020, arXiv:1909.11299) on the pretrained layers of the encoder.

    Every linear layer of the transformer layers is mixed: not the embeddings, not the head, not
    layers that were re-initialised (they have no W0 worth going back to) and not frozen ones.
    All dropout of the backbone is turned off.

    Figures: ``mixed_share``, share of columns (or weights) that went back, mean over the mixed
    matrices in the last forward pass of a step; ``distance``, ||W - W0|| / ||W0|| over all mixed
    matrices, every `DISTANCE_EVERY` steps.

    Args:
        p: probability of going back.
        per_element: a mask per weight ("mixconnect") instead of per input column.
        frozen: number of lowest layers that are frozen.
        fresh: number of top layers that were re-initialised.
    """

    name = "mixout"
    one_pass = False
    """A mask belongs to a forward pass, not to a row: copies in one batch would share it."""

    def __init__(
        self, p: float, per_element: bool = False, frozen: int = 0, fresh: int = 0
    ) -> None:
        super().__init__()
        self.p, self.per_element, self.frozen, self.fresh = p, per_element, frozen, fresh
        self.mixed: list[MixedLinear] = []

    @classmethod
    def from_cfg(cls, cfg: CFG, task: Task) -> Self | None:
        """Mixout as ``mixout_p`` and ``mixout_mask`` ask for it; None for ``mixout_p = 0``."""
        if cfg.mixout_p == 0:
            return None
        element = cfg.mixout_mask == "element"
        return cls(cfg.mixout_p, element, cfg.freeze_layers, cfg.reinit_layers)

    def prepare(self, model: nn.Module) -> None:
        """Put a `MixedLinear` in the place of each linear layer; parameters keep their names.

        Must run before a saved state is loaded: the weights found here are W0.

        Raises:
            ConfigError: no layer can be mixed.
        """
        assert isinstance(model, TextModel)
        layers = encoder_layers(model.backbone)
        pretrained = layers[self.frozen : max(0, len(layers) - self.fresh)]
        self.mixed = _replace(pretrained, self.p, self.per_element)
        if not self.mixed:
            raise ConfigError(_nothing_to_mix(model.backbone, len(pretrained)))
        set_dropout(model.backbone, 0.0)

    def after_update(self, step: StepView) -> None:
        """Take the figures, without waiting for the device."""
        kept = [linear.kept for linear in self.mixed if linear.kept is not None]
        if kept:
            self.tally.add("mixed_share", 1.0 - (1.0 - self.p) * torch.stack(kept).mean())
        if step.index % DISTANCE_EVERY == 0:
            self.tally.add("distance", self._distance())

    def verdict(self, finished: bool) -> str | None:
        """Nothing was mixed, or the weights never left the pretrained ones."""
        looks = self.tally.count("mixed_share")
        if finished and not looks:
            return "no mixed layer ran in training: set mixout_p = 0 or choose another model"
        if (finished or looks >= 10) and abs(self.tally.means()["mixed_share"]) < 1e-6:
            return f"mixout_p = {self.p:g} never sent a weight back: raise it (0.1 to 0.9)"
        if finished and float(self._distance()) == 0:
            return "the mixed weights never left their pretrained values: raise lr or body_lr"
        return None

    def _distance(self) -> Tensor:
        return relative_distance(
            [linear.weight for linear in self.mixed], [linear.pretrained for linear in self.mixed]
        )


def _replace(layers: nn.Module, p: float, per_element: bool) -> list[MixedLinear]:
    """Replace linear layers below ``layers``; one that stands in several places stays one.

    Subclasses of nn.Linear are left alone: they may never call their own forward.
    """
    made: dict[nn.Module, MixedLinear] = {}
    for parent in list(layers.modules()):
        for name, child in list(parent.named_children()):
            if type(child) is nn.Linear:
                if child not in made:
                    made[child] = MixedLinear(child, p, per_element)
                setattr(parent, name, made[child])
    return list(made.values())


def _nothing_to_mix(backbone: PreTrainedModel, n_layers: int) -> str:
    if n_layers == 0:
        return (
            "mixout has no layer to act on: every layer is frozen or re-initialised; lower "
            "freeze_layers or reinit_layers, or set mixout_p = 0"
        )
    return (
        f"mixout found no nn.Linear in the layers of {type(backbone).__name__}: set mixout_p = 0 "
        "or choose another model"
    )
