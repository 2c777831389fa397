"""Units of work shared out to a process for each device, or for each unit.

This process hands out the units, shows what the workers say, and ends them all when one fails, the
user interrupts, or time is up; each then saves what it is at.
"""

import re
from collections import deque
from collections.abc import Callable
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import torch

from oofline.board import Board, board
from oofline.engines.child import Child, heard
from oofline.engines.devices import labels
from oofline.engines.outcome import After, Failure
from oofline.engines.worker import Post, Start
from oofline.errors import OoflineError, Stopped
from oofline.training.guard import Guard

EXIT_SECONDS = 30.0
"""How long a worker that has closed its pipe may take to end."""


def share(
    units: list[Any],
    devices: list[str],
    start: Start,
    logs: Path,
    guard: Guard,
    name: Callable[[Any], str],
    threads: int = 0,
    *,
    alone: bool = False,
    go_on: bool = False,
    after: After | None = None,
) -> list[Any]:
    """Do every unit in processes, one at a time on each device, which takes the next that is left.

    Args:
        units: what is to be done, picklable.
        devices: where units are done side by side.
        start: called in each worker, gives what does a unit; picklable.
        logs: folder for a log of each worker, named by its device (by its unit where `alone`).
        guard: of this process, within its `Guard.signals`; its time limit is the workers' too.
        name: how a unit is called in messages; each differently.
        threads: of each worker on a CPU; 0 = they divide this machine's.
        alone: each unit gets a new process, so that its peak memory is its own.
        go_on: a unit that fails, or whose process dies, is an outcome (`Failure`), in place of
            stopping the others.
        after: called with each unit and its outcome.

    Returns:
        What each unit gave, in the order in which they ended. Text is shown as the unit's result.

    Raises:
        Stopped: time limit or interrupt; each worker has saved its state.
        OoflineError: a unit failed, or its process was killed; names unit, device and log. The
            other workers have saved their states.
        RuntimeError: a bug in a worker, with its traceback.
    """
    threads = threads or max(1, torch.get_num_threads() // len(devices))
    places = dict(zip(labels(devices), devices, strict=True))

    def hire(label: str, title: str) -> Child:
        """Start a worker on the device of that label, with a log of that title."""
        logs.mkdir(parents=True, exist_ok=True)
        log = logs / (re.sub(r"[^\w.+-]+", "-", title) + ".log")
        return Child(label, start, Post(places[label], log, guard.seconds_left(), threads))

    with board("units", len(units)) as table:
        crew = _Crew(units, guard, name, table, hire, alone, go_on, after)
        try:
            crew.run(list(places))
        finally:
            crew.kill()
    return crew.outcomes


class _Crew:
    """The workers and what is left for them to do."""

    def __init__(
        self, units: list[Any], guard: Guard, name: Callable[[Any], str], table: Board,
        hire: Callable[[str, str], Child], alone: bool, go_on: bool, after: After | None,
    ) -> None:  # fmt: skip
        self.left, self.outcomes, self.n_units = deque(units), list[Any](), len(units)
        self.guard, self.name, self.table, self.hire = guard, name, table, hire
        self.alone, self.go_on, self.after = alone, go_on, after
        self.working: dict[Connection, Child] = {}
        self.stopping = False
        self.reason: Exception | None = None

    def run(self, places: list[str]) -> None:
        """Until every worker has ended; then raise what ended them early, if anything did."""
        for label in places:
            self._fill(label)
        while self.working:
            for worker, message in heard(self.working):
                self._hear(worker, *message) if message else self._gone(worker)
            if self.guard.interrupted:
                self._stop(Stopped(self.guard.reason, self.guard.exit_code))
        if isinstance(self.reason, Stopped):
            left = f"{self.n_units - len(self.outcomes)} of {self.n_units} left"
            text = f"{self.reason} with {left}: run the same command again to go on"
            raise Stopped(text, self.reason.exit_code)
        if self.reason is not None:
            raise self.reason

    def kill(self) -> None:
        """End what still runs, at once."""
        for worker in self.working.values():
            worker.kill()

    def _fill(self, label: str) -> None:
        """Start a worker on a device that has none, where there is something left to do."""
        if self.left and self.guard.must_stop(0.0):
            self.reason = self.reason or Stopped(self.guard.reason, self.guard.exit_code)
            self.left.clear()
        if self.left and not self.stopping:
            worker = self.hire(label, self.name(self.left[0]) if self.alone else label)
            self.working[worker.pipe] = worker
            if self.alone:
                self._hand_out(worker)

    def _hear(self, worker: Child, kind: str, *content: Any) -> None:
        unit = self._what(worker)
        worker.ended = worker.ended or kind in ("stopped", "failed", "bug")
        if kind == "say":
            self.table.say(unit if self.alone else worker.label, content[0])
        elif kind == "bar":
            self.table.follow(unit, *content)
        elif kind == "stopped":
            self.table.say(worker.label, content[0])
            reason = "interrupted" if content[1] else "time_limit_hours reached"
            self.reason = self.reason or Stopped(reason, content[1])
            self._stop(self.reason) if content[1] else self.left.clear()
        elif kind == "failed":
            self._fail(worker, content[0], f" failed: {content[0]}")
        elif kind == "bug":
            self._list(worker, f"a bug, {content[0].strip().splitlines()[-1]}")
            where = f"{unit} on {worker.label} (log: {worker.log})"
            self._stop(RuntimeError(f"{where}: {content[0]}"))
        elif kind == "done":
            self.table.end(unit, content[0])
            self._note(worker, content[0])
            self._hand_out(worker)
        elif not self.alone:  # it is ready
            self._hand_out(worker)

    def _fail(self, worker: Child, reason: str, text: str) -> None:
        """A unit failed: an outcome where the others go on, else the end of all."""
        self._list(worker, reason)
        if self.go_on and worker.unit is not None:
            self._note(worker, Failure(worker.unit, reason))
        else:
            where = f"{self._what(worker)} on {worker.label}"
            self._stop(OoflineError(f"{where}{text} (log: {worker.log})"))

    def _list(self, worker: Child, reason: str) -> None:
        """List the worker's unit among those that failed."""
        if worker.unit is not None:
            self.table.fail(self._what(worker), reason, worker.log)

    def _note(self, worker: Child, outcome: Any) -> None:
        self.outcomes.append(outcome)
        if self.after is not None:
            self.after(worker.unit, outcome)

    def _hand_out(self, worker: Child) -> None:
        if self.left and not self.stopping and not (self.alone and worker.unit is not None):
            worker.give(self.left.popleft())
            self.table.begin(self._what(worker), worker.label, worker.log)
        else:
            worker.end()

    def _gone(self, worker: Child) -> None:
        """A worker is gone: as it should be, or killed from outside; another takes its place."""
        if not worker.ended and not (self.go_on and self.stopping):
            how = f"its process {worker.fate()}"
            self._fail(worker, how, f": {how}")
        worker.kill(EXIT_SECONDS)
        self._fill(worker.label)

    def _what(self, worker: Child) -> str:
        return "the start" if worker.unit is None else self.name(worker.unit)

    def _stop(self, reason: Exception) -> None:
        """Ask every worker to save and stop, once; the first failure is what counts, if any."""
        if self.reason is None or isinstance(self.reason, Stopped):
            self.reason = reason
        if not self.stopping:
            self.stopping = True
            for worker in self.working.values():
                worker.tell("stop")
