"""Live bars in a terminal, plain lines everywhere else, and always in the log file.

A worker process hands its lines and bars to the process that started it (`relay_to`), which shows
them as its own (`Bar.follow`): one line per device.
"""

import contextlib
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, Progress, TaskID, TextColumn, TimeRemainingColumn

PLAIN_SECONDS = 10.0
"""A bar prints (without a terminal) and logs a line at most this often."""

RELAY_SECONDS = 0.2
"""A bar tells another process where it stands at most this often."""

_active: list[Progress] = []
_relays: list[Callable[..., None]] = []


class _Log:
    """Appends lines to a file once its folder exists: a refused command makes no folder."""

    def __init__(self) -> None:
        self.restart(None)

    def restart(self, path: Path | None) -> None:
        """Write to another file from here on; None = to none."""
        self.path = path
        self._waiting: list[str] = []

    def write(self, text: str) -> None:
        """Append one line with the time."""
        if self.path is None:
            return
        self._waiting.append(f"{time.strftime('%Y-%m-%d %H:%M:%S')} {text}\n")
        if self.path.parent.is_dir():
            with contextlib.suppress(OSError), self.path.open("a", encoding="utf-8") as handle:
                handle.writelines(self._waiting)
            self._waiting.clear()


_log = _Log()


def log_to(path: Path | None) -> None:
    """From now on, append every line to this file as well, with the time; None stops that."""
    _log.restart(path)


def log_line(text: str) -> None:
    """Append a line to the log file only (see `log_to`)."""
    _log.write(text)


def console() -> Console:
    """The console that everything prints to (looked up late, so that tests can capture it)."""
    return _active[-1].console if _active else Console(file=sys.stdout, soft_wrap=True)


def say(text: str) -> None:
    """Print one line, above a live bar where there is one, and log it."""
    _log.write(text)
    if _relays:
        _relays[-1]("say", text)
    else:
        console().print(text, markup=False, highlight=False)


def relay_to(send: Callable[..., None]) -> None:
    """From now on, hand lines and bars over in place of printing them; the log file stays.

    Args:
        send: called as ``send("say", text)`` and ``send("bar", title, done, total, note)``.
    """
    _relays.append(send)


def hand_over(*message: Any) -> None:
    """Send a message of another kind where lines and bars are handed over, if anywhere."""
    if _relays:
        _relays[-1](*message)


class Bar:
    """One bar: ``advance`` it, with figures to show beside it."""

    def __init__(self, title: str, total: int, progress: Progress | None, start: int = 0) -> None:
        self.title, self.total, self.done, self.start = title, total, start, start
        self._progress, self._note = progress, ""
        self._task: TaskID | None = (
            progress.add_task(title, total=total, completed=start, note="") if progress else None
        )
        self._started = self._printed = self._relayed = time.monotonic()

    def below(self, title: str) -> "Bar":
        """A further bar in the same display, for what `follow` is told."""
        return Bar(title, 1, self._progress)

    def follow(self, title: str, done: int, total: int, note: str) -> None:
        """Show the state that a bar of another process is in."""
        if (title, total) != (self.title, self.total):
            self.title, self.total, self.start = title, total, done
            self._started = time.monotonic()
        self.done, self._note = done, note
        if self._progress is not None and self._task is not None:
            self._progress.update(
                self._task, description=title, completed=done, total=total, note=note
            )
        hand_over("bar", title, done, total, note)
        self._tell(time.monotonic())

    @property
    def left(self) -> int:
        """Units of work that are left."""
        return self.total - self.done

    def advance(self, n: int = 1, **figures: float) -> None:
        """Move on by ``n`` units; ``figures`` are shown by name (four significant digits)."""
        self.done += n
        if figures:
            self._note = " ".join(f"{name} {value:.4g}" for name, value in figures.items())
        if self._progress is not None and self._task is not None:
            self._progress.update(self._task, advance=n, note=self._note)
        now = time.monotonic()
        if _relays and (now - self._relayed >= RELAY_SECONDS or self.done >= self.total):
            self._relayed = now
            _relays[-1]("bar", self.title, self.done, self.total, self._note)
        self._tell(now)

    def _tell(self, now: float) -> None:
        """A plain line, when the last one is old enough; where it is shown live, to the log."""
        if now - self._printed < PLAIN_SECONDS:
            return
        self._printed = now
        left = (now - self._started) / max(1, self.done - self.start) * (self.total - self.done)
        note = f" {self._note}" if self._note else ""
        line = f"{self.title}: {self.done}/{self.total}{note} ({left:.0f} s left)"
        _log.write(line) if self._progress is not None or _relays else say(line)


@contextlib.contextmanager
def bar(title: str, total: int, start: int = 0) -> Iterator[Bar]:
    """Show a bar for the time of the block.

    Args:
        title: what is going on, for example ``"seed 42 fold 0"``.
        total: number of units of work.
        start: units that were done before (a resumed run).
    """
    if _active or not Console(file=sys.stdout).is_terminal:
        yield Bar(title, total, _active[-1] if _active else None, start)
        return
    columns = (
        TextColumn("{task.description}"), BarColumn(), TextColumn("{task.completed}/{task.total}"),
        TimeRemainingColumn(), TextColumn("{task.fields[note]}"),
    )  # fmt: skip
    with Progress(*columns, console=Console(file=sys.stdout), transient=True) as progress:
        _active.append(progress)
        try:
            yield Bar(title, total, progress, start)
        finally:
            _active.remove(progress)
