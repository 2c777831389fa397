"""Predictions in row order, whatever order the batches were in."""

from dataclasses import dataclass

import numpy as np
import torch

from oofline.data.batches import collate, sorted_batches
from oofline.data.tokens import Tokens
from oofline.models.text_model import TextModel
from oofline.progress import Bar
from oofline.training.precision import Precision
from oofline.training.step import LossFunction


@dataclass(frozen=True)
class Predicted:
    """Predictions of n rows.

    Attributes:
        pred: (n, T) float64 probabilities or values, in the order of the rows asked for.
        loss: mean loss over the rows, nan without labels.
    """

    pred: np.ndarray
    loss: float


@torch.inference_mode()
def predict(
    model: TextModel, tokens: Tokens, rows: np.ndarray, precision: Precision, batch_size: int,
    labels: torch.Tensor | None = None, loss_function: LossFunction | None = None,
    progress: Bar | None = None,
) -> Predicted:  # fmt: skip
    """Predict ``rows`` of ``tokens`` in evaluation mode; the model's mode is put back.

    Args:
        model: the model.
        tokens: token cache.
        rows: (n,) row indices.
        precision: device and autocast.
        batch_size: rows per forward pass.
        labels: labels of all rows of ``tokens``, for the loss.
        loss_function: (logits, labels) -> mean loss.
        progress: advanced by the number of rows of each batch.
    """
    training = model.training
    model.eval()
    multiple = 8 if precision.device.type == "cuda" else 1
    batches = sorted_batches(tokens.lengths[rows], batch_size)
    parts, loss = [], torch.zeros((), device=precision.device)
    try:
        for positions in batches:
            ids, mask = collate(tokens, rows[positions], precision.device, multiple)
            with precision.autocast():
                logits = model(ids, mask)
            parts.append(model.predictions(logits).double())
            if labels is not None and loss_function is not None:
                target = labels[torch.from_numpy(rows[positions])].to(precision.device)
                loss += loss_function(logits, target) * (len(positions) / len(rows))
            if progress is not None:
                progress.advance(len(positions))
    finally:
        model.train(training)
    pred = np.empty((len(rows), model.output.out_features))
    if batches:
        pred[np.concatenate(batches)] = torch.cat(parts).cpu().numpy()
    return Predicted(pred, float(loss) if labels is not None else float("nan"))
