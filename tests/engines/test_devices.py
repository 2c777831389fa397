"""Which devices share the work, on machines that are made up here."""

import dataclasses
import re

import pytest
import torch

from oofline.config import CFG
from oofline.engines.devices import device_list, group_of, labels
from oofline.errors import ConfigError


@pytest.fixture
def gpus(monkeypatch):
    """gpus((7, 5), (7, 5)): this machine has GPUs of these compute capabilities."""

    def have(*capabilities):
        monkeypatch.setattr(torch.cuda, "is_available", lambda: bool(capabilities))
        monkeypatch.setattr(torch.cuda, "device_count", lambda: len(capabilities))
        monkeypatch.setattr(
            torch.cuda, "get_device_capability", lambda device: capabilities[device.index or 0]
        )
        monkeypatch.setattr(torch.cuda, "get_device_name", lambda index: str(capabilities[index]))

    return have


T4, A100 = (7, 5), (8, 0)


@pytest.mark.parametrize(("machine", "device", "n_units", "devices"), [
    ((T4, T4), "auto", 5, ["cuda:0", "cuda:1"]),
    ((T4, T4), "auto", 1, ["auto"]),
    ((T4, T4), "auto", 0, ["auto"]),
    ((T4,), "auto", 5, ["auto"]),
    ((), "auto", 5, ["auto"]),
    ((A100, T4, A100), "auto", 5, ["cuda:0", "cuda:2"]),
    ((T4, T4), "cuda:1", 5, ["cuda:1"]),
    ((T4, T4), "cuda:0, cuda:1", 5, ["cuda:0", "cuda:1"]),
    ((T4, T4), "cuda:1,cuda:0", 1, ["cuda:1"]),
    ((), "cpu,cpu,cpu", 2, ["cpu", "cpu"]),
])  # fmt: skip
def test_devices(gpus, machine, device, n_units, devices):
    gpus(*machine)
    assert device_list(CFG(device=device), n_units) == devices


@pytest.mark.parametrize(("device", "says"), [
    ("cuda:0,cuda:2", 'device = "cuda:2", but this machine has 2 CUDA GPUs'),
    ("cuda:0,", "name each device"),
    ("cuda:0,auto", "name each device"),
    ("cuda:0,gpu1", 'device = "gpu1" is unknown'),
    ("cuda:0,cuda:1", r"different formats \(cuda:0 in bf16, cuda:1 in fp16\): set precision"),
])  # fmt: skip
def test_what_cannot_work_together_is_refused(gpus, device, says):
    gpus(A100, T4)
    with pytest.raises(ConfigError, match=says):
        device_list(CFG(device=device), 5)


FOUR = (T4,) * 4


@pytest.mark.parametrize(("machine", "device", "share", "n_units", "devices"), [
    (FOUR, "auto", 2, 5, ["cuda:0+cuda:1", "cuda:2+cuda:3"]),
    (FOUR, "auto", 2, 1, ["cuda:0+cuda:1"]),
    (FOUR, "auto", 4, 5, ["cuda:0+cuda:1+cuda:2+cuda:3"]),
    (FOUR, "auto", 3, 5, ["cuda:0+cuda:1+cuda:2"]),
    ((A100, T4, A100), "auto", 2, 5, ["cuda:0+cuda:2"]),
    ((T4, T4), "auto", 0.5, 9, ["cuda:0", "cuda:1", "cuda:0", "cuda:1"]),
    ((T4, T4), "auto", 0.5, 2, ["cuda:0", "cuda:1"]),
    ((T4,), "auto", 1 / 3, 9, ["cuda:0", "cuda:0", "cuda:0"]),
    (FOUR, "cuda:3,cuda:1", 2, 5, ["cuda:3+cuda:1"]),
    ((T4, T4), "cuda:1", 0.5, 5, ["cuda:1", "cuda:1"]),
    (FOUR, "cuda:0+cuda:1, cuda:2+cuda:3", 1, 5, ["cuda:0+cuda:1", "cuda:2+cuda:3"]),
    (FOUR, "cuda:0+cuda:1", 2, 5, ["cuda:0+cuda:1"]),
    ((), "cpu+cpu,cpu+cpu", 1, 1, ["cpu+cpu"]),
])  # fmt: skip
def test_gpus_that_train_a_fold_together_or_share_it(
    gpus, machine, device, share, n_units, devices
):
    gpus(*machine)
    cfg = CFG(device=device, gpus_per_fold=share)
    assert device_list(cfg, n_units) == devices
    assert group_of(dataclasses.replace(cfg, device=devices[0])) == devices[0].split("+")


@pytest.mark.parametrize(("machine", "device", "share", "says"), [
    ((), "auto", 2, "gpus_per_fold = 2, but this machine has no CUDA GPU"),
    ((), "auto", 0.5, "gpus_per_fold = 0.5, but this machine has no CUDA GPU"),
    ((T4,), "auto", 2, "gpus_per_fold = 2, but there are 1 CUDA GPUs"),
    ((T4,) * 3, "cuda:0,cuda:1,cuda:2", 2, "but there are 3 CUDA GPUs of one format"),
    ((T4, T4), "cpu", 2, 'device = "cpu" names something else'),
    (FOUR, "cuda:0+cuda:1", 0.5, "names something else"),
    (FOUR, "cuda:0+cuda:1", 4, "names something else"),
    ((T4, T4), "cpu+cuda:0", 1, "not by a mixture"),
    ((T4, T4), "cuda:0+cuda:0", 1, "names one GPU twice"),
    ((T4, (7, 0)), "cuda:0+cuda:1", 1, "GPUs are of different models"),
    ((T4, T4), "cuda:0+cuda:2", 1, "this machine has 2 CUDA GPUs"),
    ((T4, T4), "cuda:0+", 1, "name each device"),
])  # fmt: skip
def test_what_cannot_train_together_is_refused(gpus, machine, device, share, says):
    gpus(*machine)
    with pytest.raises(ConfigError, match=re.escape(says)):
        device_list(CFG(device=device, gpus_per_fold=share, precision="fp32"), 5)


def test_a_step_needs_a_row_for_every_process(gpus):
    gpus()
    cfg = CFG(device="cpu+cpu+cpu", batch_size=1, accumulation=2)
    with pytest.raises(ConfigError, match="an optimizer step has 2 rows"):
        device_list(cfg, 1)


def test_a_baseline_is_fitted_by_one_process(gpus):
    gpus(*FOUR)
    with pytest.raises(ConfigError, match="ridge is fitted by one process"):
        device_list(CFG(kind="ridge", device="cpu+cpu"), 5)
    with pytest.raises(ConfigError, match="leave it out with ridge"):
        CFG(kind="ridge", gpus_per_fold=2)
    assert device_list(CFG(kind="ridge", gpus_per_fold=0.5), 5) == ["auto"]


@pytest.mark.parametrize("share", [1.5, 0, -1])
def test_gpus_per_fold_is_whole_above_one_and_above_zero(share):
    with pytest.raises(ConfigError, match="gpus_per_fold"):
        CFG(gpus_per_fold=share)


def test_a_set_precision_joins_different_gpus(gpus):
    gpus(A100, T4)
    assert len(device_list(CFG(device="cuda:0,cuda:1", precision="fp16"), 5)) == 2


def test_each_has_a_name_of_its_own():
    assert labels(["cuda:0", "cuda:1"]) == ["cuda:0", "cuda:1"]
    assert labels(["cpu", "cuda:0", "cpu"]) == ["cpu/1", "cuda:0", "cpu/2"]
