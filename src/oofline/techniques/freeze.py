"""Freezing: the embeddings and the lowest layers keep their pretrained weights."""

from typing import Self

from torch import nn

from oofline.config import CFG
from oofline.errors import ConfigError
from oofline.models.structure import layer_count, parameter_depth
from oofline.models.text_model import TextModel
from oofline.results import Task
from oofline.techniques.base import Technique


class Freeze(Technique):
    """No training for the embeddings and the k lowest layers (as in Lee et al. 2019, 1911.03090).

    Runs before the optimizer is built, so that frozen weights stand in none of its groups and
    weight decay cannot move them. Everything that runs below layer k + 1 is frozen: see
    `oofline.models.structure.parameter_depth`. Frozen weights are saved like all others. Where
    layers share their weights (ALBERT) the groups count as layers.

    Figure: ``frozen_share`` of the model's parameters, once.

    Args:
        layers: k, at least 1.
        fresh: number of re-initialised top layers, which must train.
    """

    name = "freeze"

    def __init__(self, layers: int, fresh: int = 0) -> None:
        super().__init__()
        self.layers, self.fresh = layers, fresh

    @classmethod
    def from_cfg(cls, cfg: CFG, task: Task) -> Self | None:
        """Freeze ``freeze_layers`` layers; None for 0."""
        return cls(cfg.freeze_layers, cfg.reinit_layers) if cfg.freeze_layers else None

    def prepare(self, model: nn.Module) -> None:
        """Switch the gradients off.

        Raises:
            ConfigError: the backbone has fewer layers, or a re-initialised one would be frozen.
        """
        assert isinstance(model, TextModel)
        self._check(type(model.backbone).__name__, layer_count(model.backbone))
        depths = parameter_depth(model.backbone)
        frozen = 0
        for name, parameter in model.backbone.named_parameters():
            if depths[name] <= self.layers:
                parameter.requires_grad_(False)
                frozen += parameter.numel()
        self.tally.add("frozen_share", frozen / sum(p.numel() for p in model.parameters()))

    def verdict(self, finished: bool) -> str | None:
        """No parameter was found to freeze."""
        if self.tally.means().get("frozen_share", 0.0) == 0:
            return "no weight was frozen: set freeze_layers = 0 or choose another model"
        return None

    def _check(self, backbone: str, n_layers: int) -> None:
        if self.layers > n_layers:
            raise ConfigError(
                f"freeze_layers = {self.layers}, but {backbone} has {n_layers} layers: use 1 to "
                f"{n_layers}"
            )
        if self.layers + self.fresh > n_layers:
            raise ConfigError(
                f"freeze_layers = {self.layers} and reinit_layers = {self.fresh} overlap in the "
                f"{n_layers} layers of {backbone}, and random layers would be frozen: lower one"
            )
