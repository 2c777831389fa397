"""Live bars in a terminal, plain lines everywhere else, and always in the log file.

A worker process hands its lines and bars to the process that started it (`relay_to`), which shows
them as rows of a `oofline.board`.
"""

import contextlib
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Literal

from rich.console import Console
from rich.live import Live
from rich.progress import BarColumn, Progress, TaskID, TextColumn, TimeRemainingColumn

PLAIN_SECONDS = 10.0
"""A bar prints (without a terminal) and logs a line at most this often."""

RELAY_SECONDS = 0.2
"""A bar tells another process where it stands at most this often."""

_active: list[Progress | Live] = []
_relays: list[Callable[..., None]] = []
_followers: list[Callable[[str, int, int, str], None]] = []
_names: list[str] = []
_quiet: list[bool] = []


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
    return _active[-1].console if _active else plain_console()


def plain_console() -> Console:
    """A console on what stdout is now; in a notebook its lines share one output of the cell."""
    return Console(file=sys.stdout, soft_wrap=True, force_jupyter=False)


def screen() -> Literal["terminal", "notebook", "log"]:
    """Where something can be shown in place: "log" = nowhere (or a live bar is there already)."""
    if Console(file=sys.stdout).is_jupyter:
        return "notebook"
    return "terminal" if plain_console().is_terminal and not _active else "log"


@contextlib.contextmanager
def on_screen(shown: Progress | Live) -> Iterator[None]:
    """For the time of the block, lines are printed above what ``shown`` shows in place."""
    _active.append(shown)
    try:
        yield
    finally:
        _active.remove(shown)


@contextlib.contextmanager
def within(name: str) -> Iterator[None]:
    """Bars made in the block are titled "<name>, <title>": a part of something larger."""
    _names.append(name)
    try:
        yield
    finally:
        _names.pop()


@contextlib.contextmanager
def followed(follow: Callable[[str, int, int, str], None]) -> Iterator[None]:
    """Bars made in the block show nothing: ``follow(title, done, total, note)`` hears of them."""
    _followers.append(follow)
    try:
        yield
    finally:
        _followers.remove(follow)


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Lines said in the block go to the log file only; bars are shown."""
    _quiet.append(True)
    try:
        yield
    finally:
        _quiet.pop()


def say(text: str) -> None:
    """Print one line, above a live bar where there is one, and log it."""
    _log.write(text)
    if not _quiet:
        _print(text)


def _print(text: str) -> None:
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


def _full(title: str) -> str:
    return ", ".join([*_names, title])


class Bar:
    """One bar: ``advance`` it, with figures to show beside it."""

    def __init__(self, title: str, total: int, progress: Progress | None, start: int = 0) -> None:
        self.title, self.total, self.done, self.start = title, total, start, start
        self._progress, self._note = progress, ""
        self._task: TaskID | None = (
            progress.add_task(title, total=total, completed=start, note="") if progress else None
        )
        self._started = self._printed = self._relayed = time.monotonic()

    def follow(self, title: str, done: int, total: int, note: str) -> None:
        """Show the state that a bar of another process is in."""
        title = _full(title)
        if (title, total) != (self.title, self.total):
            self.title, self.total, self.start = title, total, done
            self._started = time.monotonic()
        self.done, self._note = done, note
        if self._progress is not None and self._task is not None:
            self._progress.update(
                self._task, description=title, completed=done, total=total, note=note
            )
        self._pass_on()
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
        if now - self._relayed >= RELAY_SECONDS or self.done >= self.total:
            self._relayed = now
            self._pass_on()
        self._tell(now)

    def _pass_on(self) -> None:
        """Where it stands, to whoever shows it in its place."""
        if _followers:
            _followers[-1](self.title, self.done, self.total, self._note)
        else:
            hand_over("bar", self.title, self.done, self.total, self._note)

    def _tell(self, now: float) -> None:
        """A plain line, when the last one is old enough; where it is shown live, to the log."""
        if now - self._printed < PLAIN_SECONDS:
            return
        self._printed = now
        left = (now - self._started) / max(1, self.done - self.start) * (self.total - self.done)
        note = f" {self._note}" if self._note else ""
        line = f"{self.title}: {self.done}/{self.total}{note} ({left:.0f} s left)"
        _log.write(line)
        if self._progress is None and not _relays and not _followers:
            _print(line)


@contextlib.contextmanager
def bar(title: str, total: int, start: int = 0) -> Iterator[Bar]:
    """Show a bar for the time of the block.

    Args:
        title: what is going on, for example ``"seed 42 fold 0"``.
        total: number of units of work.
        start: units that were done before (a resumed run).
    """
    title = _full(title)
    if _active or _followers or not plain_console().is_terminal:
        shown = _active[-1] if _active else None
        yield Bar(title, total, shown if isinstance(shown, Progress) else None, start)
        return
    columns = (
        TextColumn("{task.description}"), BarColumn(), TextColumn("{task.completed}/{task.total}"),
        TimeRemainingColumn(), TextColumn("{task.fields[note]}"),
    )  # fmt: skip
    with (
        Progress(*columns, console=plain_console(), transient=True) as progress,
        on_screen(progress),
    ):
        yield Bar(title, total, progress, start)
