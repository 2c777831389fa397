"""Predictions in row order, whatever order the batches were in."""

import contextlib
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch

from oofline.blocks import Block, from_cells
from oofline.data.batches import collate, sorted_batches
from oofline.data.tokens import Tokens
from oofline.errors import OoflineError
from oofline.models.text_model import TextModel
from oofline.progress import Bar, say
from oofline.training.precision import Precision
from oofline.training.step import LossFunction
from oofline.training.team import ALONE, Team


@dataclass(frozen=True)
class Predicted:
    """Predictions of n rows.

    Attributes:
        pred: probabilities or values, in the order of the rows asked for: (n, T) float64, or of
            characters (see `oofline.blocks`).
        losses: mean loss over the rows, (1,) or (T,) as the loss function returns; nan without
            labels.
    """

    pred: Block
    losses: np.ndarray

    @property
    def loss(self) -> float:
        """Mean loss over rows and targets."""
        return float(self.losses.mean())


@torch.inference_mode()
def predict(
    model: TextModel, tokens: Tokens, rows: np.ndarray, precision: Precision, batch_size: int,
    labels: torch.Tensor | None = None, loss_function: LossFunction | None = None,
    progress: Bar | None = None, between: Callable[[], None] = lambda: None, orders: int = 1,
    team: Team = ALONE,
) -> Predicted:  # fmt: skip
    """Predict ``rows`` of ``tokens`` in evaluation mode; the model's mode is put back.

    A batch that does not fit into the GPU's memory is halved, and those after it.

    Args:
        model: the model.
        tokens: token cache.
        rows: (n,) row indices.
        precision: device and autocast.
        batch_size: rows per forward pass.
        labels: labels of all rows of ``tokens``, for the loss.
        loss_function: (logits, labels) -> mean loss over the rows, () or (T,).
        progress: advanced by the number of rows of each batch.
        between: called before each batch; may raise to stop.
        orders: 2 averages the predictions of both orders of each pair (``tokens`` must hold them).
        team: processes that share the batches; every one of them gets all predictions.

    Raises:
        Stopped: what ``between`` raised, in every process of the team.
    """
    training = model.training
    model.eval()
    n_rows = len(rows)
    rows = np.concatenate([rows + order * tokens.n_rows for order in range(orders)])
    left = sorted_batches(tokens.lengths[rows], batch_size, tokens.n_windows[rows])
    left = left[team.rank :: team.size][::-1]
    parts: list[tuple[np.ndarray, torch.Tensor]] = []
    loss = torch.zeros((), device=precision.device)
    try:
        with team.together():
            while left:
                between()
                positions = left.pop()
                found, target = None, None
                if labels is not None:
                    target = labels[torch.from_numpy(rows[positions] % tokens.n_rows)]
                with contextlib.suppress(torch.OutOfMemoryError):
                    found = _forward(
                        model, tokens, rows[positions], precision, target, loss_function
                    )
                if found is None:
                    left = _halved([*left, positions], precision)
                    continue
                parts.append((positions, found[0]))
                loss = loss + found[1] * (len(positions) / len(rows))
                if progress is not None:
                    progress.advance(min(len(positions) * team.size, progress.left))
    finally:
        model.train(training)
    read, loss = _read(parts, tokens.spans is None), loss.double().cpu()
    if team.size > 1:
        shares = team.gather((read, loss))
        read, loss = [part for own, _ in shares for part in own], sum(own for _, own in shares)
    losses = np.atleast_1d(loss.numpy() if labels is not None else np.nan)
    if tokens.spans is not None:
        return Predicted(_of_characters(tokens, rows, read), losses)
    pred = np.empty((len(rows), model.n_outputs))
    for positions, values in read:
        pred[positions] = values
    pred = pred.reshape(orders, n_rows, -1).mean(axis=0)
    return Predicted(pred, losses)


def _read(
    parts: list[tuple[np.ndarray, torch.Tensor]], even: bool
) -> list[tuple[np.ndarray, np.ndarray]]:
    """Positions and predictions as arrays.

    Rows of one shape (``even``) are read from the device in one go: reading each batch would make
    a GPU wait.
    """
    if not even:
        return [(positions, part.float().cpu().numpy()) for positions, part in parts]
    if not parts:
        return []
    order = np.concatenate([positions for positions, _ in parts])
    return [(order, torch.cat([part for _, part in parts]).double().cpu().numpy())]


def _of_characters(
    tokens: Tokens, rows: np.ndarray, parts: list[tuple[np.ndarray, np.ndarray]]
) -> Block:
    """Probabilities (B, 2, G) of tokens as those of the characters that they start and end with."""
    cells = [np.zeros((3, 0))]
    for positions, part in parts:
        for position, (starts, ends) in zip(positions, part, strict=True):
            spans = tokens.characters(rows[position])
            columns = np.concatenate([2 * spans[:, 0], 2 * spans[:, 1] - 1])
            values = np.concatenate([starts[: len(spans)], ends[: len(spans)]])
            cells.append(np.stack([np.full(len(columns), position), columns, values]))
    at, columns, values = np.concatenate(cells, axis=1)
    return from_cells(at.astype(np.int64), columns.astype(np.int64), values, len(rows))


def _forward(
    model: TextModel, tokens: Tokens, rows: np.ndarray, precision: Precision,
    target: torch.Tensor | None, loss_function: LossFunction | None,
) -> tuple[torch.Tensor, torch.Tensor]:  # fmt: skip
    """Predictions (B, T), or (B, 2, G), and mean loss, () or (T,), of one batch, on the device."""
    multiple = 8 if precision.device.type == "cuda" else 1
    batch = collate(tokens, rows, precision.device, multiple)
    with precision.autocast():
        logits = model(*batch)
    loss = torch.zeros((), device=precision.device)
    if target is not None and loss_function is not None:
        loss = loss_function(logits, target.to(precision.device))
    return model.predictions(logits), loss


def _halved(batches: list[np.ndarray], precision: Precision) -> list[np.ndarray]:
    """All batches cut in two; an error when the one that failed was a single row."""
    if len(batches[-1]) == 1:
        raise OoflineError(
            "out of GPU memory with one row per forward pass: lower max_len, or take a smaller "
            "model"
        )
    if precision.device.type == "cuda":
        torch.cuda.empty_cache()
    say(f"out of memory while predicting: batches of {len(batches[-1])} rows are halved")
    return [half for batch in batches for half in np.array_split(batch, 2) if len(half)]
