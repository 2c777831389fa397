"""How a unit ended that failed while the others were to go on."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Failure:
    """Outcome of a unit that failed: which, and why, in one line."""

    unit: Any
    reason: str


After = Callable[[Any, Any], None]
"""(unit, outcome): called in the command's process when a unit has ended, `Failure` included."""
