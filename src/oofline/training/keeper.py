"""Saves the resumable state in time, and leaves in time."""

import contextlib
import time
from collections.abc import Callable, Iterator

from oofline.errors import Stopped
from oofline.training.guard import Guard
from oofline.training.pulse import Pulse
from oofline.training.team import ALONE, Team


class Keeper:
    """Watches the clock between steps.

    Args:
        guard: time limit and interrupts of the whole command.
        pulse: read before every save, so that a bad loss is never saved.
        write: writes the state.
        save_minutes: minutes between two states.
        unit: name of the fold, for messages.
        team: processes that save and leave together; what one of them wants, all do.
    """

    def __init__(
        self, guard: Guard, pulse: Pulse, write: Callable[[], None], save_minutes: float,
        unit: str, team: Team = ALONE,
    ) -> None:  # fmt: skip
        self.guard, self.pulse, self.write, self.unit = guard, pulse, write, unit
        self.team = team
        self._interval = 60.0 * save_minutes
        self._saved = time.monotonic()
        self._seconds = 0.0

    def save_if_due(self) -> None:
        """Save when the last state is old enough."""
        if self.team.any(time.monotonic() - self._saved >= self._interval):
            self.save()

    def save(self) -> None:
        """Read the pending losses, then write the state."""
        self.pulse.flush()
        started = time.monotonic()
        self.write()
        self._saved = time.monotonic()
        self._seconds = self._saved - started
        self.pulse.restart()

    def leave_if_out_of_time(self, seconds: float, doing: str = "") -> None:
        """Save and stop if work of that many seconds no longer fits.

        Raises:
            Stopped: with the state saved.
        """
        with self.saving_when_stopped(), self.team.together():
            self.stop_if_out_of_time(seconds, doing)

    def stop_if_out_of_time(self, seconds: float, doing: str = "") -> None:
        """Stop without saving: below `saving_when_stopped`, which saves once weights are back.

        In a team this asks nobody: it belongs inside `Team.together`.

        Raises:
            Stopped: work of that many seconds no longer fits.
        """
        if self.guard.must_stop(seconds + self._seconds):
            raise Stopped(
                f"{self.guard.reason}: {self.unit} is saved{doing}; the same command goes on "
                "from there",
                self.guard.exit_code,
            )

    @contextlib.contextmanager
    def saving_when_stopped(self) -> Iterator[None]:
        """Save the state when what runs inside is stopped, after it has put the weights back."""
        try:
            yield
        except Stopped:
            self.save()
            raise
