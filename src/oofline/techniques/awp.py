"""AWP: adversarial weight perturbation."""

from typing import Self

import torch
from torch import Tensor, nn

from oofline.config import CFG
from oofline.errors import ConfigError
from oofline.results import Task
from oofline.techniques.attack import Attack
from oofline.techniques.delay import Delay


class Awp(Attack):
    """Adversarial weight perturbation (Wu, Xia, Wang 2020, arXiv:2004.05884).

    v = awp_lr * ||w|| * g / ||g|| for each trained matrix (two or more dimensions, "weight" in its
    name: no biases, no norms; embeddings are matrices too), then w + v is clamped to
    w +- awp_eps * |w|. The paper takes only the gradient at w + v (``awp_mode = "replace"``);
    "add" adds it to the clean one, as Kaggle write-ups do.

    While it acts, one more forward and backward pass per micro-batch, and one more copy of the
    matrices (a second one for a moment, for the clamp).

    Args:
        delay: from when on it acts.
        lr: length of v relative to each matrix, above 0.
        eps: largest change of a weight relative to its size; 0 = no clamp.
        replace: drop the clean gradient.
    """

    name = "awp"
    strength = "awp_lr or awp_eps"

    def __init__(self, delay: Delay, lr: float, eps: float, replace: bool) -> None:
        super().__init__(delay, replace)
        self.lr, self.eps = lr, eps

    @classmethod
    def from_cfg(cls, cfg: CFG, task: Task) -> Self | None:
        """None unless ``awp_last_epochs`` or ``awp_start_score`` is set."""
        if not cfg.awp_last_epochs and cfg.awp_start_score is None:
            return None
        delay = Delay.from_cfg(cfg, task, "awp")
        return cls(delay, cfg.awp_lr, cfg.awp_eps, cfg.awp_mode == "replace")

    def targets(self, model: nn.Module) -> list[nn.Parameter]:
        """Trained matrices with "weight" in their name."""
        found = [
            parameter
            for name, parameter in model.named_parameters()
            if parameter.grad is not None
            and parameter.requires_grad
            and parameter.ndim >= 2
            and "weight" in name
        ]
        if not found:
            raise ConfigError(
                "AWP perturbs weight matrices, and none is trained: set body_lr or head_lr above "
                "0, or leave out awp_last_epochs and awp_start_score"
            )
        return found

    def lengths(self, weights: list[Tensor]) -> Tensor:
        """awp_lr * ||w||, (n,)."""
        return self.lr * torch.stack(torch._foreach_norm(weights))

    def limit(self, moves: list[Tensor], weights: list[Tensor]) -> None:
        """Clamp v to +- awp_eps * |w|; rounding is monotone, so this clamps w + v bit for bit."""
        if self.eps == 0:
            return
        bounds = torch._foreach_abs(weights)
        torch._foreach_mul_(bounds, self.eps)
        torch._foreach_minimum_(moves, bounds)
        torch._foreach_neg_(bounds)
        torch._foreach_maximum_(moves, bounds)
