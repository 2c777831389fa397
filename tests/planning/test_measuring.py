"""From what was timed and counted to one unit, and to what a GPU would have to do."""

import dataclasses

import pytest
import torch

from oofline.config import CFG
from oofline.planning.calendar import Fold, Rates, Stretch
from oofline.planning.calibration import Calibration
from oofline.planning.measuring import combine, network
from oofline.planning.run import _slowdown
from oofline.training.precision import Precision

RATES = Rates(
    (0.01, 0.02), 1000.0, build_s=3.0, interval_s=0.5, save_s=2.0, write_s=1.0, error=0.02
)
FOUND = Calibration(
    RATES, (100.0, 50.0), (10.0, 5.0), train_flops_per_token=(6e6, 12e6),
    predict_flops_per_token=2e6, passes=(1.0, 2.0), layers=6, fixed_gb=1.0, half_gb=0.1,
    activation_gb=2.0, memory_gb=4.0, state_gb=0.75, model_gb=0.25, row_gb=(3e-6, 1e-6),
    gradient_gb=0.2, steps=20, seconds=30.0,
)  # fmt: skip
PARTS = [Stretch("", 0, 3), Stretch("awp", 3, 1)]
FOLD = Fold(4, 10, 1000, evaluations=2, valid_tokens=500, test_tokens=1000, n_valid=64, n_test=128)
CPU = Precision(torch.device("cpu"), "fp32")


def test_a_unit_is_the_mean_of_its_folds():
    longer = dataclasses.replace(FOLD, train_tokens=3000)
    one = combine(CFG(), PARTS, [FOLD], FOUND, CPU, startup_s=9.0)
    two = combine(CFG(), PARTS, [FOLD, longer], FOUND, CPU, startup_s=9.0)
    seconds = 3 * 10 + 20 + 2000 / 1000 + 3 + 64 * 0.5 + 1
    assert one.unit_s == pytest.approx(seconds)
    assert two.unit_s == pytest.approx(seconds + 50)  # half of the 100 s more
    assert (one.startup_s, one.error, one.memory_gb) == (9.0, 0.02, 4.0)


@pytest.mark.parametrize(
    ("settings", "working"),
    [
        ({}, 0.75), ({"checkpoint": "best"}, 0.75 + 2 * 0.25),
        ({"checkpoint": "average", "average_last": 3}, 0.75 + 4 * 0.25),
    ],
)  # fmt: skip
def test_disk_is_model_predictions_and_meanwhile_the_state_and_further_weights(settings, working):
    found = combine(CFG(**settings), PARTS, [FOLD], FOUND, CPU, 0.0)
    assert found.predictions_gb == pytest.approx(64 * 3e-6 + 128 * 1e-6)
    assert found.kept_gb == pytest.approx(0.25 + found.predictions_gb)
    assert found.working_gb == pytest.approx(working)


def test_operations_are_weighed_by_the_calendar():
    work = network(CFG(eval_batch_size=64), PARTS, FOLD, FOUND, "fp32")
    assert work.train_flops == pytest.approx(3 * 1000 * 6e6 + 1000 * 12e6)
    assert work.predict_flops == pytest.approx(2000 * 2e6)
    assert work.layer_passes == pytest.approx(6 * (3 * 10 + 2 * 10 + (2 * 64 + 128) / 64 / 3))
    assert work.host_s == pytest.approx(3 + 1 + 64 * 0.5)
    assert (work.gradient_gb, work.exchanges) == (0.2, 3 * 10 + 2 * 10)
    assert work.activation_gb == (2.0, 4.0)  # where both passes' tensors are kept at a time
    base = network(CFG(), [Stretch("", 0, 4)], FOLD, dataclasses.replace(
        FOUND, train_flops_per_token=(6e6,), passes=(1.0,)), "fp32")  # fmt: skip
    assert base.train_flops < work.train_flops
    several = network(CFG(accumulation=2), PARTS, FOLD, FOUND, "fp32")
    assert several.exchanges == 25  # once a window, not once a micro-batch


def test_processes_on_one_cpu_divide_its_threads(monkeypatch):
    monkeypatch.setattr(torch, "get_num_threads", lambda: 8)
    assert _slowdown(["cpu"] * 4) == (1.0, pytest.approx(1.4 * 4))
    monkeypatch.setattr(torch, "get_num_threads", lambda: 1)
    assert _slowdown(["cpu", "cpu"]) == (1.0, pytest.approx(1.4))
    assert _slowdown(["cuda:0", "cuda:1"]) is None
