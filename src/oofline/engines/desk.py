"""The way between the processes of a cluster and the command that started them."""

import threading
from typing import Any

from oofline.training.guard import Guard

BEAT_SECONDS = 0.5
"""How often a process says where it stands, and asks whether it shall stop."""


class Desk:
    """Where processes leave messages for the command, and see whether they shall stop.

    An actor on the command's own machine: a process that cannot reach it stops.
    """

    def __init__(self) -> None:
        self._messages: list[tuple[Any, ...]] = []
        self._stopping = False

    def leave(self, messages: list[tuple[Any, ...]]) -> bool:
        """Take messages; returns whether to save and stop."""
        self._messages += messages
        return self._stopping

    def collect(self) -> list[tuple[Any, ...]]:
        """Messages since the last call."""
        messages, self._messages = self._messages, []
        return messages

    def stop(self) -> None:
        """From now on everyone is told to save and stop."""
        self._stopping = True


class Line:
    """Messages of one unit on their way to the desk, and its word to stop on the way back."""

    def __init__(self, desk: Any, ticket: tuple[int, int]) -> None:
        self.desk, self.ticket = desk, ticket
        self.rest: list[tuple[Any, ...]] = []
        self.guard: Guard | None = None
        self._stopping = False
        self._lock, self._end = threading.Lock(), threading.Event()
        self._thread = threading.Thread(target=self._beat, daemon=True)

    def __enter__(self) -> "Line":
        self._thread.start()
        return self

    def __exit__(self, *error: object) -> None:
        self._end.set()
        self._thread.join()

    def send(self, kind: str, *content: Any) -> None:
        """Leave a message with the next beat; of bars only the last."""
        with self._lock:
            if kind == "bar" and self.rest and self.rest[-1][1] == "bar":
                self.rest.pop()
            self.rest.append((self.ticket, kind, *content))

    def obey(self, guard: Guard) -> None:
        """Stop this guard's work when the desk says so."""
        self.guard = guard
        guard.interrupted = guard.interrupted or self._stopping

    def _beat(self) -> None:
        import ray

        while True:
            with self._lock:
                messages, self.rest = self.rest, []
            try:
                stopping = ray.get(self.desk.leave.remote(messages))
            except ray.exceptions.RayError:
                stopping = True  # nobody is there any more
            self._stopping = self._stopping or stopping
            if stopping and self.guard is not None:
                self.guard.interrupted = True
            if self._end.wait(BEAT_SECONDS):
                return
