"""Folds x seeds: which are left to do, and doing them one after the other."""

import dataclasses
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from filelock import FileLock, Timeout

from oofline.claim import check_settings, claim_experiment, inputs_of
from oofline.config import CFG
from oofline.engines.devices import device_name, group_of
from oofline.engines.group import train_in_group
from oofline.engines.in_turn import in_turn
from oofline.errors import ConfigError, Stopped
from oofline.progress import bar, say
from oofline.storage import Paths
from oofline.training.baseline import train_baseline_fold
from oofline.training.fold import train_fold
from oofline.training.fold_files import remove_working_files
from oofline.training.guard import Guard
from oofline.training.material import BaselineMaterial, Material
from oofline.training.precision import choose_precision
from oofline.training.preparation import prepare

Unit = tuple[int, int]
"""(seed, fold)."""


def parse_folds(text: str, n_folds: int) -> list[int]:
    """Fold indices from "all", "0", "0,2" or "1-3".

    Raises:
        ConfigError: not a fold list, or a fold that does not exist.
    """
    if text.strip() == "all":
        return list(range(n_folds))
    folds = sorted(set(_numbers(text, "FOLD", 'all, 0, "0,2" or 1-3')))
    if folds[-1] >= n_folds:
        raise ConfigError(f"FOLD={text}: there is no fold {folds[-1]}, they are 0-{n_folds - 1}")
    return folds


def parse_seeds(text: str) -> list[int]:
    """Seeds from "42" or "42,43", in the order given, each once."""
    return list(dict.fromkeys(_numbers(text, "SEED", '42 or "42,43"')))


def _numbers(text: str, name: str, forms: str) -> Iterator[int]:
    for part in text.split(","):
        low, dash, high = part.strip().partition("-")
        high = high if dash else low
        if not (low.isdecimal() and high.isdecimal()) or int(high) < int(low):
            raise ConfigError(f"{name}={text} is not a list: use {forms}")
        yield from range(int(low), int(high) + 1)


def is_done(folder: Path) -> bool:
    """Whether a fold is finished: scores.json is written last."""
    return (folder / "scores.json").exists()


def units_left(cfg: CFG, paths: Paths, folds: list[int], seeds: list[int]) -> list[Unit]:
    """The (seed, fold) that are not finished, seeds one after the other.

    Raises:
        ConfigError: the settings are not those of the experiment, or the device is absent.
    """
    check_settings(cfg, paths)
    if cfg.kind == "transformer":
        choose_precision(cfg)
    units = [(seed, fold) for seed in seeds for fold in folds]
    todo = [u for u in units if not is_done(paths.fold(cfg.exp, *u))]
    for unit in set(units) - set(todo):
        remove_working_files(paths.fold(cfg.exp, *unit))
    if len(todo) < len(units):
        say(f"{len(units) - len(todo)} of {len(units)} folds are finished already")
    return todo


def begin(cfg: CFG, paths: Paths) -> Material | BaselineMaterial:
    """Prepare what all units share, and store settings and inputs of the experiment.

    Raises:
        ConfigError, DataError: settings or inputs are wrong, or not those of the experiment.
    """
    material = prepare(cfg, paths)
    claim_experiment(cfg, paths, inputs_of(cfg, paths, material.competition))
    return material


def train_units(cfg: CFG, paths: Paths, folds: list[int], seeds: list[int]) -> int:
    """Train every (seed, fold) that is not finished, in this process.

    A unit that another process is training is passed over: two shells share the work.

    Returns:
        Number of units trained now.

    Raises:
        Stopped: time limit or interrupt, with a resumable state.
        ConfigError, DataError: settings or inputs are wrong, or not those of the experiment.
    """
    return train_here(cfg, paths, units_left(cfg, paths, folds, seeds))


