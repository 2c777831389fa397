"""Training losses: means over rows, and over the dropout samples of a row."""

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from oofline.config import CFG
from oofline.errors import ConfigError
from oofline.limits import parse_overrides
from oofline.results import Task
from oofline.tasks import LOSSES

RMSE_EPS = 1e-8
"""Keeps the gradient of the square root finite at a perfect prediction."""


class Loss(nn.Module):
    """Mean loss of a batch; the mean is over B rows, T outputs and S dropout samples.

    The loss of every dropout sample is taken first and the losses averaged, not the logits
    (Inoue 2019, arXiv:1905.09788). Class weights multiply the rows and the sum is divided by
    the number of rows, never by the sum of weights: so the mean of micro-batch losses, weighted
    by their rows, is the loss of the whole batch ("rmse" is the exception: a root of a mean
    does not add up). Several targets are averaged with weights whose mean is 1; "rmse" takes the
    root of each target's mean first, so that it is MCRMSE.

    Attributes:
        name: "cross_entropy", "bce", "mse", "huber", "rmse" or "corn".
        row_weights: (K,) float32, weight of a row by its class; (T * 2,) by label and value for
            several labels; empty without class weights.
        target_weights: (T,) float32 with mean 1; empty for equal ones.
    """

    def __init__(
        self,
        name: str,
        smoothing: float = 0.0,
        delta: float = 1.0,
        weights: Tensor | None = None,
        target_weights: Tensor | None = None,
    ) -> None:
        super().__init__()
        self.name, self.smoothing, self.delta = name, smoothing, delta
        self.row_weights: Tensor
        self.target_weights: Tensor
        none = torch.empty(0)
        self.register_buffer("row_weights", none if weights is None else weights)
        self.register_buffer("target_weights", none if target_weights is None else target_weights)

    def forward(self, logits: Tensor, labels: Tensor) -> Tensor:
        """Loss of one batch.

        Args:
            logits: (S, B, T) of any float type; the loss is computed in float32. (S, B, 2, G) for
                spans.
            labels: (B,) int64 class indices; (B, 2) int64 first and last token for spans; (B, T)
                int64 for several labels; (B, T) float for values, standardised as the logits are
                (see `TextModel.encode`). Soft labels are float: (B, K) probabilities of classes or
                steps of a scale, (B, T) of labels.

        Returns:
            () float32.
        """
        if self.name == "cross_entropy":
            return self._cross_entropy(logits.float(), labels).mean()
        if self.name == "corn":
            return self._corn(logits.float(), labels).mean()
        return self._cells(logits.float(), labels).mean()

    def by_target(self, logits: Tensor, labels: Tensor) -> Tensor:
        """(T,) what each of several targets or labels adds: their mean is `forward`'s loss.

        Args:
            logits: (S, B, T), see `forward`.
            labels: (B, T).
        """
        return self._cells(logits.float(), labels).flatten(0, 1).mean(0)

    def _cells(self, logits: Tensor, labels: Tensor) -> Tensor:
        """(S, B, T) losses times the targets' weights; (S, 1, T) for "rmse"."""
        if self.name == "bce":
            cells = self._bce(logits, labels.view(len(labels), -1))
        elif self.name == "huber":
            truth = labels.float().expand_as(logits)
            cells = F.huber_loss(logits, truth, delta=self.delta, reduction="none")
        else:
            cells = (logits - labels.float().expand_as(logits)).square()
        if self.name == "rmse":
            cells = (cells.mean(1, keepdim=True) + RMSE_EPS).sqrt()
        return cells * self.target_weights if self.target_weights.numel() else cells

    def _cross_entropy(self, logits: Tensor, labels: Tensor) -> Tensor:
        """Cross-entropy against (1 - s) on the label and s / K on every class.

        (S, B); of spans (S, B, 2), for the start and the end. Soft labels are the targets.
        """
        soft = labels.is_floating_point()
        targets = labels.expand(logits.shape if soft else logits.shape[:-1])
        rows = F.cross_entropy(
            logits.flatten(0, -2),
            targets.flatten(0, -2 if soft else -1),
            reduction="none",
            label_smoothing=self.smoothing,
        ).view(logits.shape[:-1])
        return rows * self._weights_of(labels) if self.row_weights.numel() else rows

    def _weights_of(self, labels: Tensor) -> Tensor:
        """(B,) class weights; of soft labels the expected ones."""
        if labels.is_floating_point():
            return labels @ self.row_weights
        return self.row_weights[labels]

    def _bce(self, logits: Tensor, labels: Tensor) -> Tensor:
        """(S, B, T) binary cross-entropy against y (1 - s) + s / 2."""
        target = labels.to(logits.dtype) * (1 - self.smoothing) + self.smoothing / 2
        cells = F.binary_cross_entropy_with_logits(
            logits, target.expand_as(logits), reduction="none"
        )
        if not self.row_weights.numel():
            return cells
        negative, positive = self.row_weights.view(-1, 2).T
        return cells * (negative * (1 - labels) + positive * labels)

    def _corn(self, logits: Tensor, labels: Tensor) -> Tensor:
        """(S, B) CORN (Shi, Cao and Raschka 2021, arXiv:2111.08851).

        Logit k says whether y > k among the rows with y >= k (y > k - 1), so that
        P(y > k) = sigmoid(z_0) ... sigmoid(z_k) never rises with k. A row's loss is the sum over
        the K - 1 logits that apply to it of -[y > k] log sigmoid(z_k) - [y <= k] log(1 -
        sigmoid(z_k)). The paper divides the sum over rows by the number of terms; here it is
        divided by rows x (K - 1), which does not depend on how rows fall into micro-batches.
        Of soft labels the expected loss is taken: P(y >= k) in place of whether y >= k.
        """
        applies, beyond = _on_the_way(labels, logits.shape[-1])
        cells = F.binary_cross_entropy_with_logits(
            logits, beyond.to(logits.dtype).expand_as(logits), reduction="none"
        )
        rows = (cells * applies).mean(-1)
        return rows * self._weights_of(labels) if self.row_weights.numel() else rows


