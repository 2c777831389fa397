"""Perplexity on held-out texts, with the same tokens hidden at every evaluation."""

import math
import time
from collections.abc import Callable

import numpy as np
import torch

from oofline.data.batches import collate, sorted_batches
from oofline.data.tokens import Tokens
from oofline.errors import OoflineError
from oofline.models.language_model import LanguageModel
from oofline.training.plan import Plan
from oofline.training.precision import Precision
from oofline.training.state import Progress

MASK_SEED = 0
"""The tokens that are hidden in held-out texts depend on this and the batch size alone."""


class HeldOut:
    """Evaluates a language model for the training loop.

    Args:
        model: the model in training.
        tokens: inputs, those held out first.
        rows: (n,) indices of the held-out inputs.
        precision: device and autocast.
        batch_size: inputs per forward pass.
        progress: updated in place.
        report: takes the history row of each evaluation.
        between: called before each batch; may raise to stop.
    """

    def __init__(
        self, model: LanguageModel, tokens: Tokens, rows: np.ndarray, precision: Precision,
        batch_size: int, progress: Progress, report: Callable[[dict[str, float]], None],
        between: Callable[[], None] = lambda: None,
    ) -> None:  # fmt: skip
        self.model, self.progress, self.report = model, progress, report
        self._tokens, self._rows, self._precision = tokens, rows, precision
        self._batch_size, self.between = batch_size, between
        self._seconds = 0.0

    def due(self, plan: Plan) -> bool:
        """Whether the plan wants an evaluation here that has not been made."""
        return self.progress.step in plan.eval_steps and self.progress.last_eval != (
            self.progress.step
        )

    def expected_seconds(self) -> float:
        """How long the last evaluation took."""
        return self._seconds

    def evaluate(self) -> None:
        """Measure the perplexity and add a row to the history."""
        started, progress = time.perf_counter(), self.progress
        loss = self.loss()
        if not math.isfinite(loss):
            raise OoflineError(
                f"the held-out loss is {loss} at step {progress.step}: lower pretrain_lr, lengthen "
                "warmup_fraction, or use precision = fp32"
            )
        self._seconds = time.perf_counter() - started
        progress.last_eval = progress.step
        progress.seconds += self._seconds
        progress.eval_seconds += self._seconds
        row = {
            "step": float(progress.step),
            "train_loss": progress.loss_sum / max(1, progress.loss_count),
            "valid_loss": loss,
            "score": math.exp(min(loss, 700.0)),
        }
        progress.loss_sum, progress.loss_count = 0.0, 0
        progress.history.append(row)
        self.report(row)

    @torch.inference_mode()
    def loss(self) -> float:
        """Mean -log p in nats over the guessed tokens of the held-out texts."""
        training, device = self.model.training, self._precision.device
        lengths, total = self._tokens.lengths[self._rows], torch.zeros(2, device=device)
        self.model.eval()
        self.model.generator = torch.Generator().manual_seed(MASK_SEED)
        try:
            for positions in sorted_batches(lengths, self._batch_size):
                self.between()
                batch = collate(self._tokens, self._rows[positions], device)
                with self._precision.autocast():
                    total += self.model(*batch)[0].sum(0)
        finally:
            self.model.generator = None
            self.model.train(training)
        found, count = total.double().tolist()
        return found / max(1.0, count)
