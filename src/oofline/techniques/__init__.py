"""Layer 2: one file per technique, plugged into the training loop by its hooks."""

from oofline.config import CFG
from oofline.results import Task
from oofline.techniques.awp import Awp
from oofline.techniques.base import StepView, Technique
from oofline.techniques.ema import Ema
from oofline.techniques.fgm import Fgm
from oofline.techniques.freeze import Freeze
from oofline.techniques.lora import Lora
from oofline.techniques.mixout import Mixout
from oofline.techniques.multi_sample import MultiSample
from oofline.techniques.rdrop import RDrop
from oofline.techniques.reinit import Reinit
from oofline.techniques.sift import Sift

__all__ = ["TECHNIQUES", "StepView", "Technique", "build_techniques"]

TECHNIQUES: tuple[type[Technique], ...] = (
    Reinit, Lora, Freeze, Mixout, RDrop, MultiSample, Sift, Fgm, Awp, Ema,
)  # fmt: skip
"""Every technique, in the order in which they act."""


def build_techniques(cfg: CFG, task: Task) -> list[Technique]:
    """The techniques that the settings switch on, in the order in which they act.

    A technique whose strength is 0 is absent, so the loop never asks whether one is on; the
    default settings build an empty list.
    """
    built = (technique.from_cfg(cfg, task) for technique in TECHNIQUES)
    return [technique for technique in built if technique is not None]
