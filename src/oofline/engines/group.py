"""One fold on several devices: a process for each, and one that watches over them.

The processes train it together (`oofline.training.team`). When one of them dies or fails, the
others would wait for it: they are ended, and the fold goes on from its last saved state next time.
"""

import dataclasses
import functools
import tempfile
import time
from pathlib import Path
from typing import Any

import torch

from oofline.config import CFG
from oofline.engines.child import Child, heard
from oofline.engines.devices import group_of
from oofline.engines.rank import Order, start_rank
from oofline.engines.worker import Post
from oofline.errors import OoflineError, Stopped
from oofline.progress import bar, say
from oofline.storage import Paths
from oofline.tracking import Tracker
from oofline.training.guard import Guard
from oofline.training.team import LOST

CAUSE_SECONDS = 10.0
"""How long the reason is waited for after a process has lost another one."""
OVERDUE_SECONDS = 300.0
"""Processes that have not ended this long after the time limit hang."""


def train_in_group(cfg: CFG, paths: Paths, seed: int, fold: int, guard: Guard) -> dict[str, Any]:
    """Train one fold by a process for each device of the settings' first entry.

    The experiment must have begun, and the fold's folder exist, held by the caller.

    Args:
        cfg: settings; ``device`` is as in "cuda:0+cuda:1".
        paths: of the competition.
        seed: training seed.
        fold: fold index.
        guard: of this process; a stop, the time limit and who watches evaluations are passed on.

    Returns:
        The scores, as scores.json holds them.

    Raises:
        Stopped: time limit or interrupt, with a resumable state; or what ``guard.watch`` raised.
        OoflineError: training failed, or a process was killed; names it and its log.
        RuntimeError: a bug in one of the processes, with its traceback.
    """
    devices = group_of(cfg)
    logs = paths.experiment(cfg.exp) / "workers"
    logs.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="oofline-", ignore_cleanup_errors=True) as folder:
        order = Order(
            cfg, paths, seed, fold, 0, len(devices), Path(folder) / "meeting",
            guard.watch is not None, Tracker.group,
        )  # fmt: skip
        group = _Group(guard, f"seed {seed} fold {fold}")
        say(f"{group.name}: {len(devices)} processes train it together; their logs are in {logs}")
        try:
            group.start(order, devices, logs)
            return group.run()
        finally:
            group.kill()


class _Group:
    """The processes of one fold."""

    def __init__(self, guard: Guard, name: str) -> None:
        self.guard, self.name = guard, name
        self.processes: list[Child] = []
        self.scores: dict[str, Any] = {}
        self.cause: Exception | None = None
        self.stop: Stopped | None = None
        self.lost: OoflineError | None = None
        self.lost_since = 0.0
        self.stopping = False

    def start(self, order: Order, devices: list[str], logs: Path) -> None:
        """Start a process for each device; they divide the threads of this one."""
        threads = max(1, torch.get_num_threads() // len(devices))
        for rank, device in enumerate(devices):
            log = logs / f"seed{order.seed}-fold{order.fold}-rank{rank}.log"
            post = Post(device, log, self.guard.seconds_left(), threads)
            start = functools.partial(start_rank, dataclasses.replace(order, rank=rank))
            self.processes.append(Child(f"rank {rank} on {device}", start, post))
            self.processes[-1].give(rank)

    def run(self) -> dict[str, Any]:
        """Until all have ended, or one has failed; the scores, or what ended them early."""
        working = {process.pipe: process for process in self.processes}
        with bar(self.name, 1) as self.bar:
            while working and not self._is_over():
                for process, message in heard(working):
                    self._hear(process, *message) if message else self._gone(process)
                if self.guard.interrupted:
                    self._ask_to_stop()
        reason = self.cause or self.lost or self.stop
        if reason is not None:
            raise reason
        return self.scores

    def kill(self) -> None:
        """End what still runs, at once."""
        for process in self.processes:
            process.kill()

    def _is_over(self) -> bool:
        """Whether a failure is understood, or something has been waited for too long."""
        failed = self.cause is not None and not isinstance(self.cause, Stopped)
        late = self.lost is not None and time.monotonic() - self.lost_since > CAUSE_SECONDS
        return failed or late or self._is_overdue()

    def _is_overdue(self) -> bool:
        """Whether processes hang: those that do not stop before the time limit."""
        if self.guard.seconds_left() > -OVERDUE_SECONDS:
            return False
        text = f"time_limit_hours reached: the processes of {self.name} hang and are ended; it"
        self.stop = Stopped(f"{text} goes on from its last saved state", self.guard.exit_code)
        return True

    def _hear(self, process: Child, kind: str, *content: Any) -> None:
        if kind in ("say", "bar", "seen"):
            if process.unit == 0:
                self._show(kind, *content)
            return
        if kind == "ready":
            return
        process.ended = True
        if kind == "done":
            process.end()
            self.scores = content[0] or self.scores
        elif kind == "stopped":
            if self.stop is None or process.unit == 0:
                self.stop = Stopped(*content)
        elif kind == "bug":
            self._failed(RuntimeError(f"{process.label} (log: {process.log}): {content[0]}"))
        else:
            failure = OoflineError(f"{process.label} failed: {content[0]} (log: {process.log})")
            self._lost(failure) if content[0].startswith(LOST) else self._failed(failure)

    def _show(self, kind: str, *content: Any) -> None:
        if kind == "say":
            say(*content)
        elif kind == "bar":
            self.bar.follow(*content)
        else:
            try:
                self.guard.seen(*content)
            except Stopped as wanted:
                self.cause = self.cause or wanted
                self._ask_to_stop()

    def _gone(self, process: Child) -> None:
        """A process is gone: as it should be, or killed from outside."""
        if not process.ended:
            self._failed(OoflineError(f"{process.label} {process.fate()} (log: {process.log})"))

    def _failed(self, reason: Exception) -> None:
        if self.cause is None or isinstance(self.cause, Stopped):
            self.cause = reason

    def _lost(self, failure: OoflineError) -> None:
        """A process misses another one, which is about to be heard of."""
        if self.lost is None:
            self.lost, self.lost_since = failure, time.monotonic()

    def _ask_to_stop(self) -> None:
        """Ask all to save and stop, once."""
        if not self.stopping:
            self.stopping = True
            for process in self.processes:
                process.tell("stop")
