"""Units of several arms, side by side: on the devices of this machine, or on a cluster."""

import dataclasses
import functools
from collections.abc import Callable

from oofline.ablation.arms import Arm
from oofline.config import CFG
from oofline.crossval import Unit, begin, unit_name
from oofline.engines.depot import Depot
from oofline.engines.devices import device_list, device_name
from oofline.engines.outcome import After
from oofline.engines.threads import threads_per_fold
from oofline.engines.workers import share
from oofline.progress import quiet, say
from oofline.sharing import Work, do_on_cluster, encoder_digest, engine_ready, node_trainer
from oofline.storage import Paths
from oofline.training.guard import Guard

Job = tuple[Arm, Unit]
"""An arm, and (seed, fold)."""


def train_spread(jobs: list[Job], paths: Paths, guard: Guard, after: After) -> None:
    """Train units of arms, in this order, each in a new process; a failure stops no others.

    Args:
        jobs: what is not finished; arms that cannot use the same devices are trained apart.
        paths: of the competition.
        guard: of this process.
        after: called with each job and its outcome, a `Failure` where it failed.

    Raises:
        Stopped: time limit or interrupt, with resumable states.
        ConfigError, DataError: an arm's settings or inputs are wrong.
        RuntimeError: a bug, with its traceback.
    """
    places = {arm.name: _places(arm.cfg, len(jobs)) for arm, _ in jobs}
    for place in dict.fromkeys(places.values()):
        some = [job for job in jobs if places[job[0].name] == place]
        cfg, *further = {arm.name: arm.cfg for arm, _ in some}.values()
        with engine_ready(cfg, len(some)):
            with guard.signals():
                left = {
                    made.exp: _begin(made, paths, [unit for arm, unit in some if arm.cfg is made])
                    for made in (cfg, *further)
                }
            some = [(arm, unit) for arm, unit in some if unit in left[arm.cfg.exp]]
            digests = {made.exp: encoder_digest(made) for made in (cfg, *further)}
            work = Work(
                some, functools.partial(_trainer, digests), paths.output / "ablations" / "workers",
                lambda job: f"{job[0].cfg.exp} {unit_name(job[1])}", go_on=True,
                further=tuple(further), alone=True, after=after,
            )  # fmt: skip
            if not some:
                continue
            if cfg.engine == "ray":
                do_on_cluster(cfg, paths, work, guard)
            else:
                _do_here(work, paths, list(place[: len(some)]), threads_per_fold(cfg), guard)


def _places(cfg: CFG, n_units: int) -> tuple[str, ...]:
    """The devices that share an arm's units; on a cluster the kind of model stands for them."""
    if cfg.engine == "ray":
        return (cfg.kind,)
    names = device_list(cfg, n_units)
    return tuple(device_name(dataclasses.replace(cfg, device=name)) for name in names)


def _begin(cfg: CFG, paths: Paths, units: list[Unit]) -> list[Unit]:
    """Begin an arm; returns its units that no store holds finished."""
    with quiet():  # what there is to say of the data is said once
        begin(cfg, paths)
    away = cfg.engine == "ray" and cfg.shared_storage
    return Depot(cfg.shared_storage, paths).begin(cfg, units) if away else units


def _do_here(work: Work, paths: Paths, devices: list[str], threads: int, guard: Guard) -> None:
    """Do the work on devices of this machine."""
    if len(devices) > 1:
        names = ", ".join(devices)
        say(f"{len(work.jobs)} units on {names}, side by side; their logs are in {work.logs}")
    start = functools.partial(work.start, paths)
    with guard.signals():
        share(
            work.jobs, devices, start, work.logs, guard, work.name, threads, alone=work.alone,
            go_on=work.go_on, after=work.after,
        )  # fmt: skip


def _trainer(
    digests: dict[str, str], paths: Paths, device: str, guard: Guard
) -> Callable[[Job], bool]:
    """What trains a unit of any arm in a process of its own."""

    def do(job: Job) -> bool:
        """Train one unit of an arm."""
        cfg, unit = job[0].cfg, job[1]
        with quiet():
            train = node_trainer(cfg, digests[cfg.exp], paths, device, guard)
        return train(unit)

    return do
