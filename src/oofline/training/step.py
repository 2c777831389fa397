"""One optimizer step: a window of micro-batches, with forward and backward done right."""

import contextlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn

from oofline.config import CFG
from oofline.data.batches import Batch, collate, shuffled_batches, split_by_inputs
from oofline.data.shares import share_out
from oofline.data.tokens import Tokens
from oofline.errors import OoflineError
from oofline.models.text_model import TextModel
from oofline.progress import say
from oofline.training.precision import Precision
from oofline.training.state import Progress
from oofline.training.team import ALONE, Team

LossFunction = Callable[[Tensor, Tensor], Tensor]


@dataclass(frozen=True)
class TrainData:
    """What a fold trains on.

    Attributes:
        tokens: token cache of all training rows.
        labels: (n,) int64 classes, (n, T) int64 labels or (n, T) float32 values as the loss takes
            them; (n, 2) int64 first and last token of answers.
        rows: row indices that this fold trains on.
    """

    tokens: Tokens
    labels: Tensor
    rows: np.ndarray


def training_labels(model: TextModel, tokens: Tokens, y: np.ndarray) -> Tensor:
    """What the loss takes as labels: y as the model encodes it, or the tokens of answers.

    Args:
        model: of the fold.
        tokens: of all training rows.
        y: of all training rows.
    """
    return torch.from_numpy(model.encode(y) if tokens.spans is None else tokens.labels(y))


class Step:
    """The window of one optimizer step; iterate it, then call `forward` and `backward`.

    Where a team trains the fold, the iteration goes through this process's share of the window,
    and every loss still counts by its share of the whole window.

    Args:
        model: returns logits (S, B, T).
        loss_function: (logits, labels) -> mean loss over the rows.
        precision: device and autocast.
        scaler: multiplies the loss (fp16).
        data: tokens and labels.
        batches: the window's batches, arrays of row indices.
        micro_batch: most inputs (rows, or their windows) per forward pass; larger batches are
            split.
        epoch: epoch index.
        index: index of the optimizer step.
        scores: validation scores so far.
        copies: forward passes of every row.
        one_pass: run the copies as one larger batch.
        swapped: (n,) bool, the rows whose pair is read in the other order; None = none.
        team: the processes that share the window.

    Attributes:
        window: all batches of the window.
        parts: this process's micro-batches.
        n_rows: rows of the whole window.
    """

    def __init__(
        self, model: nn.Module, loss_function: LossFunction, precision: Precision,
        scaler: torch.amp.GradScaler, data: TrainData, batches: list[np.ndarray],
        micro_batch: int, epoch: int, index: int, scores: list[float] | None = None,
        copies: int = 1, one_pass: bool = True, swapped: np.ndarray | None = None,
        team: Team = ALONE,
    ) -> None:  # fmt: skip
        self.model, self.loss_function = model, loss_function
        self.precision, self.scaler, self.data = precision, scaler, data
        self.epoch, self.index, self.scores = epoch, index, scores or []
        self.copies, self.one_pass, self.swapped = copies, one_pass, swapped
        self.team, self.window = team, batches
        own = share_out(batches, data.tokens.lengths, team.size)[team.rank]
        windows = data.tokens.n_windows
        self.parts = [p for b in own for p in split_by_inputs(b, windows, micro_batch)]
        self.n_rows = sum(len(batch) for batch in batches)
        self._inputs: tuple[Batch, Tensor] | None = None
        self._share = 0.0

    def __iter__(self) -> Iterator[None]:
        multiple = 8 if self.precision.device.type == "cuda" else 1
        for part in self.parts:
            rows = part
            if self.swapped is not None:
                rows = part + self.data.tokens.n_rows * self.swapped[part]
            batch = collate(self.data.tokens, rows, self.precision.device, multiple)
            labels = self.data.labels[torch.from_numpy(part)].to(self.precision.device)
            self._inputs = batch, labels
            self._share = len(part) / self.n_rows
            yield
        self._inputs = None

    def forward(self) -> tuple[Tensor, Tensor]:
        """Logits (S, C*B, T) and mean loss of the micro-batch; C copies one after another."""
        batch, _ = self._current()
        with self.precision.autocast():
            if self.copies == 1:
                logits = self.model(*batch)
            elif self.one_pass:
                logits = self.model(*batch.repeat(self.copies))
            else:
                logits = torch.cat([self.model(*batch) for _ in range(self.copies)], dim=1)
        return logits, self.loss_of(logits)

    def loss_of(self, logits: Tensor) -> Tensor:
        """Mean loss of logits (S, C*B, T) against the current labels, averaged over the copies."""
        labels = self._current()[1]
        losses = [self.loss_function(part, labels) for part in logits.chunk(self.copies, dim=1)]
        return losses[0] if len(losses) == 1 else torch.stack(losses).mean()

    def scaled(self, loss: Tensor) -> Tensor:
        """The loss times the GradScaler's factor (fp16; else unchanged)."""
        return self.scaler.scale(loss)

    def _current(self) -> tuple[Batch, Tensor]:
        if self._inputs is None:
            raise RuntimeError("forward outside of an iteration over the step")
        return self._inputs

    def backward(self, loss: Tensor) -> None:
        """Add the gradient of the loss, weighted by this micro-batch's share of the window's rows.

        The shares sum to 1, so a short last window is divided by its own length.
        """
        self.scaler.scale(loss * self._share).backward()

    @contextlib.contextmanager
    def adding(self) -> Iterator[None]:
        """Context for `backward` once the window's gradient is there; see `StepView.adding`.

        Every process enters it with the same gradient g and adds its own part to g / W.
        """
        if self.team.size == 1:
            yield
            return
        trained = [p for p in self.model.parameters() if p.requires_grad]
        with self.team.together():
            torch._foreach_div_([p.grad for p in trained if p.grad is not None], self.team.size)
            yield
        self.team.add_up_gradients(trained)

    @property
    def share(self) -> float:
        """The current micro-batch's share of the window's rows, 0..1."""
        return self._share


