"""What a fold learns from: its labelled rows, and soft pseudo-labels where there are any."""

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from oofline.config import CFG
from oofline.models.links import ON_A_SCALE
from oofline.models.losses import Loss
from oofline.models.text_model import TextModel
from oofline.progress import say
from oofline.results import Task
from oofline.training.material import Material
from oofline.training.step import TrainData


class StudentLoss(nn.Module):
    """Mean over rows of the loss, pseudo-labelled rows weighted.

    L = (n_real * loss(real) + weight * n_pseudo * loss(pseudo)) / (n_real + n_pseudo): the sum is
    divided by the number of rows, so micro-batches add up to their window. Loss "rmse" takes the
    root of each part by itself.

    Args:
        loss: of a batch, with soft labels.
        weight: of pseudo-labelled rows; labelled ones have 1.
    """

    def __init__(self, loss: Loss, weight: float) -> None:
        super().__init__()
        self.loss, self.weight = loss, weight

    def forward(self, logits: Tensor, labels: Tensor) -> Tensor:
        """Loss of one batch.

        Args:
            logits: (S, B, T).
            labels: (B, C + 1) float32: soft labels, and last 1 for pseudo-labelled rows, else 0.
        """
        if self.weight == 1.0:
            return self.loss(logits, labels[:, :-1])
        is_pseudo = labels[:, -1] > 0
        total = logits.new_zeros((), dtype=torch.float32)
        for rows, weight in ((~is_pseudo, 1.0), (is_pseudo, self.weight)):
            if rows.any():
                part = self.loss(logits[:, rows], labels[rows, :-1])
                total = total + weight * part * rows.float().mean()
        return total


def lesson(
    cfg: CFG, material: Material, model: TextModel, loss: Loss, labels: Tensor, fold: int
) -> tuple[TrainData, Loss | StudentLoss]:
    """What a fold trains on, and by which loss.

    Args:
        cfg: reads pseudo_weight.
        material: tokens of the n training rows, and behind them of m pseudo-labelled ones.
        model: gives the encoding of values.
        loss: of labelled rows.
        labels: of the n rows, as `TextModel.encode` makes them.
        fold: its training rows, and its own pseudo-labels.
    """
    rows, pseudo = material.folds.train_rows(fold), material.pseudo
    if pseudo is None:
        return TrainData(material.train_tokens, labels, rows), loss
    task, taken = material.competition.task, pseudo.taken[fold]
    say(f"fold {fold}: {len(rows)} labelled and {len(taken)} pseudo-labelled rows")
    real = soft_labels(task, labels)
    soft = soft_predictions(task, model, pseudo.by_fold[fold])
    both = torch.cat([real, soft])
    mark = torch.zeros(len(both), 1)
    mark[len(real) :] = 1.0
    data = TrainData(
        material.train_tokens, torch.cat([both, mark], dim=1),
        np.concatenate([rows, len(real) + taken]),
    )  # fmt: skip
    return data, StudentLoss(loss, cfg.pseudo_weight)


def soft_labels(task: Task, labels: Tensor) -> Tensor:
    """True labels in the form of soft ones.

    Returns:
        (n, T) float32 probabilities or values; (n, K) one-hot for classes and steps of a scale.
    """
    if task.link in ("sigmoid", "identity"):
        return labels.view(len(labels), -1).float()
    return F.one_hot(labels, len(task.labels)).float()


def soft_predictions(task: Task, model: TextModel, pred: np.ndarray) -> Tensor:
    """A teacher's predictions as labels.

    Args:
        task: what is predicted.
        model: of the student; its standardisation is applied to values.
        pred: (m, T) as the files hold them.

    Returns:
        float32: probabilities (m, T) as they are, values standardised; a position on a scale as
        (m, K), split between its two neighbouring steps so that its mean stays.
    """
    if task.link == "identity":
        return torch.from_numpy(model.encode(pred))
    if task.link not in ON_A_SCALE:
        return torch.from_numpy(pred.astype(np.float32))
    steps = np.arange(len(task.labels))
    distance = np.abs(np.clip(pred, 0, steps[-1]) - steps)
    return torch.from_numpy(np.maximum(0.0, 1.0 - distance).astype(np.float32))