def _on_the_way(labels: Tensor, n_steps: int) -> tuple[Tensor, Tensor]:
    """P(y >= k) and P(y > k | y >= k) for k = 0 .. K - 2, each (B, K - 1); 0 and 1 if labels are.

    Args:
        labels: (B,) int64 steps, or (B, K) probabilities of them.
        n_steps: K - 1.
    """
    if not labels.is_floating_point():
        steps = torch.arange(n_steps, device=labels.device)
        return labels[:, None] >= steps, (labels[:, None] > steps)
    tail = labels.flip(-1).cumsum(-1).flip(-1)
    return tail[:, :-1], (tail[:, 1:] / tail[:, :-1].clamp(min=1e-9)).clamp(max=1.0)


def build_loss(cfg: CFG, task: Task, y_train: np.ndarray) -> Loss:
    """The loss of one fold.

    Args:
        cfg: reads loss, label_smoothing, class_weights, target_weights and huber_delta.
        task: what is predicted.
        y_train: (n,) int class indices or (n, T) labels of the fold's training rows; not read for
            values.

    Raises:
        ConfigError: the loss does not fit the task, a class setting is on for values, or
            target_weights names no target.
    """
    fitting = LOSSES[task.link]
    name = fitting[0] if cfg.loss == "auto" else cfg.loss
    if name not in fitting:
        which = f'{task.kind} task (ordinal = "{task.ordinal}")'
        which = which if task.kind == "ordinal" else f"{task.kind} task"
        raise ConfigError(f'loss = "{name}" does not fit a {which}: use "{fitting[0]}"')
    targets = _target_weights(cfg, task)
    if task.link in ("identity", "span"):
        _refuse_class_settings(cfg, task)
        return Loss(name, delta=cfg.huber_delta, target_weights=targets)
    if name == "corn" and cfg.label_smoothing > 0:
        raise ConfigError("label_smoothing does not act on CORN: set it to 0")
    weights = None
    if cfg.class_weights == "balanced":
        columns = y_train.T if y_train.ndim == 2 else [y_train]
        n_classes = len(task.labels)
        weights = torch.from_numpy(
            np.concatenate([balanced_weights(c, n_classes) for c in columns])
        )
    return Loss(name, smoothing=cfg.label_smoothing, weights=weights, target_weights=targets)


def _target_weights(cfg: CFG, task: Task) -> Tensor | None:
    """(T,) with mean 1, or None."""
    named = parse_overrides("target_weights", cfg.target_weights)
    if not named:
        return None
    strange = [name for name in named if name not in task.targets]
    if strange:
        raise ConfigError(
            f"target_weights: {strange[0]} is no target (they are {', '.join(task.targets)})"
        )
    weights = torch.tensor([named.get(name, 1.0) for name in task.targets])
    if weights.sum() == 0:
        raise ConfigError("target_weights: all weights are 0: leave one above 0")
    return weights / weights.mean()


def balanced_weights(y: np.ndarray, n_classes: int) -> np.ndarray:
    """Weight of each class: n / (K * rows of the class), so that classes count the same.

    Args:
        y: (n,) int class indices.
        n_classes: K.

    Returns:
        (K,) float32; a class without rows gets the weight of a class with one row.
    """
    counts = np.bincount(y.astype(np.int64).ravel(), minlength=n_classes)
    return (len(y) / (n_classes * np.maximum(counts, 1))).astype(np.float32)


def _refuse_class_settings(cfg: CFG, task: Task) -> None:
    what = "an ordinal task trained as regression" if task.kind == "ordinal" else f"{task.kind}"
    if cfg.label_smoothing > 0:
        raise ConfigError(f"label_smoothing acts on classes: set it to 0 for {what}")
    if cfg.class_weights != "none":
        raise ConfigError(f'class_weights acts on classes: set "none" for {what}')
