"""LoRA: train small additions to the backbone instead of the backbone."""

from typing import Any, Self, cast

import torch
from torch import Tensor, nn

from oofline.config import CFG
from oofline.models.adapters import adapted_layers, add_adapters
from oofline.models.text_model import TextModel
from oofline.results import Task
from oofline.techniques.base import StepView, Technique
from oofline.techniques.distance import DISTANCE_EVERY


class Lora(Technique):
    """Low-rank adaptation (Hu et al. 2021, arXiv:2106.09685), by the peft library.

    See `oofline.models.adapters.add_adapters` for what is added. Everything that acts on trained
    weights acts on the adapters: layer-wise rates and decay, AWP, EMA, freezing of low layers.
    AWP moves a matrix in proportion to its norm, so B (0 at first) moves from its first update on.

    Figures: ``trained_share`` of the model's parameters, once; ``update``, ||(alpha / r) B A|| /
    ||W0|| over all adapted matrices, every `DISTANCE_EVERY` steps.

    Args:
        cfg: the lora settings.
    """

    name = "lora"

    def __init__(self, cfg: CFG) -> None:
        super().__init__()
        self.cfg = cfg
        self.layers: list[Any] = []
        self._pretrained_norm = 0.0

    @classmethod
    def from_cfg(cls, cfg: CFG, task: Task) -> Self | None:
        """LoRA of rank ``lora_r``; None for 0."""
        return cls(cfg) if cfg.lora_r else None

    @torch.no_grad()
    def prepare(self, model: nn.Module) -> None:
        """Add the adapters and freeze the backbone.

        Raises:
            ConfigError: the settings do not fit the backbone.
        """
        add_adapters(model, self.cfg)
        self.layers = adapted_layers(cast(TextModel, model).backbone)
        norms = [_pretrained(layer).norm().double() for layer in self.layers]
        self._pretrained_norm = float(torch.stack(norms).norm())
        backbone, head = cast(TextModel, model).backbone, cast(TextModel, model).head_parameters()
        whole = backbone.num_parameters() + sum(p.numel() for p in head.values())
        trained = sum(p.numel() for p in model.parameters() if p.requires_grad)
        self.tally.add("trained_share", trained / whole)

    def after_update(self, step: StepView) -> None:
        """Take the figure, without waiting for the device."""
        if step.index % DISTANCE_EVERY == 0:
            self.tally.add("update", self._update())

    def verdict(self, finished: bool) -> str | None:
        """The additions are still 0."""
        if finished and float(self._update()) == 0:
            return "the additions to the backbone are still 0: raise lr or body_lr (1e-4 to 5e-4)"
        return None

    @torch.no_grad()
    def _update(self) -> Tensor:
        """||(alpha / r) B A|| / ||W0||, from r x r products: ||BA||^2 = sum(A A' * B' B)."""
        squares = []
        for layer in self.layers:
            a, b = layer.lora_A["default"].weight, layer.lora_B["default"].weight
            scale = layer.scaling["default"]
            squares.append(((a @ a.T) * (b.T @ b)).sum().double() * scale**2)
        return torch.stack(squares).sum().clamp(min=0).sqrt() / max(1e-12, self._pretrained_norm)


def _pretrained(layer: Any) -> Tensor:
    """W0 of an adapted layer, also where it is stored in 4 bits."""
    from peft.utils.integrations import dequantize_module_weight

    return dequantize_module_weight(layer.base_layer)
