"""Units of work shared out to one process for each device.

This process hands out the units, shows what the workers say, and ends them all when one fails, the
user interrupts, or time is up; each then saves what it is at.
"""

import contextlib
import multiprocessing
from collections import deque
from collections.abc import Callable
from multiprocessing.connection import Connection, wait
from pathlib import Path
from typing import Any

from oofline.board import Board, board
from oofline.engines.devices import labels
from oofline.engines.worker import Post, Start, work
from oofline.errors import OoflineError, Stopped
from oofline.training.guard import Guard, no_ctrl_c

POLL_SECONDS = 0.2
"""How often an interrupt is looked for while nothing is heard from the workers."""


def share(
    units: list[Any],
    devices: list[str],
    start: Start,
    logs: Path,
    guard: Guard,
    name: Callable[[Any], str],
    threads: int = 0,
) -> list[Any]:
    """Do every unit in a process for each device, side by side, each taking the next that is left.

    Args:
        units: what is to be done, picklable.
        devices: one worker is started for each.
        start: called in each worker, gives what does a unit; picklable.
        logs: folder for a log of each worker, named by its device.
        guard: of this process, within its `Guard.signals`; its time limit is the workers' too.
        name: how a unit is called in messages; each differently.
        threads: of each worker on a CPU; 0 = they divide this machine's.

    Returns:
        What each unit gave, in the order in which they ended. Text is shown as the unit's result.

    Raises:
        Stopped: time limit or interrupt; each worker has saved its state.
        OoflineError: a unit failed, or its process was killed; names unit, device and log. The
            other workers have saved their states.
        RuntimeError: a bug in a worker, with its traceback.
    """
    logs.mkdir(parents=True, exist_ok=True)
    with board("units", len(units)) as table:
        crew = _Crew(units, guard, name, table)
        try:
            for device, label in zip(devices, labels(devices), strict=True):
                log = logs / f"{label.replace(':', '-').replace('/', '-')}.log"
                post = Post(device, log, guard.seconds_left(), 1.0 / len(devices), threads)
                crew.workers.append(_Worker(label, start, post))
            crew.run()
        finally:
            crew.kill()
    return crew.outcomes


class _Worker:
    """One worker process, as this process sees it."""

    def __init__(self, label: str, start: Start, post: Post) -> None:
        self.label, self.log = label, post.log
        self.unit: Any = None
        context = multiprocessing.get_context("spawn")
        self.pipe, theirs = context.Pipe()
        self.process = context.Process(target=work, args=(theirs, start, post))
        with no_ctrl_c():
            self.process.start()
        theirs.close()

    def tell(self, *message: Any) -> None:
        """Send a message, unless the worker has ended meanwhile."""
        with contextlib.suppress(OSError):
            self.pipe.send(message)


class _Crew:
    """The workers and what is left for them to do."""

    def __init__(
        self, units: list[Any], guard: Guard, name: Callable[[Any], str], table: Board
    ) -> None:
        self.left, self.outcomes, self.n_units = deque(units), list[Any](), len(units)
        self.guard, self.name, self.table = guard, name, table
        self.workers: list[_Worker] = []
        self.stopping = False
        self.reason: Exception | None = None

    def run(self) -> None:
        """Until every worker has ended; then raise what ended them early, if anything did."""
        working = {worker.pipe: worker for worker in self.workers}
        while working:
            for pipe in wait(list(working), timeout=POLL_SECONDS):
                assert isinstance(pipe, Connection)
                try:
                    self._hear(working[pipe], *pipe.recv())
                except (EOFError, ConnectionResetError):
                    self._ended(working.pop(pipe))
            if self.guard.interrupted:
                self._stop(Stopped(self.guard.reason, self.guard.exit_code))
        if isinstance(self.reason, Stopped):
            left = f"{self.n_units - len(self.outcomes)} of {self.n_units} left"
            text = f"{self.reason} with {left}: run the same command again to go on"
            raise Stopped(text, self.reason.exit_code)
        if self.reason is not None:
            raise self.reason

    def kill(self) -> None:
        """End what still runs, at once (files are always whole)."""
        for worker in self.workers:
            if worker.process.is_alive():
                worker.process.kill()
            worker.process.join()
            worker.pipe.close()

    def _hear(self, worker: _Worker, kind: str, *content: Any) -> None:
        unit = self._what(worker)
        where = f"{unit} on {worker.label}"
        if kind == "say":
            self.table.say(worker.label, content[0])
        elif kind == "bar":
            self.table.follow(unit, *content)
        elif kind == "stopped":
            self.table.say(worker.label, content[0])
            reason = "interrupted" if content[1] else "time_limit_hours reached"
            self.reason = self.reason or Stopped(reason, content[1])
            self._stop(self.reason) if content[1] else self.left.clear()
        elif kind == "failed":
            self._fail(worker, content[0])
            self._stop(OoflineError(f"{where} failed: {content[0]} (log: {worker.log})"))
        elif kind == "bug":
            self._fail(worker, f"a bug, {content[0].strip().splitlines()[-1]}")
            self._stop(RuntimeError(f"{where} (log: {worker.log}): {content[0]}"))
        else:
            if kind == "done":
                self.outcomes.append(content[0])
                self.table.end(unit, content[0])
            self._hand_out(worker)

    def _fail(self, worker: _Worker, reason: str) -> None:
        """List the worker's unit among those that failed."""
        if worker.unit is not None:
            self.table.fail(self._what(worker), reason, worker.log)

    def _hand_out(self, worker: _Worker) -> None:
        worker.unit = None
        if self.left and not self.stopping:
            worker.unit = self.left.popleft()
            worker.tell("unit", worker.unit)
            self.table.begin(self._what(worker), worker.label, worker.log)
        else:
            worker.tell("end")

    def _ended(self, worker: _Worker) -> None:
        """A worker is gone: as it should be, or killed from outside."""
        worker.process.join()
        code = worker.process.exitcode or 0
        if code and self.reason is None:
            how = (
                f"was killed by signal {-code} (out of memory?)" if code < 0 else f"ended ({code})"
            )
            where = f"{self._what(worker)} on {worker.label}"
            self._fail(worker, f"its process {how}")
            self._stop(OoflineError(f"{where}: its process {how} (log: {worker.log})"))

    def _what(self, worker: _Worker) -> str:
        return "the start" if worker.unit is None else self.name(worker.unit)

    def _stop(self, reason: Exception) -> None:
        """Ask every worker to save and stop, once; the first reason is the one that counts."""
        self.reason = self.reason or reason
        if not self.stopping:
            self.stopping = True
            for worker in self.workers:
                worker.tell("stop")
