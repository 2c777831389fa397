"""Which devices share the work, on machines that are made up here."""

import pytest
import torch

from oofline.config import CFG
from oofline.engines.devices import device_list, labels
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


def test_a_set_precision_joins_different_gpus(gpus):
    gpus(A100, T4)
    assert len(device_list(CFG(device="cuda:0,cuda:1", precision="fp16"), 5)) == 2


def test_each_has_a_name_of_its_own():
    assert labels(["cuda:0", "cuda:1"]) == ["cuda:0", "cuda:1"]
    assert labels(["cpu", "cuda:0", "cpu"]) == ["cpu/1", "cuda:0", "cpu/2"]
