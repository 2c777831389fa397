"""One live line while something on Kaggle takes its time."""

import contextlib
import sys
import time
from collections.abc import Callable, Iterator

from rich.console import Console

from oofline.progress import log_line, say

REPEAT_SECONDS = 60.0
"""Without a terminal, a state that does not change is said again this often."""


@contextlib.contextmanager
def waiting(title: str) -> Iterator[Callable[[str], None]]:
    """Show for the time of the block that something is waited for.

    Args:
        title: what is waited for, for example ``"dataset me/toy-code"``.

    Yields:
        Call it with the state in words at every look: a terminal shows the state and the time so
        far in one live line, a log gets a line when the state changes or a minute has passed.
    """
    screen, started = Console(file=sys.stdout), time.monotonic()
    live = screen.status(title) if screen.is_terminal else None
    last_state, last_said = "", -REPEAT_SECONDS

    def update(state: str) -> None:
        """Show the present state."""
        nonlocal last_state, last_said
        passed = time.monotonic() - started
        if live is not None:
            live.update(f"{title}: {state} ({passed / 60:.0f} min)")
        if state != last_state or passed - last_said >= REPEAT_SECONDS:
            last_state, last_said = state, passed
            line = f"{title}: {state} ({passed:.0f} s)"
            log_line(line) if live is not None else say(line)

    with live or contextlib.nullcontext():
        yield update
