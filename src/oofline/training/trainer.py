"""The only training loop.

    while True:
        evaluate, where the plan says so (never twice at one step)
        stop, when all steps are done or patience has run out
        save, when it is time to; leave, when the time limit or Ctrl-C demands it
        one optimizer step:
            for each micro-batch of the window: forward, extra_loss, backward
            after_backward (techniques), unscale, clip, step, after_update (techniques)

States are saved between steps only, so a resumed fold repeats what an uninterrupted one does.
"""

import contextlib
import time

import torch

from oofline.config import CFG
from oofline.progress import Bar
from oofline.techniques import Technique
from oofline.training.evaluation import Evaluates
from oofline.training.gradients import window_gradients
from oofline.training.keeper import Keeper
from oofline.training.optim import set_rates
from oofline.training.plan import Plan
from oofline.training.pulse import Pulse
from oofline.training.step import Step, StepMaker, halve_micro_batch


class Trainer:
    """Trains one fold; see the module's text for the order of things.

    Args:
        cfg: settings.
        plan: calendar.
        steps: makes each optimizer step's window, in a seeded order.
        optimizer: with named groups, see `oofline.training.optim`.
        scaler: loss scaler, a pass-through unless fp16.
        techniques: hooks, in the order in which they act.
        evaluator: model, progress and what happens at an evaluation.
        keeper: saves in time, and leaves in time.
        pulse: reads losses every few steps.
        bar: advanced by one a step.
    """

    def __init__(
        self, cfg: CFG, plan: Plan, steps: StepMaker, optimizer: torch.optim.Optimizer,
        scaler: torch.amp.GradScaler, techniques: list[Technique], evaluator: Evaluates,
        keeper: Keeper, pulse: Pulse, bar: Bar,
    ) -> None:  # fmt: skip
        self.cfg, self.plan, self.steps = cfg, plan, steps
        self.optimizer, self.scaler, self.techniques = optimizer, scaler, techniques
        self.evaluator, self.keeper, self.pulse, self.bar = evaluator, keeper, pulse, bar
        self.progress = evaluator.progress
        self.parameters = [p for group in optimizer.param_groups for p in group["params"]]
        self._longest_step = 0.0

    def run(self) -> None:
        """Train to the end of the plan, or until patience runs out.

        Raises:
            Stopped: time limit or interrupt; the state is saved.
            OoflineError: a loss is not finite, or memory ran out with one row per pass.
        """
        self.evaluator.model.train()
        self.pulse.restart()
        while True:
            if self.evaluator.due(self.plan):
                self.pulse.flush()
                self.keeper.leave_if_out_of_time(self.evaluator.expected_seconds())
                with self.keeper.saving_when_stopped():
                    self.evaluator.evaluate()
                self.pulse.restart()
            if self.progress.stopped or self.progress.step >= self.plan.total_steps:
                return
            self.keeper.leave_if_out_of_time(self._longest_step)
            self.keeper.save_if_due()
            started = time.perf_counter()
            self._optimizer_step()
            seconds = time.perf_counter() - started
            self.progress.seconds += seconds
            self._longest_step = max(self._longest_step, seconds)

    def _optimizer_step(self) -> None:
        progress = self.progress
        scores = [row["score"] for row in progress.history]
        step = self.steps.make(progress.step, progress.micro_batch, scores)
        set_rates(self.optimizer, self.cfg, self.plan, step.index)
        gradients = None
        with contextlib.suppress(torch.OutOfMemoryError):
            gradients = self._gradients(step)
        if gradients is None:  # out of memory; the traceback that held the activations is gone
            halve_micro_batch(progress, step, self.optimizer)
            return
        self.scaler.step(self.optimizer)
        self.scaler.update()
        for technique in self.techniques:
            technique.after_update(step)
        progress.step += 1
        progress.rows_trained += step.n_rows
        self.bar.advance()
        self.pulse.add(step.index, step.window, *gradients)

    def _gradients(self, step: Step) -> tuple[torch.Tensor, torch.Tensor]:
        """Clipped gradients of the window in ``.grad``; returns its loss and gradient norm."""
        return window_gradients(
            step, self.optimizer, self.scaler, self.techniques, self.parameters, self.cfg.clip_norm
        )
