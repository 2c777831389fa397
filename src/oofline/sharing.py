"""Training on one device in this process, on several, a process for each, or on a cluster."""

import contextlib
import dataclasses
import functools
import time
import uuid
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from oofline.board import board
from oofline.config import CFG
from oofline.crossval import (
    Unit,
    begin,
    is_done,
    stop_if_interrupted,
    train_here,
    unit_name,
    unit_trainer,
    units_left,
)
from oofline.engines.code_version import code_version
from oofline.engines.depot import Depot
from oofline.engines.devices import device_list
from oofline.engines.dispatch import Dispatch
from oofline.engines.needs import needs_of
from oofline.engines.outcome import After
from oofline.engines.ray_cluster import RayCluster
from oofline.engines.ray_start import connected, nodes_of, wait_for_nodes
from oofline.engines.ray_task import Order, Start
from oofline.engines.threads import limited_threads, threads_per_fold
from oofline.engines.workers import share
from oofline.errors import OoflineError
from oofline.models.hub import model_folder
from oofline.models.kept import model_digest
from oofline.progress import say
from oofline.storage import Paths
from oofline.training.guard import Guard


def train_on_devices(cfg: CFG, paths: Paths, folds: list[int], seeds: list[int]) -> int:
    """Train every (seed, fold) that is not finished, side by side where there are devices.

    A fold's result does not depend on the engine or on how many devices work side by side, apart
    from rounding where they compute differently. Processes that train one fold together draw
    random masks of their own.

    Returns:
        Number of units trained now.

    Raises:
        Stopped, ConfigError, DataError: see `crossval.train_units`.
        OoflineError: a unit failed; names it, its device and the log of its process.
    """
    if cfg.engine == "ray":
        return _train_on_cluster(cfg, _absolute(paths), folds, seeds)
    if cfg.shared_storage:
        say('shared_storage is for engine = "ray": this training reads and writes here alone')
    todo = units_left(cfg, paths, folds, seeds)
    devices, threads = device_list(cfg, len(todo)), threads_per_fold(cfg)
    if len(devices) < 2:
        with limited_threads(threads):
            return train_here(cfg, paths, todo, devices[0])
    begin(cfg, paths)
    guard, logs = Guard(cfg.time_limit_hours), paths.experiment(cfg.exp) / "workers"
    say(f"{len(todo)} folds on {', '.join(devices)}, side by side; their logs are in {logs}")
    start = functools.partial(unit_trainer, cfg, paths)
    with guard.signals():
        done = share(todo, devices, start, logs, guard, unit_name, threads)
    stop_if_interrupted(guard)
    return sum(done)


def _cpu(cfg: CFG) -> str:
    """The first entry of ``device``, where that is a CPU or several processes of one."""
    first = cfg.device.split(",")[0].strip()
    return first if first.startswith("cpu") else "cpu"


def _absolute(paths: Paths) -> Paths:
    return dataclasses.replace(paths, root=paths.root.resolve())


@dataclass(frozen=True)
class Work:
    """What a cluster is to do.

    Attributes:
        jobs: the units.
        start: gives what does one; see `Start`.
        logs: folder for a log of each.
        name: how one is called, each differently.
        most: side by side at most; 0 = as many as the cluster can run.
        go_on: a unit that fails is an outcome (`Failure`), in place of stopping the others.
        weights: whether finished folds bring their weights back from a store.
        further: settings that jobs have besides the command's: their models are needed too.
        alone: each gets a new process, so that its peak memory is its own.
        after: called with each and its outcome.
    """

    jobs: list[Any]
    start: Start
    logs: Path
    name: Callable[[Any], str]
    most: int = 0
    go_on: bool = False
    weights: bool = True
    further: tuple[CFG, ...] = ()
    alone: bool = False
    after: After | None = None


@contextlib.contextmanager
def engine_ready(cfg: CFG, n_units: int) -> Iterator[None]:
    """A cluster that stays for the time of the block, where the engine is one.

    Raises:
        ConfigError: there is none, or no node of it is large enough for a fold.
    """
    if cfg.engine != "ray":
        yield
        return
    with connected() as ray:
        wait_for_nodes(ray, needs_of(cfg, nodes_of(ray)), cfg.ray_wait_minutes, n_units)
        yield


