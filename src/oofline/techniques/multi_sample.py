"""Multi-sample dropout: watches that the dropout samples of the head really differ."""

from typing import Self

from torch import Tensor

from oofline.config import CFG
from oofline.results import Task
from oofline.techniques.base import StepView, Technique

ROUNDING = 1e-6
"""Mean spread of logits up to which the samples are the same but for float32 rounding."""


class MultiSample(Technique):
    """Multi-sample dropout (Inoue 2019, arXiv:1905.09788), as a watcher.

    The model draws S dropout masks on the pooled vector before its one output layer, and the loss
    is the mean of the S losses (not the loss of the mean logits, which is weaker): both are in
    place before any technique. This one adds nothing; it proves that the samples differ.

    Tally: ``sample_spread``, the standard deviation (divided by S) of the logits over the samples,
    mean over rows and outputs; ``loss``, the mean of the S losses.
    """

    name = "multi_sample"

    @classmethod
    def from_cfg(cls, cfg: CFG, task: Task) -> Self | None:
        """On where dropout_samples is above 1 (CFG refuses that with dropout_sample_p = 0)."""
        return cls() if cfg.dropout_samples > 1 else None

    def extra_loss(self, step: StepView, logits: Tensor, loss: Tensor) -> None:
        """Count the spread of ``logits`` (S, C*B, T) over S; adds no loss."""
        self.tally.add("sample_spread", logits.detach().float().std(0, correction=0).mean())
        self.tally.add("loss", loss)

    def verdict(self, finished: bool) -> str | None:
        """A line when all samples of a row were the same."""
        spread = self.tally.means().get("sample_spread")
        if spread is None:
            return "no training step ran under it" if finished else None
        if spread > ROUNDING:
            return None
        return (
            "all dropout samples of a row are the same: set dropout_sample_p (0.1 to 0.5) or "
            "dropout_samples = 1"
        )
