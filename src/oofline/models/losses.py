"""Training losses: means over rows, and over the dropout samples of a row."""

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from oofline.config import CFG
from oofline.errors import ConfigError
from oofline.results import Task

RMSE_EPS = 1e-8
"""Keeps the gradient of the square root finite at a perfect prediction."""

_KINDS = {
    "cross_entropy": ("multiclass",),
    "bce": ("binary",),
    "mse": ("regression",),
    "huber": ("regression",),
    "rmse": ("regression",),
}
_DEFAULTS = {"binary": "bce", "multiclass": "cross_entropy", "regression": "mse"}


class Loss(nn.Module):
    """Mean loss of a batch; the mean is over B rows, T outputs and S dropout samples.

    The loss of every dropout sample is taken first and the losses averaged, not the logits
    (Inoue 2019, arXiv:1905.09788). Class weights multiply the rows and the sum is divided by
    the number of rows, never by the sum of weights: so the mean of micro-batch losses, weighted
    by their rows, is the loss of the whole batch ("rmse" is the exception: a root of a mean
    does not add up).

    Attributes:
        name: "cross_entropy", "bce", "mse", "huber" or "rmse".
        row_weights: (K,) float32, weight of a row by its class; empty without class weights.
    """

    def __init__(
        self, name: str, smoothing: float = 0.0, delta: float = 1.0, weights: Tensor | None = None
    ) -> None:
        super().__init__()
        self.name, self.smoothing, self.delta = name, smoothing, delta
        self.row_weights: Tensor
        self.register_buffer("row_weights", torch.empty(0) if weights is None else weights)

    def forward(self, logits: Tensor, labels: Tensor) -> Tensor:
        """Loss of one batch.

        Args:
            logits: (S, B, T) of any float type; the loss is computed in float32.
            labels: (B,) int64 class indices; for regression (B, T) float, standardised as the
                logits are (see `TextModel.encode`).

        Returns:
            () float32.
        """
        logits = logits.float()
        if self.name == "cross_entropy":
            return self._weighted(self._cross_entropy(logits, labels), labels)
        if self.name == "bce":
            return self._weighted(self._bce(logits, labels), labels)
        labels = labels.float().expand_as(logits)
        if self.name == "huber":
            return F.huber_loss(logits, labels, delta=self.delta)
        if self.name == "mse":
            return F.mse_loss(logits, labels)
        return ((logits - labels).square().mean((1, 2)) + RMSE_EPS).sqrt().mean()

    def _cross_entropy(self, logits: Tensor, labels: Tensor) -> Tensor:
        """(S, B) cross-entropy against (1 - s) on the label and s / K on every class."""
        rows = F.cross_entropy(
            logits.flatten(0, 1),
            labels.repeat(len(logits)),
            reduction="none",
            label_smoothing=self.smoothing,
        )
        return rows.view(logits.shape[:2])

    def _bce(self, logits: Tensor, labels: Tensor) -> Tensor:
        """(S, B) binary cross-entropy against y (1 - s) + s / 2."""
        target = labels.to(logits.dtype) * (1 - self.smoothing) + self.smoothing / 2
        logits = logits.squeeze(-1)
        return F.binary_cross_entropy_with_logits(
            logits, target.expand_as(logits), reduction="none"
        )

    def _weighted(self, rows: Tensor, labels: Tensor) -> Tensor:
        if self.row_weights.numel():
            rows = rows * self.row_weights[labels]
        return rows.mean()


def build_loss(cfg: CFG, task: Task, y_train: np.ndarray) -> Loss:
    """The loss of one fold.

    Args:
        cfg: reads loss, label_smoothing, class_weights and huber_delta.
        task: what is predicted.
        y_train: (n,) int class indices of the fold's training rows; not read for regression.

    Raises:
        ConfigError: the loss does not fit the task, or a class setting is on for regression.
    """
    name = _DEFAULTS[task.kind] if cfg.loss == "auto" else cfg.loss
    if task.kind not in _KINDS[name]:
        raise ConfigError(
            f'loss = "{name}" does not fit a {task.kind} task: use "{_DEFAULTS[task.kind]}"'
        )
    if task.kind == "regression":
        _refuse_class_settings(cfg)
        return Loss(name, delta=cfg.huber_delta)
    weights = None
    if cfg.class_weights == "balanced":
        n_classes = 2 if task.kind == "binary" else task.n_outputs
        weights = torch.from_numpy(balanced_weights(y_train, n_classes))
    return Loss(name, smoothing=cfg.label_smoothing, weights=weights)


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


def _refuse_class_settings(cfg: CFG) -> None:
    if cfg.label_smoothing > 0:
        raise ConfigError("label_smoothing acts on classes: set it to 0 for a regression task")
    if cfg.class_weights != "none":
        raise ConfigError('class_weights acts on classes: set "none" for a regression task')
