"""One table for many units of work at once: where each runs, how far it is, what it scores.

Live in a terminal, one output that is updated in place in a notebook, and elsewhere a few lines now
and then, with a line for each unit that ends. The log file gets the plain form in any case.
"""

import contextlib
import io
import time
from collections import deque
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from rich.console import Console, Group
from rich.live import Live
from rich.table import Table
from rich.text import Text

from oofline import progress
from oofline.progress import log_line, on_screen, say, screen
from oofline.unit_row import UnitRow, span, time_left

SHOWN_SECONDS = {"terminal": 0.25, "notebook": 1.0}
"""A table that is shown in place follows the bars at most this often."""
LONGEST_SILENCE = 600.0
"""Seconds between two tables of a plain log, at most: a quarter of the time that has passed."""
RUNNING_ROWS, FINISHED_ROWS, FAILED_ROWS = 24, 3, 5
"""Most units of each kind that the table holds."""
WIDTH = 120
"""Characters of a line of a plain table, at most."""


class Board:
    """What the units of a command are doing; made by `board`.

    Every unit has a name of its own. Units wait until `begin`, and again after `retry`.

    Args:
        title: what the units are, for example ``"units"``.
        n_units: how many there are.
    """

    def __init__(self, title: str, n_units: int) -> None:
        self.title, self.n_units, self.n_done = title, n_units, 0
        self.running: dict[str, UnitRow] = {}
        self.failures: list[tuple[str, str, Path]] = []
        self._finished: deque[tuple[str, ...]] = deque(maxlen=FINISHED_ROWS)
        self._seconds = 0.0
        self._began = self._printed = self._drawn = time.monotonic()
        self._draw: Callable[[], None] = lambda: None
        self._pause = float("inf")

    def begin(self, unit: str, where: str, log: Path) -> None:
        """A unit was handed to a worker.

        Args:
            unit: its name.
            where: the worker's, for example ``"cuda:0"``.
            log: file that holds what the worker says.
        """
        self.running[unit] = UnitRow(unit, where, log, time.monotonic(), unit)
        self._show(changed=True)

    def follow(self, unit: str, title: str, done: int, total: int, note: str) -> None:
        """The bar of a unit's process moved on (see `progress.relay_to`)."""
        if unit in self.running:
            self.running[unit].follow(title, done, total, note, time.monotonic())
        self._show()

    def say(self, where: str, text: str) -> None:
        """Print a worker's line, above the table where that is shown in place."""
        say(f"{where} | {text}")

    def retry(self, unit: str, reason: str) -> None:
        """A unit lost its worker; it waits for another."""
        row = self.running.pop(unit, None)
        say(f"{row.name if row else unit}: {reason}; it is queued again")
        self._show(changed=True)

    def end(self, unit: str, outcome: Any = None) -> None:
        """A unit is done; text is shown in place of its last score, False = another has it."""
        row, seconds = self._leave(unit)
        self.n_done += 1
        self._seconds += seconds
        score = outcome if isinstance(outcome, str) else row.score
        score = "left to another process" if outcome is False else score
        took = f"done in {span(seconds)}"
        self._finished.append((row.name, row.where, "", score, "", took))
        score = f", {score}" if score else ""
        self._line(f"{row.label}: {took}{score}; {self.counts()}")

    def fail(self, unit: str, reason: str, log: Path) -> None:
        """A unit failed; it is listed again when the board is closed.

        Args:
            unit: its name.
            reason: one line.
            log: file to look into.
        """
        row, _ = self._leave(unit)
        self.failures.append((row.name, reason, log))
        self._line(f"{row.label}: failed, {reason}; {self.counts()}")

    def counts(self) -> str:
        """How many units are in which state, and the time left for all, in one line."""
        numbers = {
            "done": self.n_done, "running": len(self.running), "waiting": self._n_waiting(),
            "failed": len(self.failures),
        }  # fmt: skip
        parts = [f"{n} {name}" for name, n in numbers.items() if n or name == "done"]
        left = self.seconds_left()
        end = f", about {span(left)} left" if left else ""
        return f"{self.title}: {', '.join(parts)}{end}"

    def seconds_left(self) -> float | None:
        """Seconds until all units are done, if each takes what those before it took.

        The rest of each running unit comes from its own bar and from the finished ones; a waiting
        one starts where a running one ends. None while nothing is known, 0 when all are done.
        """
        rows = list(self.running.values())
        return time_left(rows, self._n_waiting(), self._usual(), time.monotonic())

    def _n_waiting(self) -> int:
        known = self.n_done + len(self.running) + len(self.failures)
        return max(0, self.n_units - known)

    def table(self) -> Table:
        """The running units, the last that were finished, and those that failed."""
        names = ("unit", "where", "step", "score", "left", "state")
        table = Table(*names, box=None, pad_edge=False, padding=(0, 2, 0, 0))
        now, usual = time.monotonic(), self._usual()
        rows = list(self.running.values())
        for cells in self._finished:
            table.add_row(*map(Text, cells), style="dim")
        for row in rows[:RUNNING_ROWS]:
            table.add_row(*map(Text, row.cells(now, usual)))
        if len(rows) > RUNNING_ROWS:
            table.add_row(f"and {len(rows) - RUNNING_ROWS} more", style="dim")
        for unit, reason, _ in self.failures[-FAILED_ROWS:]:
            cells = (unit, "", "", "", "", f"failed: {reason}")
            table.add_row(*map(Text, cells), style="red")  # as text: brackets are no markup
        return table

    def view(self) -> Group:
        """The counts, and the table below them."""
        return Group(Text(self.counts()), self.table())

    def text(self) -> list[str]:
        """The same as plain lines."""
        plain = Console(file=io.StringIO(), width=WIDTH, color_system=None, force_jupyter=False)
        with plain.capture() as captured:
            plain.print(self.table())
        return [self.counts(), *(f"  {line.rstrip()}" for line in captured.get().splitlines())]

    def close(self) -> None:
        """List what failed, with the logs."""
        for unit, reason, log in self.failures:
            say(f"failed: {unit}: {reason}" + f" (log: {log})" * (log != Path()))

    def drawn_by(self, draw: Callable[[], None], pause: float) -> None:
        """Have ``draw`` show the board in place, at most every ``pause`` seconds."""
        self._draw, self._pause = draw, pause

    def _usual(self) -> float | None:
        return self._seconds / self.n_done if self.n_done else None

    def _leave(self, unit: str) -> tuple[UnitRow, float]:
        now = time.monotonic()
        row = self.running.pop(unit, None) or UnitRow(unit, "", Path(), now, unit)
        return row, now - row.began

    def _line(self, text: str) -> None:
        """A plain line: to the log alone where a table is shown in place."""
        log_line(text) if self._is_drawn else say(text)
        self._show(changed=True)

    @property
    def _is_drawn(self) -> bool:
        return self._pause < float("inf")

    def _show(self, changed: bool = False) -> None:
        """Show what is due: in place a unit's beginning or end at once, bars now and then."""
        now = time.monotonic()
        if changed or now - self._drawn >= self._pause:
            self._drawn = now
            self._draw()
        silence = min(LONGEST_SILENCE, (now - self._began) / 4)
        if now - self._printed >= max(progress.PLAIN_SECONDS, silence):
            self._printed = now
            for line in self.text():
                log_line(line) if self._is_drawn else say(line)


