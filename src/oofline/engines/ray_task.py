"""What runs in a process of a Ray cluster: one unit per call, its lines and outcome back.

A process that is used again keeps what the units share (data, tokens), so that only its first
unit reads it.
"""

import contextlib
import math
import os
import platform
import re
import time
import traceback
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch

from oofline.engines.code_version import code_version
from oofline.engines.desk import Line
from oofline.engines.mirror import Mirror
from oofline.engines.store import Store
from oofline.engines.threads import limit_threads
from oofline.engines.worker import output_to
from oofline.errors import OoflineError, Stopped
from oofline.models.hub import use_folders
from oofline.progress import log_to, relay_to, say
from oofline.storage import Paths
from oofline.training.guard import Guard, process_age

LOCK_SECONDS = 60.0
"""How long the lock of a fold is waited for, which a process of a lost node may still hold."""

Start = Callable[[Paths, str, Guard], Callable[[Any], Any]]
"""(paths, device, guard) -> what does one unit; called once in a process. It must be picklable."""


@dataclass(frozen=True)
class Order:
    """What all units of a command have in common; picklable.

    Attributes:
        run: id of the command.
        start: gives what does a unit.
        paths: of the competition; with a store only its name counts.
        logs: folder of the logs, one per unit, as the command sees it.
        deadline: time (seconds since 1970) at which the limit is reached; infinite without one.
        cpu: what units compute on where it is a CPU ("cpu", or "cpu+cpu"); "" = GPUs.
        threads: threads of a unit.
        gpus: GPUs of a unit; below 1 it shares one.
        version: of the code that nodes must have (see `code_version`).
        store: URL of the shared storage; "" = ``paths`` is seen by every node.
        files: path below the project -> SHA-256 of what the store holds for it.
        models: `CFG.model` -> folder; relative to the project where there is a store.
        weights: whether weights of finished folds are brought back.
    """

    run: str
    start: Start
    paths: Paths
    logs: Path
    deadline: float
    cpu: str
    threads: int
    gpus: float
    version: str
    store: str = ""
    files: dict[str, str] = field(default_factory=dict)
    models: dict[str, str] = field(default_factory=dict)
    weights: bool = True


def run_unit(
    order: Order, desk: Any, ticket: tuple[int, int], unit: Any, name: str
) -> tuple[list[tuple[Any, ...]], tuple[Any, ...], list[str]]:
    """Do one unit in this process.

    Args:
        order: of the command.
        desk: handle of its `Desk`.
        ticket: of the unit.
        unit: what `Order.start`'s function takes.
        name: of the unit.

    Returns:
        Messages that are still to be heard, the last event of the ticket without the ticket, and
        keys of what the store holds of it, in the order to be fetched.
    """
    import ray

    node = ray.get_runtime_context().get_node_id()
    where = f"{platform.node()}-{node[:4]}"
    log = _log_folder(order) / f"{where}-{re.sub(r'[^A-Za-z0-9._-]+', '-', name)}.log"
    line = Line(desk, ticket)
    line.send("begun", where, order.logs / log.name)  # with the first beat: it may be lost soon
    with output_to(log), line:
        outcome, files = _attempt(order, line, log, unit)
    return line.rest, outcome, files


def _attempt(order: Order, line: Line, log: Path, unit: Any) -> tuple[tuple[Any, ...], list[str]]:
    """How the unit ended, and what the store holds of it."""
    end: tuple[Any, ...]
    try:
        crew = _crew(order)
        crew.work_on(line, log)
        outcome = crew.do(unit)
        return ("done", outcome), crew.leave(done=True)
    except Stopped as stop:
        end = ("stopped", str(stop), stop.exit_code)
    except OoflineError as error:
        say(f"error: {error}")
        end = ("failed", str(error))
    except KeyboardInterrupt:
        end = ("stopped", "taken back before it had begun", 130)
    except BaseException:
        traceback.print_exc()
        end = ("bug", traceback.format_exc())
    if order.run in _crews:
        with contextlib.suppress(OoflineError):  # the first reason is the one that counts
            _crews[order.run].leave(done=False)
    return end, []


def node_root() -> Path:
    """Where a node keeps what it fetches from a store: OOFLINE_CACHE, or ~/.cache/oofline."""
    return Path(os.environ.get("OOFLINE_CACHE") or Path.home() / ".cache" / "oofline")


def _log_folder(order: Order) -> Path:
    return node_root() / "logs" / order.run if order.store else order.logs


class _Crew:
    """What units of one command share in this process."""

    def __init__(self, order: Order) -> None:
        self.order = order
        seconds = order.deadline - time.time()
        hours = 0.0 if math.isinf(seconds) else (process_age() + max(seconds, 1e-3)) / 3600.0
        self.guard = Guard(hours)
        self.guard.lock_seconds = LOCK_SECONDS
        self.mirror = self._mirror() if order.store else None
        self.guard.keeper = self.mirror
        self.line: Line | None = None
        self._do: Callable[[Any], Any] | None = None

    def _mirror(self) -> Mirror:
        store = Store(self.order.store)
        order, logs = self.order, self.order.logs.relative_to(self.order.paths.root).as_posix()
        return Mirror(store, order.paths.comp, node_root(), order.files, order.weights, logs)

    def work_on(self, line: Line, log: Path) -> None:
        """Speak through this line from now on, and into this log."""
        self.line = line
        line.obey(self.guard)
        log_to(log)
        if self.mirror is not None:
            self.mirror.write_to(log)

    def do(self, unit: Any) -> Any:
        """Do a unit; what they share is made ready by the first.

        Raises:
            OoflineError: this node has other code, or does not see the project.
        """
        if self._do is None:
            theirs = code_version()
            if theirs != self.order.version:
                raise OoflineError(
                    f"this node has oofline {theirs}, the command {self.order.version}: install "
                    "the same on every node"
                )
            limit_threads(self.order.threads)
            paths = self.mirror.prepare() if self.mirror else self.order.paths
            use_folders({name: paths.root / at for name, at in self.order.models.items()})
            relay_to(lambda *message: None)  # what all would say at the start is in their logs
            self._do = self.order.start(paths, _device(self.order), self.guard)
            relay_to(self._relay)
        return self._do(unit)

    def _relay(self, kind: str, *content: Any) -> None:
        if self.line is not None:
            self.line.send(kind, *content)

    def leave(self, done: bool) -> list[str]:
        """End a unit; returns keys of what the store holds of it."""
        log_to(None)
        return self.mirror.leave(done) if self.mirror is not None else []


_crews: dict[str, _Crew] = {}
"""By `Order.run`; a process that serves another command drops the former."""


def _crew(order: Order) -> _Crew:
    if order.run not in _crews:
        _crews.clear()
        _crews[order.run] = _Crew(order)
    return _crews[order.run]


def _device(order: Order) -> str:
    """The device of this process: Ray shows it no GPUs but its own."""
    if order.cpu:
        return order.cpu
    names = [f"cuda:{index}" for index in range(max(1, math.ceil(order.gpus)))]
    if torch.cuda.is_available():
        torch.cuda.set_device(names[0])
    return "+".join(names)