class StepMaker:
    """Makes the steps of a fold; which rows stand in which depends on (seed, epoch) alone.

    Args:
        cfg: batch_size and accumulation.
        model: returns logits (S, B, T).
        loss_function: (logits, labels) -> mean loss over the rows.
        precision: device and autocast.
        scaler: loss scaler.
        data: tokens, labels and rows.
        seed: of the row order.
        copies: forward passes of every row.
        one_pass: run the copies as one larger batch.
        team: the processes that share each window.
    """

    def __init__(
        self, cfg: CFG, model: nn.Module, loss_function: LossFunction, precision: Precision,
        scaler: torch.amp.GradScaler, data: TrainData, seed: int, copies: int = 1,
        one_pass: bool = True, team: Team = ALONE,
    ) -> None:  # fmt: skip
        self.cfg, self.data, self.seed, self.team = cfg, data, seed, team
        self._copies = copies, one_pass
        self._parts = model, loss_function, precision, scaler, data
        self._epoch, self._windows = 0, self._windows_of(0)

    def make(self, index: int, micro_batch: int, scores: list[float] | None = None) -> Step:
        """The step with that index, counted from 0 over all epochs."""
        epoch, position = divmod(index, len(self._windows))
        if epoch != self._epoch:
            self._epoch, self._windows = epoch, self._windows_of(epoch)
        return Step(
            *self._parts, self._windows[position], micro_batch, epoch, index, scores,
            *self._copies, self.swapped(epoch), self.team,
        )  # fmt: skip

    def swapped(self, epoch: int) -> np.ndarray | None:
        """(n,) bool: the pairs that this epoch reads in the other order, half of them by chance.

        None where the tokens hold one order only. It depends on (seed, epoch) alone.
        """
        if self.data.tokens.orders == 1:
            return None
        return np.random.default_rng([self.seed, epoch, 1]).random(self.data.tokens.n_rows) < 0.5

    def batches(self, epoch: int) -> list[np.ndarray]:
        """All batches of an epoch, arrays of row indices."""
        rows = self.data.rows
        lengths = self.data.tokens.lengths[rows]
        return [rows[b] for b in shuffled_batches(lengths, self.cfg.batch_size, self.seed, epoch)]

    def _windows_of(self, epoch: int) -> list[list[np.ndarray]]:
        batches, size = self.batches(epoch), self.cfg.accumulation
        return [batches[i : i + size] for i in range(0, len(batches), size)]


def halve_micro_batch(progress: Progress, step: Step, optimizer: torch.optim.Optimizer) -> None:
    """After running out of memory: half the rows per forward pass, for the same windows.

    Raises:
        OoflineError: it was one row already.
    """
    windows = step.data.tokens.n_windows
    inputs = step.team.most(max((int(windows[part].sum()) for part in step.parts), default=0))
    if step.team.most(max((len(part) for part in step.parts), default=0)) == 1:
        raise OoflineError(
            "out of GPU memory with one row per forward pass: lower max_len or windows, set "
            "gradient_checkpointing, or take a smaller model"
        )
    progress.micro_batch = (inputs + 1) // 2
    optimizer.zero_grad(set_to_none=True)
    if step.precision.device.type == "cuda":
        torch.cuda.empty_cache()
    say(
        f"out of memory at step {step.index}: {progress.micro_batch} rows per forward pass from "
        "here on, more of them per optimizer step, same batches"
    )
