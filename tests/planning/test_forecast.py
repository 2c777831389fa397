"""The arithmetic from one fold to minutes, memory and disk on a machine."""

import dataclasses

import pytest

from oofline.planning.fold_on import (
    CONTEXT_GB,
    LAUNCH_S,
    TURNS,
    UTILISATION,
    Measured,
    Network,
    device_memory,
    gpu_memory,
    unit_seconds,
)
from oofline.planning.forecast import ESTIMATED, MEASURED, PARTLY, Jobs, forecast
from oofline.planning.machines import GPUS, KAGGLE, Machine

NETWORK = Network(
    train_flops=6e15, predict_flops=0.5e15, layer_passes=1000, host_s=10.0, fixed_gb=2.0,
    activation_gb=(3.0, 4.0), precision="auto", format="bf16", half_gb=0.25, gradient_gb=1.5,
    exchanges=2000,
)  # fmt: skip
ONE = Measured(
    "CPU", startup_s=20.0, unit_s=600.0, error=0.0, kept_gb=0.5, predictions_gb=0.1,
    working_gb=1.5, memory_gb=3.0, room_gb=8.0, network=NETWORK,
)  # fmt: skip
HERE = Machine("here", 1)
GPU = dataclasses.replace(ONE, is_cpu=False)


def test_one_process_does_one_fold_after_the_other():
    found = forecast(ONE, Jobs(10), HERE)
    assert found.basis == MEASURED
    assert found.minutes[0] < 100.3 < found.minutes[1]
    assert found.minutes[1] / found.minutes[0] == pytest.approx(1.21, rel=0.02)  # 10 % each way
    noisy = forecast(dataclasses.replace(ONE, error=0.2), Jobs(10), HERE)
    assert noisy.minutes[1] > found.minutes[1]
    assert noisy.minutes[0] < found.minutes[0]
    assert found.disk_gb == pytest.approx(5.0)
    assert found.peak_disk_gb == pytest.approx(6.5)
    assert found.memory_gb == (3.0, 4.5)  # a process grows
    on_gpu = forecast(dataclasses.replace(ONE, is_cpu=False), Jobs(10), HERE)
    assert on_gpu.memory_gb == (3.0, pytest.approx(3.3))


@pytest.mark.parametrize(("units", "slots", "rounds"), [(10, 4, 3), (3, 8, 1), (8, 8, 1)])
def test_side_by_side_there_are_rounds(units, slots, rounds):
    found = forecast(ONE, Jobs(units), Machine("n", slots), overhead_s=1.0)
    low, high = unit_seconds(ONE, HERE)
    assert found.minutes[0] == pytest.approx((14 + rounds * low) / 60)
    assert found.minutes[1] == pytest.approx((30 + rounds * high + units) / 60)  # and the overhead


def test_the_folds_of_a_trial_follow_each_other():
    assert Jobs(5, 30).n_folds == 150
    assert Jobs(5, 30).rounds(4) == 8 * 5
    dropped = forecast(ONE, Jobs(5, 30), HERE)
    assert forecast(ONE, Jobs(150), HERE).disk_gb == pytest.approx(75)
    assert dropped.disk_gb == pytest.approx(15)  # the predictions alone
    assert dropped.peak_disk_gb == pytest.approx(15 + 1.5 + 0.4)  # one fold's model is there


def test_processes_that_divide_a_cpu_are_slower_and_share_its_memory():
    alone = forecast(ONE, Jobs(4), Machine("2", 2))
    shared = forecast(ONE, Jobs(4), Machine("2", 2), slowdown=(1.0, 2.8))
    assert shared.minutes[0] == pytest.approx(alone.minutes[0])
    assert shared.minutes[1] > 2.5 * alone.minutes[1]
    assert shared.memory_gb == (6.0, 9.0)  # of the whole machine


