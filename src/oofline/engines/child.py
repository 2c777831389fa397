"""A process that works for this one (see `oofline.engines.worker.work`), as this one sees it."""

import contextlib
import multiprocessing
import signal
from collections.abc import Iterator
from multiprocessing.connection import Connection, wait
from typing import Any

from oofline.engines.worker import Post, Start, work
from oofline.training.guard import no_ctrl_c

POLL_SECONDS = 0.2
"""How long to listen at most: an interrupt is looked for in between."""


class Child:
    """A started process.

    Args:
        label: what to call it.
        start: called in it; gives what does a unit.
        post: where it works.

    Attributes:
        log: file of its output.
        unit: what it is at; None = nothing.
        ended: whether it has told its end, or was told to: then its going is no surprise.
    """

    def __init__(self, label: str, start: Start, post: Post) -> None:
        self.label, self.log, self.ended = label, post.log, False
        self.unit: Any = None
        context = multiprocessing.get_context("spawn")
        self.pipe, theirs = context.Pipe()
        self.process = context.Process(target=work, args=(theirs, start, post))
        with no_ctrl_c():
            self.process.start()
        theirs.close()

    def tell(self, *message: Any) -> None:
        """Send a message, unless the process has ended meanwhile."""
        with contextlib.suppress(OSError):
            self.pipe.send(message)

    def give(self, unit: Any) -> None:
        """Let it do a unit."""
        self.unit = unit
        self.tell("unit", unit)

    def end(self) -> None:
        """There are no more units for it."""
        self.unit, self.ended = None, True
        self.tell("end")

    def kill(self, patience: float = 0.0) -> None:
        """End it, if it still runs after so many seconds (files are always whole)."""
        self.process.join(patience)
        if self.process.is_alive():
            self.process.kill()
        self.process.join()
        self.pipe.close()

    def fate(self) -> str:
        """How a process that is gone has ended."""
        self.process.join()
        code = self.process.exitcode or 0
        hint = " (out of memory?)" if -code == getattr(signal, "SIGKILL", 0) else ""
        return f"was killed by signal {-code}{hint}" if code < 0 else f"ended ({code})"


def heard(working: dict[Connection, Child]) -> Iterator[tuple[Child, tuple[Any, ...] | None]]:
    """What processes say within `POLL_SECONDS`; None from one that is gone, and taken out.

    Args:
        working: the processes by their pipes.
    """
    for pipe in wait(list(working), timeout=POLL_SECONDS):
        assert isinstance(pipe, Connection)
        try:
            message = pipe.recv()
        except (EOFError, OSError):  # also cut off in the middle of a message
            yield working.pop(pipe), None
        else:
            yield working[pipe], message
