"""Which devices work side by side."""

import dataclasses

import torch

from oofline.config import CFG
from oofline.errors import ConfigError
from oofline.training.precision import choose_device, choose_precision, native_precision


def device_list(cfg: CFG, n_units: int) -> list[str]:
    """The devices that share ``n_units`` units of work, at most as many as there are units.

    Args:
        cfg: gives device: "auto" stands for all GPUs that compute in the format of the first; a
            list ("cuda:0,cuda:1", also "cpu,cpu") for exactly these.
        n_units: units of work.

    Raises:
        ConfigError: a device is absent, or they would compute in different formats.
    """
    names = [part.strip() for part in cfg.device.split(",")]
    if names == ["auto"]:
        names = _all_gpus() if n_units > 1 else names
    else:
        _check(cfg, names)
    return names[: max(1, n_units)]


def labels(devices: list[str]) -> list[str]:
    """What to call each: its name, numbered where several share it ("cpu/1", "cpu/2")."""
    return [
        name if devices.count(name) == 1 else f"{name}/{devices[: i + 1].count(name)}"
        for i, name in enumerate(devices)
    ]


def _all_gpus() -> list[str]:
    """Every GPU of the first one's format; "auto" where there is one GPU or none."""
    count = torch.cuda.device_count() if torch.cuda.is_available() else 0
    if count < 2:
        return ["auto"]
    names = [f"cuda:{index}" for index in range(count)]
    formats = [native_precision(torch.device(name)) for name in names]
    return [name for name, form in zip(names, formats, strict=True) if form == formats[0]]


def _check(cfg: CFG, names: list[str]) -> None:
    """Refuse a list with a device that is not there, or with different number formats."""
    if {"auto", ""} & set(names):
        raise ConfigError(f'device = "{cfg.device}": name each device, as in "cuda:0,cuda:1"')
    for name in names:
        choose_device(name)
    formats = [choose_precision(dataclasses.replace(cfg, device=name)).name for name in names]
    if len(set(formats)) > 1:
        pairs = ", ".join(f"{n} in {form}" for n, form in zip(names, formats, strict=True))
        raise ConfigError(
            f'device = "{cfg.device}" would compute in different formats ({pairs}): set precision, '
            "or leave one kind out"
        )
