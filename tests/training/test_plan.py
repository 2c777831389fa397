import math

import pytest

from oofline.config import CFG
from oofline.training.plan import Plan, make_plan, rate_factor


@pytest.mark.parametrize(
    ("rows", "settings", "per_epoch", "evals"),
    [
        (100, {"batch_size": 10, "epochs": 3}, 10, {10, 20, 30}),
        (101, {"batch_size": 10, "epochs": 1, "accumulation": 4}, 3, {3}),
        (100, {"batch_size": 10, "epochs": 2, "evals_per_epoch": 4}, 10,
         {3, 5, 8, 10, 13, 15, 18, 20}),
        (100, {"batch_size": 10, "epochs": 4, "evals_per_epoch": 0.5}, 10, {20, 40}),
        (100, {"batch_size": 10, "epochs": 3, "evals_per_epoch": 0.1}, 10, {30}),
        (5, {"batch_size": 10, "epochs": 1, "evals_per_epoch": 9}, 1, {1}),
    ],
)  # fmt: skip
def test_calendar(rows, settings, per_epoch, evals):
    plan = make_plan(CFG(**settings), rows)
    assert plan.steps_per_epoch == per_epoch
    assert plan.total_steps == per_epoch * settings["epochs"]
    assert plan.eval_steps == evals
    assert max(plan.eval_steps) == plan.total_steps


def factors(plan, **settings):
    cfg = CFG(**settings)
    return [rate_factor(cfg, plan, step) for step in range(plan.total_steps)]


PLAN = Plan(100, 100, 10, frozenset({100}))


def test_warm_up_is_linear_and_moves_from_the_first_step():
    values = factors(PLAN)
    assert values[:10] == pytest.approx([(i + 1) / 11 for i in range(10)])
    assert values[10] == 1.0


def test_linear_falls_to_zero_after_the_last_step():
    values = factors(PLAN, schedule="linear")
    assert values[10:] == pytest.approx([1 - i / 90 for i in range(90)])


def test_cosine_closed_form_and_restarts():
    once = factors(PLAN, schedule="cosine")
    assert once[10:] == pytest.approx([(1 + math.cos(math.pi * i / 90)) / 2 for i in range(90)])
    thrice = factors(PLAN, schedule="cosine", cosine_cycles=3)
    assert thrice[40] == thrice[70] == pytest.approx(1.0)
    assert thrice[39] < 0.01


def test_constant_stays():
    assert set(factors(PLAN, schedule="constant")[10:]) == {1.0}


def test_warm_up_counts_optimizer_steps_not_batches():
    plan = make_plan(CFG(batch_size=10, accumulation=4, epochs=4, warmup_fraction=0.5), 400)
    assert (plan.total_steps, plan.warmup_steps) == (40, 20)