def test_another_gpu_takes_its_operations_over_a_share_of_its_peak():
    low, high = unit_seconds(ONE, Machine("one", 1, GPUS["T4"]))
    assert low == pytest.approx(6.5e15 / (65e12 * UTILISATION[1]) + 5)
    assert high == pytest.approx(6.5e15 / (65e12 * UTILISATION[0]) + 20)
    fp32 = dataclasses.replace(ONE, network=dataclasses.replace(NETWORK, precision="fp32"))
    assert unit_seconds(fp32, Machine("one", 1, GPUS["T4"]))[0] > 7 * low
    assert unit_seconds(ONE, Machine("one", 1, GPUS["A100"]))[1] < high


def test_no_gpu_is_faster_than_its_kernels_can_be_started():
    small = dataclasses.replace(NETWORK, train_flops=1e9, predict_flops=0, layer_passes=1e5)
    low, high = unit_seconds(
        dataclasses.replace(ONE, network=small), Machine("one", 1, GPUS["H100"])
    )
    assert low == pytest.approx(1e5 * LAUNCH_S[0] + 5)
    assert high == pytest.approx(1e5 * LAUNCH_S[1] + 20)


def test_every_estimate_is_a_range_and_says_so():
    for machine in KAGGLE:
        found = forecast(ONE, Jobs(5), machine)
        assert found.basis == ESTIMATED
        assert found.minutes[1] > 1.5 * found.minutes[0]
        assert found.fold_minutes[1] > found.fold_minutes[0]


def test_memory_is_the_sum_of_its_parts():
    low, high = gpu_memory(NETWORK, GPUS["T4"])
    assert low == pytest.approx(2.0 + 3.0 + CONTEXT_GB[0])
    assert high == pytest.approx(2.0 + 0.25 + 1.2 * 4.0 + CONTEXT_GB[1])
    single = dataclasses.replace(NETWORK, format="fp32")  # fp16 there: activations are halved
    assert gpu_memory(single, GPUS["T4"])[0] == pytest.approx(2.0 + 1.5 + CONTEXT_GB[0])


@pytest.mark.parametrize(
    ("activations", "note"),
    [
        ((20.0, 30.0), "does not fit into memory"),
        ((10.0, 14.0), "may not fit into memory"),
        ((1.0, 2.0), "fits into one session"),
    ],
)
def test_what_does_not_fit_into_memory_is_said(activations, note):
    network = dataclasses.replace(NETWORK, activation_gb=activations)
    found = forecast(dataclasses.replace(ONE, network=network), Jobs(1), KAGGLE[0])
    assert note in found.notes[0]


@pytest.mark.parametrize(
    ("times", "folds", "notes"),
    [
        (1, 5, ["fits into one session"]),
        (10, 5, ["1-4 sessions of 12 h", "may be more than the 30 h"]),
        (1000, 5, ["sessions of 12 h", "is more than the 30 h of a week"]),
        (1, 60, ["32 GB are more than the 20 GB of an output"]),
    ],
)
def test_kaggles_limits_are_said(times, folds, notes):
    network = dataclasses.replace(
        NETWORK, train_flops=times * NETWORK.train_flops, host_s=0.0, layer_passes=0
    )
    found = forecast(dataclasses.replace(ONE, network=network), Jobs(folds), KAGGLE[1])
    text = "; ".join(found.notes)
    assert [note for note in notes if note not in text] == [], text


def test_limits_of_kaggle_hold_on_kaggle_alone():
    network = dataclasses.replace(NETWORK, train_flops=1e20)
    found = forecast(
        dataclasses.replace(ONE, network=network), Jobs(5), Machine("T4", 1, GPUS["T4"])
    )
    assert found.notes == ()


