"""Units of work shared out to one process for each device.

This process hands out the units, shows what the workers say, and ends them all when one fails, the
user interrupts, or time is up; each then saves what it is at.
"""

from collections import deque
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from oofline.board import Board, board
from oofline.engines.child import Child, heard
from oofline.engines.devices import labels
from oofline.engines.worker import Post, Start
from oofline.errors import OoflineError, Stopped
from oofline.training.guard import Guard


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
    threads = threads or max(1, torch.get_num_threads() // len(devices))
    with board("units", len(units)) as table:
        crew = _Crew(units, guard, name, table)
        try:
            for device, label in zip(devices, labels(devices), strict=True):
                log = logs / f"{label.replace(':', '-').replace('/', '-')}.log"
                post = Post(device, log, guard.seconds_left(), threads)
                crew.workers.append(Child(label, start, post))
            crew.run()
        finally:
            crew.kill()
    return crew.outcomes


class _Crew:
    """The workers and what is left for them to do."""

    def __init__(
        self, units: list[Any], guard: Guard, name: Callable[[Any], str], table: Board
    ) -> None:
        self.left, self.outcomes, self.n_units = deque(units), list[Any](), len(units)
        self.guard, self.name, self.table = guard, name, table
        self.workers: list[Child] = []
        self.stopping = False
        self.reason: Exception | None = None

    def run(self) -> None:
        """Until every worker has ended; then raise what ended them early, if anything did."""
        working = {worker.pipe: worker for worker in self.workers}
        while working:
            for worker, message in heard(working):
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
        for worker in self.workers:
            worker.kill()

    def _hear(self, worker: Child, kind: str, *content: Any) -> None:
        unit = self._what(worker)
        where = f"{unit} on {worker.label}"
        worker.ended = worker.ended or kind in ("stopped", "failed", "bug")
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

    def _fail(self, worker: Child, reason: str) -> None:
        """List the worker's unit among those that failed."""
        if worker.unit is not None:
            self.table.fail(self._what(worker), reason, worker.log)

    def _hand_out(self, worker: Child) -> None:
        if self.left and not self.stopping:
            worker.give(self.left.popleft())
            self.table.begin(self._what(worker), worker.label, worker.log)
        else:
            worker.end()

    def _gone(self, worker: Child) -> None:
        """A worker is gone: as it should be, or killed from outside."""
        if not worker.ended:
            how = f"its process {worker.fate()}"
            self._fail(worker, how)
            where = f"{self._what(worker)} on {worker.label}"
            self._stop(OoflineError(f"{where}: {how} (log: {worker.log})"))

    def _what(self, worker: Child) -> str:
        return "the start" if worker.unit is None else self.name(worker.unit)

    def _stop(self, reason: Exception) -> None:
        """Ask every worker to save and stop, once; the first failure is what counts, if any."""
        if self.reason is None or isinstance(self.reason, Stopped):
            self.reason = reason
        if not self.stopping:
            self.stopping = True
            for worker in self.workers:
                worker.tell("stop")
