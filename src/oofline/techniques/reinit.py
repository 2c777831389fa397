"""Re-initialisation: the top layers of the encoder start afresh."""

from typing import Self

import torch
from torch import nn

from oofline.config import CFG
from oofline.errors import ConfigError
from oofline.models.structure import encoder_layers
from oofline.models.text_model import TextModel
from oofline.results import Task
from oofline.techniques.base import Technique
from oofline.techniques.distance import relative_distance


class Reinit(Technique):
    """Fresh weights for the top k layers (Zhang et al. 2021, arXiv:2006.05987).

    Matrices (linear layers, embeddings inside a layer) are drawn from
    Normal(0, config.initializer_range), biases are 0, weights of norms 1. Values come from torch's
    global generator. Norms and embeddings outside the layers keep their values. Where layers share
    their weights (ALBERT) the groups count as layers.

    Figure: ``relative_change``, ||new - old|| / ||old|| over the parameters of those layers, once.

    Args:
        layers: k, at least 1.
    """

    name = "reinit"

    def __init__(self, layers: int) -> None:
        super().__init__()
        self.layers = layers

    @classmethod
    def from_cfg(cls, cfg: CFG, task: Task) -> Self | None:
        """Re-initialise ``reinit_layers`` layers; None for 0."""
        return cls(cfg.reinit_layers) if cfg.reinit_layers else None

    @torch.no_grad()
    def prepare(self, model: nn.Module) -> None:
        """Draw the new weights.

        Raises:
            ConfigError: the backbone has fewer layers, or one holds a parameter of unknown kind.
        """
        assert isinstance(model, TextModel)
        layers = encoder_layers(model.backbone)
        if self.layers > len(layers):
            raise ConfigError(
                f"reinit_layers = {self.layers}, but {type(model.backbone).__name__} has "
                f"{len(layers)} layers: use 1 to {len(layers)}"
            )
        top = layers[len(layers) - self.layers :]
        old = [parameter.clone() for parameter in top.parameters()]
        for module in top.modules():
            _renew(module, getattr(model.backbone.config, "initializer_range", 0.02))
        self.tally.add("relative_change", relative_distance(list(top.parameters()), old))

    def verdict(self, finished: bool) -> str | None:
        """The weights are what they were."""
        if self.tally.means().get("relative_change", 0.0) == 0:
            return "the layers kept their weights: set reinit_layers = 0 or choose another model"
        return None


def _renew(module: nn.Module, std: float) -> None:
    """Fresh values for the module's own parameters, not for those of its children."""
    for name, parameter in module.named_parameters(recurse=False):
        if "bias" in name:
            parameter.zero_()
        elif parameter.ndim >= 2:
            parameter.normal_(0.0, std)
        elif name == "weight":
            parameter.fill_(1.0)
        else:
            raise ConfigError(
                f"reinit_layers does not know how to start {type(module).__name__}.{name}: set "
                "reinit_layers = 0 or choose another model"
            )
    if isinstance(module, nn.Embedding) and module.padding_idx is not None:
        module.weight[module.padding_idx].zero_()
