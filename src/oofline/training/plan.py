"""When things happen: steps, epochs, evaluations, learning rates."""

import math
from dataclasses import dataclass

from oofline.config import CFG


@dataclass(frozen=True)
class Plan:
    """The calendar of one fold, in optimizer steps (counted from 0).

    Attributes:
        steps_per_epoch: optimizer steps in one pass over the training rows.
        total_steps: steps in all epochs.
        warmup_steps: steps over which the rate rises.
        eval_steps: numbers of finished steps at which the model is evaluated; the last is the end.
    """

    steps_per_epoch: int
    total_steps: int
    warmup_steps: int
    eval_steps: frozenset[int]


def make_plan(cfg: CFG, n_rows: int) -> Plan:
    """Calendar for ``n_rows`` training rows."""
    batches = math.ceil(n_rows / cfg.batch_size)
    per_epoch = math.ceil(batches / cfg.accumulation)
    total = per_epoch * cfg.epochs
    evaluations = min(total, max(1, round(cfg.epochs * cfg.evals_per_epoch)))
    evals = frozenset(math.ceil(total * i / evaluations) for i in range(1, evaluations + 1))
    return Plan(per_epoch, total, round(cfg.warmup_fraction * total), evals)


def rate_factor(cfg: CFG, plan: Plan, step: int) -> float:
    """Learning rate of a step relative to its peak, 0..1.

    Linear warm-up over the first `warmup_steps`, then linear to 0, cosine with hard restarts
    (Loshchilov, Hutter 2017), or constant. The first step already moves: its factor is
    1 / (warmup_steps + 1), not 0.

    Args:
        cfg: schedule, cosine_cycles.
        plan: calendar of the fold.
        step: index of the optimizer step, from 0.
    """
    if step < plan.warmup_steps:
        return (step + 1) / (plan.warmup_steps + 1)
    progress = (step - plan.warmup_steps) / max(1, plan.total_steps - plan.warmup_steps)
    if cfg.schedule == "linear":
        return 1.0 - progress
    if cfg.schedule == "cosine":
        return 0.5 * (1.0 + math.cos(math.pi * (progress * cfg.cosine_cycles % 1.0)))
    return 1.0
