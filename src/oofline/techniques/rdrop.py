"""R-Drop: two dropout masks of the same row must predict the same."""

from typing import Self

from torch import Tensor, nn

from oofline.config import CFG
from oofline.errors import ConfigError
from oofline.models.dropout import dropout_values
from oofline.results import Task
from oofline.tasks import Link
from oofline.techniques.base import StepView, Technique
from oofline.techniques.divergence import divergence

ROUNDING = 1e-12
"""Mean divergence up to which the two passes are the same but for float32 rounding."""


class RDrop(Technique):
    """R-Drop (Liang et al. 2021, arXiv:2106.14448).

    Every row passes twice, under two dropout masks: loss = 1/2 (task1 + task2) + alpha * D, with
    D the symmetric `divergence` of the two predictions. The step runs both passes as one doubled
    batch and takes the mean of the two task losses; this technique adds alpha * D. Mixout draws
    one mask per forward pass, so with it the two passes run one after the other.

    Tally: ``divergence`` D, ``added_loss`` alpha * D.

    Args:
        alpha: weight of the divergence, above 0 (0.5 to 5 in the paper).
        link: of the task.
        mixout: whether mixout is on.
    """

    name = "rdrop"
    copies = 2

    def __init__(self, alpha: float, link: Link, mixout: bool = False) -> None:
        super().__init__()
        self.alpha, self.link, self.mixout = alpha, link, mixout
        self.one_pass = not mixout

    @classmethod
    def from_cfg(cls, cfg: CFG, task: Task) -> Self | None:
        """R-Drop where rdrop_alpha is above 0.

        Raises:
            ConfigError: no dropout and no mixout is set, so both passes would be the same.
        """
        if cfg.rdrop_alpha == 0:
            return None
        by_default = cfg.dropout is None and task.link == "identity"
        others = cfg.mixout_p or cfg.dropout_sample_p or cfg.lora_dropout
        if (by_default or cfg.dropout == 0) and not others:
            why = ", which values have by default" if by_default else ""
            raise ConfigError(
                f"rdrop_alpha = {cfg.rdrop_alpha} compares two dropout masks, and dropout is 0"
                f"{why}: set dropout (0.1), mixout_p or dropout_sample_p"
            )
        return cls(cfg.rdrop_alpha, task.link, cfg.mixout_p > 0)

    def prepare(self, model: nn.Module) -> None:
        """Make sure that some dropout of this model acts (ModernBERT's own are all 0).

        Raises:
            ConfigError: every dropout of the model is 0, and mixout is off.
        """
        if not self.mixout and not any(dropout_values(model).values()):
            raise ConfigError(
                f"rdrop_alpha = {self.alpha} compares two dropout masks, and every dropout of this "
                "model is 0 by its own config: set dropout (0.1), mixout_p or dropout_sample_p"
            )

    def extra_loss(self, step: StepView, logits: Tensor, loss: Tensor) -> Tensor:
        """Alpha times the divergence between the two copies in ``logits`` (S, 2*B, T)."""
        first, second = logits.chunk(self.copies, dim=1)
        distance = divergence(first, second, self.link)
        added = self.alpha * distance
        self.tally.add("divergence", distance)
        self.tally.add("added_loss", added)
        return added

    def verdict(self, finished: bool) -> str | None:
        """A line when the two passes predicted the same all the time."""
        distance = self.tally.means().get("divergence")
        if distance is None:
            return "no training step ran under it" if finished else None
        if distance > ROUNDING:
            return None
        return (
            "the two passes of every row predict the same, so no dropout acts: set dropout (0.1) "
            "or mixout_p, or rdrop_alpha = 0"
        )
