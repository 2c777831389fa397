"""One unit on this device: measured, and put together to what a forecast needs."""

import dataclasses
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import torch

from oofline.config import CFG
from oofline.crossval import Unit
from oofline.errors import OoflineError
from oofline.planning.calendar import (
    Fold,
    Stretch,
    fold_of,
    fold_seconds,
    predict_tokens,
    stretches,
)
from oofline.planning.calibration import Calibration, Calibrator
from oofline.planning.fold_on import Measured, Network
from oofline.storage import Paths
from oofline.training.baseline import train_baseline_fold
from oofline.training.guard import Guard
from oofline.training.material import BaselineMaterial, Material
from oofline.training.precision import Precision, choose_precision
from oofline.training.probe import Probe
from oofline.training.pulse import peak_memory_mb


@dataclass(frozen=True)
class Findings:
    """What was measured, and how.

    Attributes:
        measured: one unit.
        lines: for the user.
        details: for plan.json.
    """

    measured: Measured
    lines: tuple[str, ...]
    details: dict[str, Any]


def measure(
    cfg: CFG, material: Material | BaselineMaterial, units: list[Unit], seconds: float,
    startup_s: float,
) -> Findings:  # fmt: skip
    """Measure one fold on this device.

    Args:
        cfg: settings.
        material: of the competition.
        units: (seed, fold) that are left; the first is tried, all are averaged over.
        seconds: time for steps and predictions.
        startup_s: seconds from the start of the process until the material was there.

    Raises:
        OoflineError: it does not fit into the GPU's memory.
    """
    if isinstance(material, BaselineMaterial):
        return _baseline(cfg, material, units, startup_s)
    try:
        return _network(cfg, material, units, seconds, startup_s)
    except torch.OutOfMemoryError as error:
        raise OoflineError(
            "out of GPU memory: lower batch_size (and raise accumulation), or set "
            "gradient_checkpointing"
        ) from error


def _network(
    cfg: CFG, material: Material, units: list[Unit], seconds: float, startup_s: float
) -> Findings:
    seed, fold = units[0]
    before = time.perf_counter()
    probe = Probe(cfg, material, seed, fold)
    build_s = time.perf_counter() - before
    parts = stretches(cfg, material.competition.task)
    found = Calibrator(material, probe, fold, parts, seconds).run(build_s)
    folds = [_fold(cfg, material, k) for _, k in units]
    measured = combine(cfg, parts, folds, found, probe.precision, startup_s)
    details = dataclasses.asdict(found) | {"stretches": [dataclasses.asdict(p) for p in parts]}
    return Findings(measured, tuple(_lines(parts, found, measured)), details)


def _fold(cfg: CFG, material: Material, fold: int) -> Fold:
    rows = material.folds.train_rows(fold)
    if material.pseudo is not None:
        taken = len(material.competition.train_ids) + material.pseudo.taken[fold]
        rows = np.concatenate([rows, taken])
    test = material.test_tokens
    lengths, test_lengths = material.train_tokens.lengths, test.lengths[: test.n_rows]
    return fold_of(cfg, lengths, rows, material.folds.valid_rows(fold), test_lengths)


def combine(
    cfg: CFG, parts: list[Stretch], folds: list[Fold], found: Calibration, precision: Precision,
    startup_s: float,
) -> Measured:  # fmt: skip
    """What was measured of steps and files, as one unit: the mean over folds.

    Args:
        cfg: settings.
        parts: stretches of a fold.
        folds: size of each unit that is left.
        found: the calibration.
        precision: device and number format that were measured.
        startup_s: seconds from the start of the process until the material was there.
    """
    mean = Fold(
        *(round(float(np.mean(column))) for column in zip(*map(_sizes, folds), strict=True))
    )
    predictions = mean.n_valid * found.row_gb[0] + mean.n_test * found.row_gb[1]
    spare = {"best": 2.0, "average": cfg.average_last + 1.0}.get(cfg.checkpoint, 0.0)
    unit_s = float(np.mean([fold_seconds(parts, f, found.rates, cfg.save_minutes) for f in folds]))
    return Measured(
        device_name(precision.device), startup_s, unit_s, found.rates.error,
        found.model_gb + predictions, predictions, found.state_gb + spare * found.model_gb,
        found.memory_gb, room_gb(precision.device), precision.device.type == "cpu",
        network(cfg, parts, mean, found, precision.name),
    )  # fmt: skip


