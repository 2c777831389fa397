"""Units of work handed out to a cluster: at most a few ahead, each done once, lost ones again.

What a cluster is, is told by a small protocol (`Cluster`), so that a simulated one drives the same
code. Events of a cluster are ``(ticket, kind, *content)``:

    ("begun", where, log)            a process took the unit
    ("say", text)                    a line of that process
    ("bar", title, done, total, note)   where its bar stands
    ("done", outcome)                and as the last of a ticket one of these
    ("stopped", text, exit code)     it has saved its state
    ("failed", text)                 the unit cannot be done
    ("bug", traceback)
    ("lost", reason)                 its process or node is gone
"""

import time
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from oofline.board import Board
from oofline.engines.outcome import After, Failure
from oofline.errors import OoflineError, Stopped
from oofline.training.guard import Guard

ATTEMPTS = 3
"""A unit whose process is lost this many times has failed."""
POLL_SECONDS = 0.2
"""How long to wait for events before an interrupt is looked for."""
SLOTS_SECONDS = 2.0
"""How often the cluster is asked how many units it can run."""
AHEAD = 0.25
"""Units that wait in the cluster beyond those that run, as a share of these (at least 2)."""
CANCEL_SECONDS = 3.0
"""After a stop, units that have not begun by then are taken back."""
GONE_SECONDS = 60.0
"""No node that could run a unit for this long, and none runs: the cluster is gone."""

Ticket = tuple[int, int]
"""(index of the unit, how-manieth attempt from 1)."""
Event = tuple[Any, ...]


class Cluster(Protocol):
    """What runs units somewhere."""

    def slots(self) -> int:
        """Units that it could run at the same time now."""

    def submit(self, ticket: Ticket, unit: Any, name: str) -> None:
        """Take a unit; its events carry the ticket."""

    def events(self, seconds: float) -> list[Event]:
        """What happened, waiting that long at most for something to."""

    def stop(self) -> None:
        """Ask every running unit to save and stop."""

    def cancel(self, tickets: list[Ticket]) -> None:
        """Forget units that have not begun; nothing more is heard of these tickets."""


@dataclass
class _Running:
    """A unit that the cluster has, and where, once it has begun."""

    where: str = ""
    log: Path | None = None


