"""What learns in one fold: model, loss, techniques and optimizer, made from the settings."""

from dataclasses import dataclass

import torch
from torch import Tensor

from oofline.config import CFG
from oofline.models.losses import Loss, build_loss
from oofline.models.text_model import TextModel, build_model
from oofline.techniques import Technique, build_techniques
from oofline.training.drift import Drift
from oofline.training.material import Material
from oofline.training.optim import build_optimizer
from oofline.training.precision import Precision
from oofline.training.step import TrainData, training_labels
from oofline.training.student import StudentLoss, lesson


@dataclass(frozen=True)
class Learner:
    """The parts of one fold that a saved state can be loaded into.

    Attributes:
        precision: device and number format.
        model: on the device, pretrained but for its head and what techniques changed.
        loss_function: of validation rows.
        train_loss: of training rows, pseudo-labelled ones weighted.
        techniques: prepared, in the order in which they act.
        optimizer: over the parameters that train.
        scaler: loss scaler, a pass-through unless fp16.
        drift: measures how far the encoder moves from here.
        labels: of all training rows of the competition, as the loss takes them.
        data: tokens, labels and the fold's own training rows.
    """

    precision: Precision
    model: TextModel
    loss_function: Loss
    train_loss: Loss | StudentLoss
    techniques: list[Technique]
    optimizer: torch.optim.Optimizer
    scaler: torch.amp.GradScaler
    drift: Drift
    labels: Tensor
    data: TrainData


def build_learner(cfg: CFG, material: Material, fold: int, precision: Precision) -> Learner:
    """Make the parts of one fold; new weights are drawn from torch's global generator.

    Raises:
        ConfigError: the settings do not fit the encoder or the task.
    """
    task, y = material.competition.task, material.competition.y
    rows = material.folds.train_rows(fold)
    model, loss_function = build_model(cfg, task, y[rows]), build_loss(cfg, task, y[rows])
    techniques = build_techniques(cfg, task)
    for technique in techniques:
        technique.prepare(model)
    model.to(precision.device)
    loss_function.to(precision.device)
    optimizer, drift = build_optimizer(cfg, model), Drift(model)
    labels = training_labels(model, material.train_tokens, y)
    data, train_loss = lesson(cfg, material, model, loss_function, labels, fold)
    return Learner(
        precision, model, loss_function, train_loss, techniques, optimizer, precision.scaler(),
        drift, labels, data,
    )  # fmt: skip