def _sizes(fold: Fold) -> tuple[int, ...]:
    return dataclasses.astuple(fold)


def network(
    cfg: CFG, parts: list[Stretch], fold: Fold, found: Calibration, form: str
) -> Network:  # fmt: skip
    """What a fold asks of a GPU.

    Args:
        cfg: settings.
        parts: stretches of a fold.
        fold: its size.
        found: the calibration.
        form: number format that was measured.
    """
    flops = sum(
        part.epochs * fold.train_tokens * each
        for part, each in zip(parts, found.train_flops_per_token, strict=True)
    )
    step_passes = sum(
        part.epochs * fold.steps * each for part, each in zip(parts, found.passes, strict=True)
    )
    batches = fold.evaluations * fold.n_valid + fold.n_test
    passes = step_passes + batches / cfg.eval_batch_size / 3  # forward alone is a third of a step
    rates, most = found.rates, max(found.passes)
    return Network(
        flops, predict_tokens(fold) * found.predict_flops_per_token, found.layers * passes,
        rates.build_s + rates.write_s + fold.n_valid * rates.interval_s, found.fixed_gb,
        (found.activation_gb, found.activation_gb * max(1.0, most)), cfg.precision, form,
        found.half_gb, found.gradient_gb, step_passes / cfg.accumulation,
    )  # fmt: skip


def _lines(parts: list[Stretch], found: Calibration, measured: Measured) -> list[str]:
    speeds = zip(parts, found.tokens_per_s, found.samples_per_s, strict=True)
    trained = "; ".join(
        f"{part.name + ' in ' if part.name else ''}{part.epochs} epochs: {tokens:.0f} tokens/s, "
        f"{samples:.1f} samples/s"
        for part, tokens, samples in speeds
    )
    rates = found.rates
    return [
        f"{measured.device}: {found.steps} steps timed in {found.seconds:.0f} s; {trained}",
        f"prediction {rates.tokens_per_evaluation_second:.0f} tokens/s (real tokens, padding not "
        f"counted); start {measured.startup_s:.0f} s, then {rates.build_s:.1f} s a fold; a state "
        f"{found.state_gb:.2f} GB in {rates.save_s:.1f} s, a finished fold {measured.kept_gb:.2f} "
        "GB",
    ]


def device_name(device: torch.device) -> str:
    """The GPU's own name, or "CPU" with the number of threads."""
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    return f"{device.type.upper()}, {torch.get_num_threads()} threads"


def room_gb(device: torch.device) -> float:
    """Memory that there is on a GPU, or in this machine, 10^9 bytes."""
    if device.type == "cuda":
        return torch.cuda.get_device_properties(device).total_memory / 1e9
    return psutil.virtual_memory().total / 1e9


def _baseline(
    cfg: CFG, material: BaselineMaterial, units: list[Unit], startup_s: float
) -> Findings:
    """A whole fold in a temporary folder: what a baseline chooses takes as long as it takes."""
    seed, fold = units[0]
    cache = material.paths.cache
    cache.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=cache, prefix="plan-") as name:
        paths = Paths(material.paths.comp, Path(name))
        apart = dataclasses.replace(material, paths=paths)
        before = time.perf_counter()
        train_baseline_fold(dataclasses.replace(cfg, wandb="disabled"), apart, seed, fold, Guard())
        unit_s = time.perf_counter() - before
        files = [p for p in paths.fold(cfg.exp, seed, fold).rglob("*") if p.is_file()]
        kept = sum(path.stat().st_size for path in files) / 1e9
        tables = sum(path.stat().st_size for path in files if path.suffix == ".parquet") / 1e9
    device = choose_precision(dataclasses.replace(cfg, device="cpu")).device
    memory = peak_memory_mb(device) / 1e3
    measured = Measured(
        device_name(device), startup_s, unit_s, 0.0, kept, tables, 0.0, memory, room_gb(device)
    )
    line = f"{cfg.kind}: one whole fold was fitted, in {unit_s:.1f} s; start {startup_s:.0f} s"
    return Findings(measured, (line,), {"unit_s": unit_s})
