"""``oofline plan``: minutes, memory and disk of a training, from a minute of it."""

import dataclasses
import math
import shutil
from typing import Any

import pandas as pd
import torch

from oofline.claim import check_settings
from oofline.config import CFG
from oofline.crossval import Unit, is_done, parse_folds, parse_seeds
from oofline.engines.devices import device_list
from oofline.errors import ConfigError
from oofline.planning.fold_on import UTILISATION, Range
from oofline.planning.forecast import ESTIMATED, SHARED_CPU, Forecast, Jobs, forecast
from oofline.planning.machines import KAGGLE, Machine, parse_gpus
from oofline.planning.measuring import Findings, measure
from oofline.planning.overhead import engine_overhead
from oofline.progress import say
from oofline.report.terminal import print_frame
from oofline.storage import Paths, write_json
from oofline.training.guard import process_age
from oofline.training.precision import choose_precision
from oofline.training.preparation import prepare


def run_plan(options: Any, paths: Paths) -> None:
    """``oofline plan``: writes output/<comp>/plan/<exp>.json, nothing of the experiment.

    Raises:
        ConfigError: an option is wrong; nothing was measured.
    """
    cfg: CFG = options.cfg
    asked = check_options(cfg, options)
    seeds, folds = parse_seeds(options.seed), parse_folds(options.fold, cfg.n_folds)
    units = [(seed, fold) for seed in seeds for fold in folds]
    todo = units if options.trials else _left(cfg, paths, units)
    if not todo:
        say(f"nothing is left to plan: all {len(units)} folds of {cfg.exp} are trained")
        return
    material = prepare(cfg, paths)
    found = measure(cfg, material, todo, 60.0 * options.minutes, process_age())
    for line in found.lines:
        say(line)
    jobs = Jobs(len(todo), options.trials)
    machines, overhead_s, source = machines_for(cfg, found, jobs, asked), 0.0, "one process"
    if any(machine.count > 1 for machine, _ in machines):
        overhead_s, source = engine_overhead(cfg.engine, paths)
    rows = [forecast(found.measured, jobs, m, overhead_s, slower) for m, slower in machines]
    _show(cfg, paths, rows, jobs, len(units) - len(todo))
    if overhead_s:
        say(f"handing out a fold takes {overhead_s:.2g} s ({source}), {cfg.engine} engine")
    path = paths.output / "plan" / f"{cfg.exp}.json"
    engine = {"seconds_per_unit": overhead_s, "source": source}
    write_json(path, _content(cfg, found, todo, jobs, rows) | {"engine": engine})
    say(f"planned {jobs.n_folds} folds of {cfg.exp}; open {path}")


def _left(cfg: CFG, paths: Paths, units: list[Unit]) -> list[Unit]:
    """Those that `oofline train` would train; it would refuse other settings, and so does this."""
    check_settings(cfg, paths)
    return [unit for unit in units if not is_done(paths.fold(cfg.exp, *unit))]


def check_options(cfg: CFG, options: Any) -> Machine | None:
    """The machine that is asked for.

    Raises:
        ConfigError: an option is out of range, or asks for what cannot be planned.
    """
    if options.trials < 0:
        raise ConfigError(f"trials = {options.trials} must be at least 0")
    if not (0 < options.minutes < math.inf):
        raise ConfigError(f"minutes = {options.minutes} must be above 0")
    device_list(settings_here(cfg), 1)  # refuses what is not there
    asked = parse_gpus(options.gpus)
    if asked is not None and asked.gpu is not None:
        if cfg.kind != "transformer":
            raise ConfigError(f'gpus = "{options.gpus}", but kind "{cfg.kind}" trains on a CPU')
        asked.gpu.format_of(cfg.precision)
        if asked.count < cfg.gpus_per_fold:
            raise ConfigError(
                f'gpus = "{options.gpus}" are too few: gpus_per_fold = {cfg.gpus_per_fold:g}'
            )
    return asked


def machines_for(
    cfg: CFG, found: Findings, jobs: Jobs, asked: Machine | None
) -> list[tuple[Machine, Range | None]]:
    """This machine, Kaggle's and the one that was asked for; how much folds slow each other down.

    The second is None but for processes on one CPU. A machine with fewer GPUs than a fold asks for
    is left out.
    """
    here = settings_here(cfg)
    devices = device_list(here, jobs.n_trials or jobs.n_units)
    machines: list[tuple[Machine, Range | None]] = [(Machine("this machine, one process", 1), None)]
    if len(_parts(devices)) > 1:
        machines.append((_all_here(here, devices), _slowdown(devices)))
    for machine in (*KAGGLE, *([asked] if asked else [])):
        share = (here if machine.gpu is None else cfg).gpus_per_fold
        machine = dataclasses.replace(machine, gpus_per_fold=share)
        if machine.slots and (machine.gpu is None or _computes(machine, cfg, found)):
            machines.append((machine, None))
    return machines


def settings_here(cfg: CFG) -> CFG:
    """The settings without gpus_per_fold where this machine has not as many GPUs."""
    n_gpus = torch.cuda.device_count() if torch.cuda.is_available() else 0
    fits = 0 < n_gpus >= cfg.gpus_per_fold
    return cfg if fits else dataclasses.replace(cfg, gpus_per_fold=1.0)


