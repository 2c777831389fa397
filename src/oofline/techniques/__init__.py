"""Layer 2: one file per technique, plugged into the training loop by four hooks."""

from oofline.config import CFG
from oofline.techniques.base import StepView, Technique

__all__ = ["StepView", "Technique", "build_techniques"]


def build_techniques(cfg: CFG) -> list[Technique]:
    """The techniques that the settings switch on, in the order in which they act.

    A technique whose strength is 0 is absent, so the loop never asks whether one is on; the
    default settings build an empty list.
    """
    return []
