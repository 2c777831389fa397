"""Training on one device in this process, or on several, a process for each."""

import functools

from oofline.config import CFG
from oofline.crossval import begin, stop_if_interrupted, train_here, unit_trainer, units_left
from oofline.engines.devices import device_list
from oofline.engines.workers import share
from oofline.progress import say
from oofline.storage import Paths
from oofline.training.guard import Guard


def train_on_devices(cfg: CFG, paths: Paths, folds: list[int], seeds: list[int]) -> int:
    """Train every (seed, fold) that is not finished, side by side where there are devices.

    A fold's result does not depend on how many devices there are, apart from rounding where they
    compute differently.

    Returns:
        Number of units trained now.

    Raises:
        Stopped, ConfigError, DataError: see `crossval.train_units`.
        OoflineError: a unit failed; names it, its device and the log of its process.
    """
    todo = units_left(cfg, paths, folds, seeds)
    devices = device_list(cfg, len(todo))
    if len(devices) < 2:
        return train_here(cfg, paths, todo, devices[0])
    begin(cfg, paths)
    guard, logs = Guard(cfg.time_limit_hours), paths.experiment(cfg.exp) / "workers"
    say(f"{len(todo)} folds on {', '.join(devices)}, side by side; their logs are in {logs}")
    start = functools.partial(unit_trainer, cfg, paths)
    with guard.signals():
        done = share(
            todo, devices, start, logs, guard, lambda unit: "seed {} fold {}".format(*unit)
        )
    stop_if_interrupted(guard)
    return sum(done)