def _parts(devices: list[str]) -> list[str]:
    """Devices one by one, those of a group too."""
    return [part.strip() for name in devices for part in name.split("+")]


def _all_here(cfg: CFG, devices: list[str]) -> Machine:
    """This machine with all the devices that the settings name."""
    parts, joined = _parts(devices), len(devices[0].split("+"))
    share = joined if joined > 1 else cfg.gpus_per_fold
    if not parts[0].startswith("cpu"):
        n_gpus = len(set(parts))
        label = f"this machine, {n_gpus} GPU{'s' * (n_gpus > 1)}"
        return Machine(label, n_gpus, gpus_per_fold=share)
    label = f"{len(devices)} side by side" if len(devices) > 1 else f"{joined} processes a fold"
    return Machine(f"this machine, {label}", len(parts), gpus_per_fold=share)


def _computes(machine: Machine, cfg: CFG, found: Findings) -> bool:
    """Whether a GPU trains this kind of model, in the number format that is set."""
    if found.measured.network is None or machine.gpu is None:
        return False
    return cfg.precision == "auto" or cfg.precision in machine.gpu.tflops


def _slowdown(devices: list[str]) -> Range | None:
    """How much slower a fold is beside others on one CPU: they divide its threads."""
    if not all(name.startswith("cpu") for name in devices):
        return None
    threads = torch.get_num_threads()
    return 1.0, SHARED_CPU * threads / max(1, int(threads / len(devices)))


def _show(cfg: CFG, paths: Paths, rows: list[Forecast], jobs: Jobs, n_done: int) -> None:
    frame = pd.DataFrame(
        [
            {
                "machine": row.machine, "time": time_text(row.minutes),
                "a fold": time_text(row.fold_minutes),
                "memory, GB": f"{number_text(row.memory_gb)} of {row.room_gb:.0f}",
                "disk, GB": f"{row.disk_gb:.2f}, {row.peak_disk_gb:.2f} meanwhile",
                "how": row.basis,
            }
            for row in rows
        ]
    )  # fmt: skip
    trials = f" in {jobs.n_trials} trials" if jobs.n_trials else ""
    print_frame(frame, f"{paths.comp}, {cfg.exp}: {jobs.n_folds} folds{trials}")
    for row in rows:
        for note in row.notes:
            say(f"{row.machine}: {note}")
    for line in _caveats(cfg, paths, rows, jobs, n_done):
        say(line)


def _caveats(
    cfg: CFG, paths: Paths, rows: list[Forecast], jobs: Jobs, n_done: int
) -> list[str]:  # fmt: skip
    """What the figures leave out, or take at its worst."""
    lines = []
    if settings_here(cfg) != cfg:
        lines.append(
            f"gpus_per_fold = {cfg.gpus_per_fold:g}: this machine has not as many GPUs, its "
            "figures are without it"
        )
    few = [m.label for m in KAGGLE if m.count < cfg.gpus_per_fold]
    if few:
        lines.append(f"left out, for a fold asks for more GPUs: {'; '.join(few)}")
    if n_done:
        lines.append(f"{n_done} folds are finished already and not counted")
    if any(row.basis == ESTIMATED for row in rows):
        lines.append(
            f"other GPUs: operations counted here over {UTILISATION[0]:.0%} to "
            f"{UTILISATION[1]:.0%} of the published peak, {ESTIMATED}: a range, not a promise"
        )
    if cfg.patience:
        lines.append(f"an upper bound: patience = {cfg.patience} may end folds earlier")
    if cfg.awp_start_score is not None or cfg.fgm_start_score is not None:
        lines.append("an upper bound: what waits for a score is taken to act from the start")
    if jobs.n_trials:
        lines.append("an upper bound: trials that are pruned take less")
    free = shutil.disk_usage(paths.root).free / 1e9
    if rows[0].peak_disk_gb > free:
        lines.append(f"this disk has {free:.1f} GB left, that is too little")
    return lines


def _content(
    cfg: CFG, found: Findings, todo: list[Unit], jobs: Jobs, rows: list[Forecast]
) -> dict[str, Any]:
    precision = choose_precision(cfg).name if cfg.kind == "transformer" else "fp64"
    return {
        "comp": cfg.comp, "exp": cfg.exp, "units": [list(unit) for unit in todo],
        "trials": jobs.n_trials, "folds": jobs.n_folds, "precision": precision,
        "machines": [row.row() for row in rows],
        "measured": dataclasses.asdict(found.measured), "calibration": found.details,
    }  # fmt: skip


def time_text(minutes: Range) -> str:
    """A range of minutes in its unit, to two digits: "40-60 s", "3.1-4.2 h"."""
    low, high = minutes
    if high < 2:
        return number_text((60 * low, 60 * high)) + " s"
    return (
        number_text(minutes) + " min" if high < 120 else number_text((low / 60, high / 60)) + " h"
    )


def number_text(values: Range) -> str:
    """A range to two digits, one number where both ends look alike."""
    low, high = (_digits(value) for value in values)
    return low if low == high else f"{low}-{high}"


def _digits(value: float) -> str:
    if value <= 0:
        return "0"
    places = max(0, 1 - math.floor(math.log10(value)))
    rounded = round(value, 1 - math.floor(math.log10(value)))
    return f"{rounded:.{min(places, 3)}f}"
