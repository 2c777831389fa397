"""FGM: the fast gradient method on word embeddings."""

from typing import Any, Self

from torch import Tensor, nn

from oofline.config import CFG
from oofline.errors import ConfigError
from oofline.results import Task
from oofline.techniques.attack import Attack
from oofline.techniques.delay import Delay


class Fgm(Attack):
    """Fast gradient method (Miyato, Dai, Goodfellow 2017, arXiv:1605.07725).

    r = fgm_eps * g / ||g|| on the matrix of word embeddings, which the encoder itself names
    (``get_input_embeddings``); the gradients there are added to the clean ones. g is the gradient
    of the whole window with respect to the matrix, so a word's row moves by what all its
    occurrences say. While it acts, one more forward and backward pass per micro-batch, and one
    more copy of the matrix.

    Args:
        delay: from when on it acts.
        eps: ||r||, above 0.
    """

    name = "fgm"
    strength = "fgm_eps"

    def __init__(self, delay: Delay, eps: float) -> None:
        super().__init__(delay)
        self.eps = eps

    @classmethod
    def from_cfg(cls, cfg: CFG, task: Task) -> Self | None:
        """None where ``fgm_eps`` is 0; always active where no delay is set."""
        return cls(Delay.from_cfg(cfg, task, "fgm"), cfg.fgm_eps) if cfg.fgm_eps else None

    def targets(self, model: nn.Module) -> list[nn.Parameter]:
        """The word embeddings."""
        backbone: Any = model.backbone
        weight = backbone.get_input_embeddings().weight
        if not weight.requires_grad or weight.grad is None:
            raise ConfigError(
                "FGM perturbs the word embeddings, and they are not trained: leave out fgm_eps, "
                "or what freezes them (body_lr = 0, freeze_layers, group_lrs)"
            )
        return [weight]

    def lengths(self, weights: list[Tensor]) -> float:
        """fgm_eps, whatever the size of the matrix."""
        return self.eps
