import pytest
import torch

from oofline.config import CFG
from oofline.errors import ConfigError
from oofline.training.precision import choose_device, choose_precision, native_precision


@pytest.fixture
def gpu(monkeypatch):
    """gpu(capability) -> pretend that one such GPU is there."""

    def pretend(capability, name="Tesla T4"):
        monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
        monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
        monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device=None: capability)
        monkeypatch.setattr(torch.cuda, "get_device_name", lambda device=None: name)
        # torch itself says yes on a T4, because it can emulate bf16: that is the trap
        monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda *a, **k: True)

    return pretend


@pytest.mark.parametrize(
    ("capability", "format_"),
    [((7, 5), "fp16"), ((6, 0), "fp16"), ((7, 0), "fp16"), ((8, 0), "bf16"), ((9, 0), "bf16"),
     ((5, 2), "fp32")],
)  # fmt: skip
def test_t4_and_p100_get_fp16_with_a_loss_scaler(gpu, capability, format_):
    gpu(capability)
    precision = choose_precision(CFG())
    assert (precision.device.type, precision.name) == ("cuda", format_)


def test_fp16_has_a_live_scaler_and_the_others_none():
    scalers = {
        name: choose_precision(CFG(device="cpu", precision=name)).scaler().is_enabled()
        for name in ("fp32", "bf16", "fp16")
    }
    assert scalers == {"fp32": False, "bf16": False, "fp16": True}


def test_bf16_on_a_t4_is_refused(gpu):
    gpu((7, 5))
    with pytest.raises(ConfigError, match="Tesla T4 has no bf16 units"):
        choose_precision(CFG(precision="bf16"))


@pytest.mark.parametrize("has", [True, False])
def test_cpu_takes_bf16_only_where_it_is_native(monkeypatch, has):
    monkeypatch.setattr(torch.cpu, "_is_avx512_bf16_supported", lambda: has, raising=False)
    assert native_precision(torch.device("cpu")) == ("bf16" if has else "fp32")


@pytest.mark.parametrize("name", ["cuda", "cuda:3", "mps", "tpu9000"])
def test_an_absent_device_is_named(monkeypatch, name):
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 0)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: False)
    with pytest.raises(ConfigError, match=f'device = "{name}"'):
        choose_device(name)


def test_autocast_computes_in_the_chosen_format():
    a = torch.ones(4, 4)
    for name, dtype in (("fp32", torch.float32), ("bf16", torch.bfloat16), ("fp16", torch.float16)):
        with choose_precision(CFG(device="cpu", precision=name)).autocast():
            assert (a @ a).dtype == dtype
