"""Model, data and steps of a fold as `train_fold` makes them, to be tried out."""

import numpy as np
import torch
from torch import Tensor

from oofline.config import CFG
from oofline.models.losses import build_loss
from oofline.models.text_model import build_model
from oofline.techniques import build_techniques
from oofline.training.alive import copies_of
from oofline.training.gradients import window_gradients
from oofline.training.material import Material
from oofline.training.optim import build_optimizer
from oofline.training.precision import choose_precision
from oofline.training.speed import keep_freed_memory
from oofline.training.step import Step, StepMaker, training_labels
from oofline.training.student import lesson


class Probe:
    """Model, optimizer, techniques and order of the rows of one fold, before its first step.

    It writes nothing.

    Args:
        cfg: settings.
        material: of the competition.
        seed: training seed.
        fold: whose validation rows are left out.
    """

    def __init__(self, cfg: CFG, material: Material, seed: int, fold: int) -> None:
        competition, rows = material.competition, material.folds.train_rows(fold)
        self.cfg, self.precision = cfg, choose_precision(cfg)
        keep_freed_memory()
        unit_seed = int(np.random.SeedSequence([seed, fold]).generate_state(1)[0])
        torch.manual_seed(unit_seed)
        self.model = build_model(cfg, competition.task, competition.y[rows])
        self.loss_function = build_loss(cfg, competition.task, competition.y[rows])
        self.techniques = build_techniques(cfg, competition.task)
        for technique in self.techniques:
            technique.prepare(self.model)
        self.model.to(self.precision.device).train()
        self.loss_function.to(self.precision.device)
        self.optimizer, self.scaler = build_optimizer(cfg, self.model), self.precision.scaler()
        self.labels = training_labels(self.model, material.train_tokens, competition.y)
        self.data, loss = lesson(cfg, material, self.model, self.loss_function, self.labels, fold)
        self.steps = StepMaker(
            cfg, self.model, loss, self.precision, self.scaler, self.data, unit_seed,
            *copies_of(self.techniques),
        )  # fmt: skip
        self._parameters = [p for group in self.optimizer.param_groups for p in group["params"]]

    def step(self, index: int, scores: list[float] | None = None) -> Step:
        """The window of a step, counted from 0 over all epochs, not yet taken."""
        return self.steps.make(index, self.cfg.batch_size, scores)

    def take(self, index: int, scores: list[float] | None = None) -> Tensor:
        """Take one optimizer step, at the rates that the optimizer has.

        Args:
            index: of the step, counted from 0 over all epochs.
            scores: validation scores so far, for techniques that wait for one.

        Returns:
            () loss of its window before the step, on the device.
        """
        step = self.step(index, scores)
        loss, _ = window_gradients(
            step, self.optimizer, self.scaler, self.techniques, self._parameters,
            self.cfg.clip_norm,
        )  # fmt: skip
        self.scaler.step(self.optimizer)
        self.scaler.update()
        for technique in self.techniques:
            technique.after_update(step)
        return loss