def train_here(cfg: CFG, paths: Paths, todo: list[Unit], device: str = "") -> int:
    """Train these units one after the other in this process (see `train_units`).

    ``device``: where, as `unit_trainer` takes it; "" = the settings' (the first of a list).
    """
    if not todo:
        return 0
    material = begin(cfg, paths)
    cfg = dataclasses.replace(cfg, device=device or cfg.device)
    guard = Guard(cfg.time_limit_hours)
    log = paths.output / "oofline.log"
    with guard.signals():
        done = in_turn(todo, trainer_of(cfg, material, guard), unit_name, device_name(cfg), log)
    stop_if_interrupted(guard)
    return sum(done)


def unit_name(unit: Unit) -> str:
    """What a unit is called in messages."""
    return "seed {} fold {}".format(*unit)


def say_passed_over(paths: Paths, exps: Sequence[str], units: Sequence[Unit]) -> None:
    """Say, as a command's last line, which of its units are left to other processes, if any."""
    names = [f"{exp} seed {seed} fold {fold}" for exp in exps for seed, fold in units
             if not is_done(paths.fold(exp, seed, fold))]  # fmt: skip
    if names:
        more = f" and {len(names) - 3} more" if len(names) > 3 else ""
        say(
            f"not trained, as another process is at it: {', '.join(names[:3])}{more}; run the "
            "same command again afterwards"
        )


def stop_if_interrupted(guard: Guard) -> None:
    """Say of an interrupt that came too late to leave anything undone (Stopped)."""
    if guard.interrupted:
        raise Stopped("interrupted: every fold that was asked for is trained", guard.exit_code)


def unit_trainer(cfg: CFG, paths: Paths, device: str, guard: Guard) -> Callable[[Unit], bool]:
    """What trains units in a worker process, after `begin` was called in another.

    Args:
        cfg: settings of the experiment.
        paths: of the competition.
        device: the worker's own; with "+", as in "cuda:0+cuda:1" or "cpu+cpu", it starts a process
            for each, and they train every unit together.
        guard: the worker's own.

    Returns:
        A function that trains one unit; it returns False where another process trains it.
    """
    cfg = dataclasses.replace(cfg, device=device)
    return trainer_of(cfg, prepare(cfg, paths), guard)


def trainer_of(
    cfg: CFG, material: Material | BaselineMaterial, guard: Guard
) -> Callable[[Unit], bool]:
    """A function that trains one unit; it returns False where it is done or another trains it."""
    return lambda unit: _train_unit(cfg, material, guard, *unit)


def _train_unit(
    cfg: CFG, material: Material | BaselineMaterial, guard: Guard, seed: int, fold: int
) -> bool:
    folder = material.paths.fold(cfg.exp, seed, fold)
    folder.mkdir(parents=True, exist_ok=True)
    if guard.must_stop(0.0):
        raise Stopped(
            f"{guard.reason}: seed {seed} fold {fold} and what follows is left; the same command "
            "goes on from there",
            guard.exit_code,
        )
    try:
        lock = FileLock(folder / ".lock", timeout=guard.lock_seconds)
        with lock, guard.keeping(folder):
            if is_done(folder):
                return False
            if isinstance(material, BaselineMaterial):
                scores = train_baseline_fold(cfg, material, seed, fold, guard).scores
            elif len(group_of(cfg)) > 1:
                scores = train_in_group(cfg, material.paths, seed, fold, guard)
            else:
                scores = train_fold(cfg, material, seed, fold, guard).scores
    except Timeout:
        say(f"seed {seed} fold {fold}: another process is training it, passed over")
        return False
    figures = {key: scores[key] for key in ("score", "score_best", "score_last")}
    shown = {k: "undefined" if v is None else f"{v:.5f}" for k, v in figures.items()}
    say(
        f"seed {seed} fold {fold}: {scores['metric']} {shown['score']} "
        f"(best {shown['score_best']}, last {shown['score_last']}), "
        f"{scores['minutes']:.1f} min, {scores['samples_per_s']:.0f} samples/s"
    )
    if scores["score"] is not None:  # what a table of units shows in the end
        with bar(unit_name((seed, fold)), 1) as last:
            last.advance(1, **{scores["metric"]: scores["score"]})
    return True
