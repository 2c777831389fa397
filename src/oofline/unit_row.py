"""A unit of work that is running somewhere, as one row of a table."""

import heapq
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

EXACT_ROUNDS = 8
"""How many units of each running one are planned one by one; before that they go on in step."""
_NO_SCORES = ("loss", "samples_per_s")


@dataclass
class UnitRow:
    """A unit that was begun.

    Attributes:
        unit: its name among all units.
        where: its worker's name.
        log: file that holds what the worker says.
        began: when it was handed over, in seconds of `time.monotonic`.
        name: what it is called in the table.
        state: what it is doing.
        title: of the bar that its process shows.
        done: steps of that bar that are done.
        total: steps of that bar.
        start: steps that were done when the bar was first heard of, at ``since``.
        since: in seconds of `time.monotonic`.
        score: the latest, with its metric's name.
    """

    unit: str
    where: str
    log: Path
    began: float
    name: str = ""
    state: str = "starting"
    title: str = ""
    done: int = 0
    total: int = 0
    start: int = 0
    since: float = 0.0
    score: str = ""

    @property
    def label(self) -> str:
        """What it is called, and where it runs once it has begun."""
        return f"{self.name} on {self.where}" if self.where else self.name

    def follow(self, title: str, done: int, total: int, note: str, now: float) -> None:
        """Take up what the bar of the unit's process says."""
        if (title, total) != (self.title, self.total):
            self.title, self.total, self.start, self.since = title, total, done, now
        self.done = done
        name, comma, state = title.partition(", ")
        if comma:  # the process knows better what its unit is, see `progress.within`
            self.name, self.state = name, state
        else:
            self.state = _without_name(title, self.unit) or "running"
        self.score = _scores(note) or self.score

    def rest(self, now: float, usual: float | None) -> float | None:
        """Seconds that it still takes: by its bar, and by how long others took."""
        by_bar = None
        if self.done > self.start:
            by_bar = (now - self.since) / (self.done - self.start) * (self.total - self.done)
        by_others = None if usual is None else max(0.0, usual - (now - self.began))
        return max((x for x in (by_bar, by_others) if x is not None), default=None)

    def cells(self, now: float, usual: float | None) -> tuple[str, ...]:
        """Unit, where, step, score, time left, state."""
        step = f"{self.done}/{self.total}" if self.total else ""
        return self.name, self.where, step, self.score, span(self.rest(now, usual)), self.state


def time_left(
    rows: Sequence[UnitRow], n_waiting: int, usual: float | None, now: float
) -> float | None:
    """Seconds until all units are done; a waiting one starts where a running one ends.

    Args:
        rows: that run.
        n_waiting: units that do not run yet.
        usual: seconds of a finished unit; None = there is none yet.
        now: in seconds of `time.monotonic`.

    Returns:
        None while nothing is known, 0 when all are done.
    """
    rests = [row.rest(now, usual) for row in rows]
    known = [(now - row.began, rest) for row, rest in zip(rows, rests, strict=True)
             if rest is not None]  # fmt: skip
    if not rows:
        return None if n_waiting else 0.0
    if not known:
        return None
    if usual is None:
        usual = sum(past + rest for past, rest in known) / len(known)
    rounds = max(0, n_waiting // len(rests) - EXACT_ROUNDS)  # of thousands, most at once
    ends = [(usual if rest is None else rest) + rounds * usual for rest in rests]
    heapq.heapify(ends)
    for _ in range(n_waiting - rounds * len(rests)):
        heapq.heapreplace(ends, ends[0] + usual)
    return max(ends)


def span(seconds: float | None) -> str:
    """A length of time to two digits or so: "48 s", "12 min", "3.4 h"; "" for None."""
    if seconds is None:
        return ""
    if seconds < 120:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 6000 else f"{seconds / 3600:.1f} h"


def _scores(note: str) -> str:
    """What a bar's figures hold besides loss and speed: the score under its metric's name."""
    words = note.split()
    pairs = zip(words[::2], words[1::2], strict=False)
    return " ".join(f"{name} {value}" for name, value in pairs if name not in _NO_SCORES)


def _without_name(title: str, unit: str) -> str:
    """What a bar's title says besides the unit's name or the end of it ("seed 42 fold 0 test")."""
    words, name = title.split(), unit.split()
    known = (n for n in range(len(words), 0, -1) if words[:n] == name[-n:])
    return " ".join(words[next(known, 0) :])