@contextlib.contextmanager
def board(title: str, n_units: int) -> Iterator[Board]:
    """Show a board for the time of the block; on leaving it, the units that failed are listed.

    Args:
        title: what the units are, for example ``"units"``.
        n_units: how many there are.
    """
    table, kind = Board(title, n_units), screen()
    try:
        if kind == "terminal":
            with _live(table):
                yield table
        else:
            with _in_notebook(table) if kind == "notebook" else contextlib.nullcontext():
                yield table
    finally:
        table.close()


@contextlib.contextmanager
def _live(table: Board) -> Iterator[None]:
    with Live(console=progress.plain_console(), auto_refresh=False, transient=True) as live:
        table.drawn_by(lambda: live.update(table.view(), refresh=True), SHOWN_SECONDS["terminal"])
        with on_screen(live):
            yield
    log_line(table.counts())


@contextlib.contextmanager
def _in_notebook(table: Board) -> Iterator[None]:
    """One output of the cell, drawn anew in its place, and a last time when all is over."""
    from IPython.display import display

    handle = display({"text/plain": table.counts()}, raw=True, display_id=True)

    def draw() -> None:
        """Replace the output."""
        text = "\n".join(table.text())
        handle.update({"text/plain": text}, raw=True)

    table.drawn_by(draw, SHOWN_SECONDS["notebook"])
    try:
        yield
    finally:
        draw()