def do_on_cluster(cfg: CFG, paths: Paths, work: Work, guard: Guard) -> list[Any]:
    """Do units on a Ray cluster, within `engine_ready`.

    Args:
        cfg: says where, and what a unit asks for.
        paths: of the competition.
        work: what is to be done; its inputs are prepared.
        guard: of this process; its time limit is the units' too.

    Returns:
        What each unit gave, in the order in which they ended.

    Raises:
        Stopped: time limit or interrupt; each unit that had begun has saved its state.
        OoflineError: a unit failed, or lost its process too often; names it and its log.
        RuntimeError: a bug in a unit, with its traceback.
    """
    paths, logs = _absolute(paths), work.logs.resolve()
    logs.mkdir(parents=True, exist_ok=True)
    depot = Depot(cfg.shared_storage, paths) if cfg.shared_storage else None
    files, models = _inputs(depot, (cfg, *work.further))
    with connected() as ray:
        needs = needs_of(cfg, nodes_of(ray))
        order = Order(
            uuid.uuid4().hex, work.start, paths, logs, time.time() + guard.seconds_left(),
            "" if needs.gpus else _cpu(cfg), needs.cpus, needs.gpus, code_version(),
            depot.store.url if depot else "", files, models, work.weights,
        )  # fmt: skip
        cluster = RayCluster(ray, order, needs, depot.fetch if depot else None, work.alone)
        cluster.check_nodes()
        say(
            f"{len(work.jobs)} units on a Ray cluster of {len(nodes_of(ray))} nodes, {needs} each, "
            f"{cluster.slots()} side by side; their logs are in {logs}"
        )
        with guard.signals(), board("units", len(work.jobs)) as table:
            return Dispatch(
                cluster, work.jobs, work.name, guard, table, work.most, work.go_on, work.after
            ).run()  # fmt: skip


def _inputs(
    depot: Depot | None, settings: tuple[CFG, ...]
) -> tuple[dict[str, str], dict[str, str]]:
    """What nodes fetch, by path; and where they find models that are folders here."""
    files: dict[str, str] = {}
    models: dict[str, str] = {}
    for cfg in settings:
        if depot:
            pushed = depot.push_inputs(cfg)
            files |= pushed[0]
            models |= pushed[1]
        elif (model := Path(cfg.model).expanduser()).is_dir():
            models[cfg.model] = str(model.resolve())
    return files, models


def _train_on_cluster(cfg: CFG, paths: Paths, folds: list[int], seeds: list[int]) -> int:
    anywhere = dataclasses.replace(cfg, device="cpu")  # the nodes' devices are theirs to check
    todo = units_left(anywhere, paths, folds, seeds)
    if not todo:
        return 0
    depot = Depot(cfg.shared_storage, paths) if cfg.shared_storage else None
    with engine_ready(cfg, len(todo)):
        begin(cfg, paths)
        if depot:
            todo = depot.begin(cfg, todo)
        if not todo:
            return 0
        work = Work(
            list(todo), functools.partial(node_trainer, cfg, encoder_digest(cfg)),
            paths.experiment(cfg.exp) / "workers", unit_name,
        )  # fmt: skip
        guard = Guard(cfg.time_limit_hours)
        do_on_cluster(cfg, paths, work, guard)
    stop_if_interrupted(guard)
    # a process of a node that was given up may still have finished its fold: files count
    return sum(is_done(paths.fold(cfg.exp, *unit)) for unit in todo)


def encoder_digest(cfg: CFG) -> str:
    """What identifies the encoder (see `node_trainer`); "" for a baseline."""
    return model_digest(model_folder(cfg.model)) if cfg.kind == "transformer" else ""


def node_trainer(
    cfg: CFG, encoder: str, paths: Paths, device: str, guard: Guard
) -> Callable[[Unit], bool]:
    """What trains units on a node, after `crossval.begin` was called where the command runs.

    Raises:
        OoflineError: the node's copy of the encoder is not the command's (`encoder_digest`).
    """
    if encoder != encoder_digest(cfg):
        raise OoflineError(
            f"model = {cfg.model!r} is another on this node than where the command runs: remove it "
            "from the node's cache, or give a local folder"
        )
    return unit_trainer(cfg, paths, device, guard)
