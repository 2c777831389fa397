"""Seconds that an engine takes to hand a unit out and take its result back."""

import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from oofline.engines.workers import share
from oofline.progress import quiet
from oofline.storage import Paths, read_json
from oofline.training.guard import Guard

N_UNITS = 20
"""Units that do nothing, for a measurement."""


def engine_overhead(engine: str, paths: Paths) -> tuple[float, str]:
    """Seconds per unit, and where they come from.

    Args:
        engine: "local" or "ray".
        paths: the benchmark of the engines lies below its root, where it was run.
    """
    path = paths.root / "output" / "bench" / "engines.json"
    if path.exists() and (found := stored_overhead(read_json(path), engine)) is not None:
        return found, f"{path}"
    return measured_overhead(), f"{N_UNITS} units that do nothing, on the local engine"


def stored_overhead(content: Any, engine: str) -> float | None:
    """Seconds per unit of an engine's first case in the benchmark's file; None = not in it."""
    rows = content.get("table", []) if isinstance(content, dict) else content
    for row in rows:
        seconds = row.get("seconds_per_unit")
        if engine in str(row.get("case", "")).lower() and isinstance(seconds, int | float):
            return float(seconds)
    return None


def measured_overhead() -> float:
    """Seconds from one unit that does nothing to the next, in a worker process."""
    with tempfile.TemporaryDirectory() as folder, quiet():
        ends = share(list(range(N_UNITS)), ["cpu"], _start, Path(folder), Guard(), _name)
    return (max(ends) - min(ends)) / (N_UNITS - 1)


def _start(device: str, guard: Guard) -> Callable[[Any], float]:
    return _now


def _now(unit: Any) -> float:
    return time.monotonic()


def _name(unit: Any) -> str:
    return f"unit {unit}"
