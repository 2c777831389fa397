"""Which devices work side by side, and which train a fold together."""

import dataclasses

import torch

from oofline.config import CFG
from oofline.errors import ConfigError
from oofline.training.precision import choose_device, choose_precision, native_precision


def device_list(cfg: CFG, n_units: int) -> list[str]:
    """The devices that share ``n_units`` units of work, at most as many as there are units.

    Args:
        cfg: gives device: "auto" stands for all GPUs that compute in the format of the first (a
            baseline uses none of them); a list ("cuda:0,cuda:1", also "cpu,cpu") for exactly these.
            "+" in an entry joins devices that train one fold together. And gpus_per_fold, which
            joins neighbours, or names every GPU several times for folds that share it.
        n_units: units of work.

    Raises:
        ConfigError: a device is absent, they would compute in different formats, or some cannot
            train a fold together.
    """
    names = [part.strip() for part in cfg.device.split(",")]
    if names == ["auto"]:
        several = n_units > 1 or cfg.gpus_per_fold != 1
        names = _all_gpus(cfg) if several and cfg.kind == "transformer" else names
    else:
        _check(cfg, names)
    if cfg.kind == "transformer" and cfg.gpus_per_fold != 1:
        names = _per_fold(cfg, names)
    for name in names:
        _check_group(cfg, name)
    return names[: max(1, n_units)]


def labels(devices: list[str]) -> list[str]:
    """What to call each: its name, numbered where several share it ("cpu/1", "cpu/2")."""
    return [
        name if devices.count(name) == 1 else f"{name}/{devices[: i + 1].count(name)}"
        for i, name in enumerate(devices)
    ]


def device_name(cfg: CFG) -> str:
    """What to call the device that trains one fold after the other."""
    if cfg.kind != "transformer":
        return "cpu"
    first = cfg.device.split(",")[0].strip()
    return str(choose_device(first)) if first == "auto" else first


def group_of(cfg: CFG) -> list[str]:
    """The devices that train a fold together in this process: those of the first entry."""
    return [name.strip() for name in cfg.device.split(",")[0].split("+")]


def _all_gpus(cfg: CFG) -> list[str]:
    """Every GPU of the first one's format; "auto" where nothing needs their names."""
    count = torch.cuda.device_count() if torch.cuda.is_available() else 0
    if count == 0 and cfg.gpus_per_fold != 1:
        raise ConfigError(
            f"gpus_per_fold = {cfg.gpus_per_fold:g}, but this machine has no CUDA GPU: leave it "
            'out, or train one fold by two processes with device = "cpu+cpu"'
        )
    if count == 0 or (count == 1 and cfg.gpus_per_fold == 1):
        return ["auto"]
    names = [f"cuda:{index}" for index in range(count)]
    formats = [native_precision(torch.device(name)) for name in names]
    return [name for name, form in zip(names, formats, strict=True) if form == formats[0]]


def _per_fold(cfg: CFG, names: list[str]) -> list[str]:
    """The GPUs in groups of `CFG.gpus_per_fold`, or each several times, one round of all first."""
    wanted, joined = cfg.gpus_per_fold, any("+" in name for name in names)
    if joined and all(len(name.split("+")) == wanted for name in names):
        return names
    if joined or any(choose_device(name).type != "cuda" for name in names):
        raise ConfigError(
            f'gpus_per_fold = {wanted:g} groups or shares single GPUs, and device = "{cfg.device}" '
            "names something else: leave one out"
        )
    if wanted < 1:
        return names * int(1 / wanted + 1e-9)
    size = int(wanted)
    if len(names) < size or (cfg.device != "auto" and len(names) % size):
        raise ConfigError(
            f"gpus_per_fold = {size}, but there are {len(names)} CUDA GPUs of one format to group: "
            'lower it, or name the groups as in device = "cuda:0+cuda:1"'
        )
    whole = len(names) // size * size
    return ["+".join(names[i : i + size]) for i in range(0, whole, size)]


def _check(cfg: CFG, names: list[str]) -> None:
    """Refuse a list with a device that is not there, or with different number formats."""
    single = [part.strip() for name in names for part in name.split("+")]
    if {"auto", ""} & set(single):
        raise ConfigError(f'device = "{cfg.device}": name each device, as in "cuda:0,cuda:1"')
    for name in single:
        choose_device(name)
    formats = [choose_precision(dataclasses.replace(cfg, device=name)).name for name in single]
    if len(set(formats)) > 1:
        pairs = ", ".join(f"{n} in {form}" for n, form in zip(single, formats, strict=True))
        raise ConfigError(
            f'device = "{cfg.device}" would compute in different formats ({pairs}): set precision, '
            "or leave one kind out"
        )


def _check_group(cfg: CFG, name: str) -> None:
    """Refuse devices that cannot train a fold together: they must compute the very same bits."""
    if "+" not in name:
        return
    devices = [choose_device(part.strip()) for part in name.split("+")]
    gpus = [device.index or 0 for device in devices if device.type == "cuda"]
    rows = cfg.batch_size * cfg.accumulation
    problem = ""
    if cfg.kind != "transformer":
        problem = f"{cfg.kind} is fitted by one process"
    elif {device.type for device in devices} not in ({"cpu"}, {"cuda"}):
        problem = "a fold is trained by CUDA GPUs or by CPU processes, not by a mixture"
    elif len(set(gpus)) < len(gpus):
        problem = "it names one GPU twice"
    elif len({torch.cuda.get_device_name(index) for index in gpus}) > 1:
        problem = "its GPUs are of different models, whose results differ"
    elif rows < len(devices):
        problem = f"an optimizer step has {rows} rows (batch_size x accumulation)"
    if problem:
        raise ConfigError(f'device = "{name}" cannot train a fold together: {problem}')
