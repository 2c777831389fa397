"""Stopping in time: the time limit and Ctrl-C."""

import contextlib
import signal
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from types import FrameType
from typing import Protocol

import psutil

from oofline.errors import Stopped


def process_age() -> float:
    """Seconds since this process started."""
    return time.time() - psutil.Process().create_time()


class Keeping(Protocol):
    """Keeps the files of folds somewhere else too."""

    def keep(self, folder: Path) -> contextlib.AbstractContextManager[None]:
        """Bring the fold's files here, and for the time of the block its states there."""


class Guard:
    """Knows when to stop, so that there is still time to save.

    Args:
        time_limit_hours: limit counted from the start of the process; 0 = none.

    Attributes:
        interrupted: whether a stop was asked for.
        watch: takes what `seen` is told; it may raise `Stopped` to end the fold there. None =
            nobody looks.
        keeper: keeps the files of folds somewhere else too; None = they stay where they are.
        lock_seconds: how long a fold that another process trains is waited for.
    """

    def __init__(self, time_limit_hours: float = 0.0) -> None:
        self._limit = time_limit_hours * 3600.0
        self._started = time.monotonic() - process_age()
        self.interrupted = False
        self.watch: Callable[[dict[str, float]], None] | None = None
        self.keeper: Keeping | None = None
        self.lock_seconds = 0.0

    def seconds_left(self) -> float:
        """Seconds until the limit, infinite without one."""
        return self._limit - (time.monotonic() - self._started) if self._limit else float("inf")

    def must_stop(self, seconds_needed: float) -> bool:
        """Whether work of that length, with a fifth and 2 s to spare, no longer fits."""
        return self.interrupted or self.seconds_left() < 1.2 * seconds_needed + 2.0

    def seen(self, row: dict[str, float]) -> None:
        """Show an evaluation, a row of history.csv, to whoever watches this work (`watch`)."""
        if self.watch is not None:
            self.watch(row)

    def keeping(self, folder: Path) -> contextlib.AbstractContextManager[None]:
        """The time in which a fold is trained in this folder (see `Keeping`)."""
        return self.keeper.keep(folder) if self.keeper else contextlib.nullcontext()

    def check(self) -> None:
        """Leave work that has no state to save (Stopped), after an interrupt."""
        if self.interrupted:
            raise Stopped("interrupted: the same command starts this work again", self.exit_code)

    @property
    def reason(self) -> str:
        """Why it stops, for the user."""
        return "interrupted" if self.interrupted else "time_limit_hours reached"

    @property
    def exit_code(self) -> int:
        """130 after an interrupt, 0 after the time limit (the user asked for it)."""
        return 130 if self.interrupted else 0

    @contextlib.contextmanager
    def signals(self) -> Iterator[None]:
        """Turn the first Ctrl-C or SIGTERM into a request to save and stop.

        A second one acts at once, as usual. Outside the main thread this does nothing.
        """
        if threading.current_thread() is not threading.main_thread():
            yield
            return
        before = {s: signal.getsignal(s) for s in (signal.SIGINT, signal.SIGTERM)}

        def request(number: int, frame: FrameType | None) -> None:
            """Ask for a stop, and let the next signal act at once."""
            self.interrupted = True
            signal.signal(number, before[signal.Signals(number)])

        for number in before:
            signal.signal(number, request)
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)


@contextlib.contextmanager
def no_ctrl_c() -> Iterator[None]:
    """A process started inside is deaf to Ctrl-C from its first moment on."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before or signal.SIG_DFL)