def test_folds_that_share_a_gpu_fill_its_gaps_or_take_turns():
    """At best nothing slows down, at worst two folds are no faster than one after the other."""
    alone = unit_seconds(GPU, Machine("one", 1))
    halves = Machine("halves", 1, gpus_per_fold=0.5)
    assert unit_seconds(GPU, halves, 2) == (alone[0], pytest.approx(alone[1] * 2 * TURNS))
    found = forecast(GPU, Jobs(4), halves)  # two rounds of two
    assert found.minutes[0] == pytest.approx((14 + 2 * alone[0]) / 60)
    assert found.minutes[1] == pytest.approx((30 + 2 * 2 * TURNS * alone[1]) / 60)
    assert found.memory_gb == (pytest.approx(6.0), pytest.approx(6.6))  # of both
    assert found.basis == PARTLY
    assert "2 folds at a time share a GPU" in found.notes[0]
    one_fold = forecast(GPU, Jobs(1), halves)
    assert one_fold == dataclasses.replace(forecast(GPU, Jobs(1), HERE), machine="halves")


def test_the_folds_on_a_gpu_do_not_exceed_its_peak_together():
    share = Machine("shares", 1, GPUS["T4"], gpus_per_fold=0.5)
    low = unit_seconds(GPU, share, 2)[0]
    assert low == pytest.approx(2 * 6.5e15 / (65e12 * UTILISATION[1]) + 5)
    launching = dataclasses.replace(
        GPU, network=dataclasses.replace(NETWORK, train_flops=1e9, predict_flops=0)
    )  # kernels of two folds are started by two processes
    assert unit_seconds(launching, share, 2)[0] == unit_seconds(launching, share, 1)[0]


def test_folds_spread_over_all_gpus_before_they_share_one():
    machine = Machine("4", 4, gpus_per_fold=0.5)
    assert machine.slots == 8
    assert [machine.sharing(n) for n in (1, 4, 5, 8)] == [1, 1, 2, 2]
    assert forecast(GPU, Jobs(4), machine).basis == MEASURED


def test_gpus_that_share_a_fold_divide_its_work_at_best():
    """At worst they are no faster than one, and wait for the gradients and for new processes."""
    pair = Machine("pair", 2, gpus_per_fold=2)
    alone, low_high = unit_seconds(GPU, Machine("one", 1)), unit_seconds(GPU, pair)
    assert low_high[0] == pytest.approx(10 + (alone[0] - 10) / 2 + 1.5 * 2000 / 100)
    assert low_high[1] == pytest.approx(alone[1] + 1.5 * 2000 / 3)
    found = forecast(GPU, Jobs(3), pair)  # one after the other, each starting its processes
    assert found.minutes[0] == pytest.approx((3 * 14 + 3 * low_high[0]) / 60)
    assert found.minutes[1] == pytest.approx((3 * 30 + 3 * low_high[1]) / 60)
    assert found.memory_gb == (pytest.approx(2.0 + 1.0 / 2), pytest.approx(3.3))
    assert found.basis == PARTLY
    assert "2 GPUs train a fold together" in found.notes[0]
    there = [unit_seconds(GPU, Machine("t", n, GPUS["T4"], gpus_per_fold=n)) for n in (1, 2)]
    assert there[1][0] == pytest.approx((there[0][0] - 5) / 2 + 5 + 1.5 * 2000 / 100)
    assert there[1][1] == pytest.approx(there[0][1] + 1.5 * 2000 / 3)


def test_gpus_that_are_left_over_are_said():
    machine = Machine("5 x A100", 5, GPUS["A100"], gpus_per_fold=2)
    assert machine.slots == 2
    assert "1 of 5 GPUs would do nothing" in forecast(GPU, Jobs(4), machine).notes
    assert Machine("1 x A100", 1, GPUS["A100"], gpus_per_fold=2).slots == 0


def test_weights_stand_on_every_gpu_of_a_fold():
    low, high = gpu_memory(NETWORK, GPUS["T4"], joined=2)
    assert low == pytest.approx(2.0 + 1.5 + CONTEXT_GB[0])
    assert high == gpu_memory(NETWORK, GPUS["T4"])[1]
    shared = device_memory(GPU, Machine("t", 1, GPUS["T4"], gpus_per_fold=0.5), sharing=2)
    assert shared[0][0] == pytest.approx(2 * gpu_memory(NETWORK, GPUS["T4"])[0])
    assert shared[1] == GPUS["T4"].memory_gb
