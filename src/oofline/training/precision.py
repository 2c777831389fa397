"""Device and number format: what the hardware really computes, not what it emulates."""

import contextlib
from dataclasses import dataclass

import torch

from oofline.config import CFG
from oofline.errors import ConfigError

_DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}


@dataclass(frozen=True)
class Precision:
    """Where tensors live and in which format matrices are multiplied.

    Attributes:
        device: torch device.
        name: "fp32", "bf16" or "fp16" (fp16 comes with a GradScaler).
    """

    device: torch.device
    name: str

    def autocast(self) -> contextlib.AbstractContextManager:
        """Context in which a forward pass runs; weights stay float32."""
        if self.name == "fp32":
            return contextlib.nullcontext()
        return torch.autocast(self.device.type, dtype=_DTYPES[self.name])

    def scaler(self) -> torch.amp.GradScaler:
        """Loss scaler: active for fp16, a pass-through otherwise."""
        return torch.amp.GradScaler(self.device.type, enabled=self.name == "fp16")


def choose_device(name: str) -> torch.device:
    """The device a name stands for; "auto" is cuda, mps or cpu, whichever is there first.

    Of a list ("cuda:0,cuda:1") or a group ("cuda:0+cuda:1") it is the first: what runs in one
    process takes that one.

    Raises:
        ConfigError: a device that is asked for is absent.
    """
    name = name.split(",")[0].split("+")[0].strip()
    if name == "auto":
        if torch.cuda.is_available():
            return torch.device("cuda")
        return torch.device("mps" if torch.backends.mps.is_available() else "cpu")
    try:
        device = torch.device(name)
    except RuntimeError:
        raise ConfigError(
            f'device = "{name}" is unknown: use auto, cpu, cuda, cuda:1 or a list "cuda:0,cuda:1"'
        ) from None
    if device.type == "cuda" and (device.index or 0) >= torch.cuda.device_count():
        raise ConfigError(
            f'device = "{name}", but this machine has {torch.cuda.device_count()} CUDA GPUs: '
            'use device = "auto" or "cpu", or install a CUDA build of torch'
        )
    if device.type == "mps" and not torch.backends.mps.is_available():
        raise ConfigError('device = "mps", but Apple\'s MPS is not there: use device = "auto"')
    return device


def native_precision(device: torch.device) -> str:
    """Fastest format that the hardware computes natively.

    GPUs from compute capability 8.0 (A100, RTX 30) have bf16; T4 (7.5), V100 (7.0) and P100 (6.0)
    only fp16: torch would emulate bf16 there. CPUs have bf16 with AVX512-BF16 or AMX.
    """
    if device.type == "cuda":
        capability = torch.cuda.get_device_capability(device)
        return "bf16" if capability >= (8, 0) else "fp16" if capability >= (6, 0) else "fp32"
    if device.type == "cpu":
        probe = getattr(torch.cpu, "_is_avx512_bf16_supported", lambda: False)
        return "bf16" if probe() else "fp32"
    return "fp32"


def choose_precision(cfg: CFG) -> Precision:
    """Resolve the device and precision settings.

    Raises:
        ConfigError: the device is absent, or bf16 is asked of a GPU that only emulates it.
    """
    device = choose_device(cfg.device)
    native = native_precision(device)
    if cfg.precision == "auto":
        return Precision(device, native)
    if cfg.precision == "bf16" and device.type == "cuda" and native == "fp16":
        raise ConfigError(
            f'precision = "bf16", but {torch.cuda.get_device_name(device)} has no bf16 units: '
            'use precision = "auto" or "fp16"'
        )
    return Precision(device, cfg.precision)