class Dispatch:
    """The units of one command on a cluster.

    Args:
        cluster: runs them.
        units: what is to be done.
        name: how a unit is called in messages; each differently.
        guard: of this process, within its `Guard.signals`.
        table: shows what goes on.
        most: units side by side at most; 0 = as many as the cluster has slots.
        go_on: a unit that fails is an outcome (`Failure`), in place of stopping the others.
        after: called with each unit and its outcome.
    """

    def __init__(
        self, cluster: Cluster, units: Sequence[Any], name: Callable[[Any], str], guard: Guard,
        table: Board, most: int = 0, go_on: bool = False, after: After | None = None,
    ) -> None:  # fmt: skip
        self.cluster, self.units, self.name, self.guard = cluster, units, name, guard
        self.table, self.most, self.go_on, self.after = table, most, go_on, after
        self.left = deque(range(len(units)))
        self.attempts = [0] * len(units)
        self.running: dict[Ticket, _Running] = {}
        self.outcomes: list[Any] = []
        self.reason: Exception | None = None
        self.stopping = False
        self._slots, self._asked, self._able = 0, float("-inf"), time.monotonic()
        self._stopped = float("inf")

    def run(self) -> list[Any]:
        """Do every unit.

        Returns:
            What each unit gave, in the order in which they ended.

        Raises:
            Stopped: time limit or interrupt; each unit that had begun has saved its state.
            OoflineError: a unit failed, lost its process too often, or no node is left.
            RuntimeError: a bug in a unit, with its traceback.
        """
        while self.running or (self.left and not self.stopping):
            self._hand_out()
            for ticket, kind, *content in self.cluster.events(POLL_SECONDS):
                if ticket in self.running:
                    self._hear(ticket, kind, *content)
            if self.guard.must_stop(0.0):  # units watch the time too, once they have begun
                self._stop(Stopped(self.guard.reason, self.guard.exit_code))
            if self.stopping:
                self._cancel_waiting()
            else:
                self._notice_an_end_of_nodes()
        if isinstance(self.reason, Stopped):
            left = f"{len(self.units) - len(self.outcomes)} of {len(self.units)} left"
            text = f"{self.reason} with {left}: run the same command again to go on"
            raise Stopped(text, self.reason.exit_code)
        if self.reason is not None:
            raise self.reason
        return self.outcomes

    def _hand_out(self) -> None:
        """Keep the cluster busy with a few units more than it can run."""
        if self.stopping or not self.left:
            return
        now = time.monotonic()
        if now - self._asked >= SLOTS_SECONDS:
            self._slots, self._asked = self.cluster.slots(), now
        ahead = max(2, int(self._slots * AHEAD)) if self._slots else 0
        room = min(self._slots + ahead, self.most or len(self.units)) - len(self.running)
        for _ in range(min(room, len(self.left))):
            index = self.left.popleft()
            self.attempts[index] += 1
            ticket = index, self.attempts[index]
            self.running[ticket] = _Running()
            self.cluster.submit(ticket, self.units[index], self.name(self.units[index]))

    def _hear(self, ticket: Ticket, kind: str, *content: Any) -> None:
        unit, running = self.name(self.units[ticket[0]]), self.running[ticket]
        if kind == "begun":
            running.where, running.log = content
            self.table.begin(unit, *content)
        elif kind == "say":
            self.table.say(running.where, content[0])
        elif kind == "bar":
            self.table.follow(unit, *content)
        else:
            del self.running[ticket]
            self._ended(ticket, unit, running, kind, *content)

    def _ended(
        self, ticket: Ticket, unit: str, running: _Running, kind: str, *content: Any
    ) -> None:
        """The last event of a ticket."""
        if kind == "done":
            self.table.end(unit, content[0])
            self._note(ticket[0], content[0])
        elif kind == "stopped":
            self.table.say(running.where, content[0])
            reason = "interrupted" if content[1] else "time_limit_hours reached"
            self.reason = self.reason or Stopped(reason, content[1])
            self._stop(self.reason) if content[1] else self.left.clear()
        elif kind == "lost":
            self._lost(ticket, unit, running, content[0])
        elif kind == "failed":
            self._failed(ticket[0], unit, running, content[0])
        else:
            self.table.fail(unit, _last_line(content[0]), running.log or Path())
            where = f"{unit}{_at(running)}"
            self._stop(RuntimeError(f"{where}{_see(running)}: {content[0]}"))

    def _lost(self, ticket: Ticket, unit: str, running: _Running, reason: str) -> None:
        index, attempt = ticket
        if self.stopping:
            return
        if attempt < ATTEMPTS:
            self.table.retry(unit, f"{reason}{_at(running)}")
            self.left.appendleft(index)
            self._asked = float("-inf")
            return
        text = f"{reason}, {ATTEMPTS} times in all, the last time{_at(running)}"
        self._failed(index, unit, running, text, "was given up: ")

    def _failed(
        self, index: int, unit: str, running: _Running, text: str, how: str = "failed: "
    ) -> None:
        self.table.fail(unit, text, running.log or Path())
        if self.go_on:
            self._note(index, Failure(self.units[index], text))
        else:
            at = _at(running) if how == "failed: " else ""
            self._stop(OoflineError(f"{unit}{at} {how}{text}{_see(running)}"))

    def _note(self, index: int, outcome: Any) -> None:
        self.outcomes.append(outcome)
        if self.after is not None:
            self.after(self.units[index], outcome)

    def _stop(self, reason: Exception) -> None:
        """Ask every unit to save and stop, once; the first reason is the one that counts."""
        self.reason = self.reason or reason
        if not self.stopping:
            self.stopping, self._stopped = True, time.monotonic()
            self.cluster.stop()

    def _cancel_waiting(self) -> None:
        """Once all that had begun have ended, what still waits is not waited for."""
        if time.monotonic() - self._stopped < CANCEL_SECONDS:
            return
        if self.running and not any(running.where for running in self.running.values()):
            self.cluster.cancel(list(self.running))
            self.running.clear()

    def _notice_an_end_of_nodes(self) -> None:
        now = time.monotonic()
        if self._slots or any(running.where for running in self.running.values()):
            self._able = now
        elif now - self._able > GONE_SECONDS:
            self._stop(
                OoflineError(
                    f"no node of the cluster could take a unit for {GONE_SECONDS:.0f} s; the same "
                    "command goes on from the saved states once there is one"
                )
            )


def _at(running: _Running) -> str:
    return f" on {running.where}" if running.where else ""


def _see(running: _Running) -> str:
    return f" (log: {running.log})" if running.log else ""


def _last_line(text: str) -> str:
    return text.strip().splitlines()[-1]
