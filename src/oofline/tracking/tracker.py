"""One tracked run, whose failures are said once and never reach the training."""

import queue
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas as pd

from oofline.errors import Stopped
from oofline.progress import say

QUEUE_SIZE = 10_000
"""Calls that may wait for wandb before tracking of the run is given up."""
RUNNING = "running"
"""Marker in a run's folder from its start to its end."""
PENDING = "upload-pending"
"""Marker in an online run's folder whose end found the server too slow."""


class Tracker:
    """One tracked run; without a wandb run behind it, every method does nothing.

    All calls are handed to one background thread, so training waits for wandb only in `finish`,
    and there for a bounded time. Any failure of wandb is said once and ends the tracking of this
    run, never the training.

    Args:
        run: a started wandb run, or None.
        finish_seconds: time for the upload in `finish`, which returns after twice as much.

    Attributes:
        id: the run's id, "" when nothing is tracked.
        server_failed: the server was silent in this process; later runs start offline at once.
        group: group of all runs of this process; "" = each experiment is a group.
    """

    server_failed = False
    group = ""

    def __init__(self, run: Any = None, finish_seconds: float = 0.0) -> None:
        self.id: str = run.id if run is not None else ""
        self._run = run
        self._finish_seconds = finish_seconds
        self._calls: queue.Queue[Callable[[Any], None] | None] = queue.Queue(QUEUE_SIZE)
        self._worker: threading.Thread | None = None
        if run is not None:
            self._worker = threading.Thread(target=self._work, name="wandb", daemon=True)
            self._worker.start()

    def log(self, values: dict[str, float], step: int) -> None:
        """Add a point to every named curve.

        Args:
            values: curve name -> value.
            step: optimizer step, the x axis. It is logged as a value, so a resumed run may repeat
                steps that were logged before it was killed.
        """
        point = {**values, "step": step}
        self._hand_over(lambda run: run.log(point))

    def summary(self, values: dict[str, Any]) -> None:
        """Set the run's final figures (JSON types)."""
        self._hand_over(lambda run: run.summary.update(values))

    def table(self, name: str, frame: pd.DataFrame) -> None:
        """Show a table; columns that are neither numbers nor truth values are shown as text."""
        self._hand_over(lambda run: run.log({name: _table(frame)}))

    def picture(self, name: str, path: Path) -> None:
        """Show an image file (it must stay in place until `finish`)."""
        self._hand_over(lambda run: run.log({name: _image(path)}))

    def finish(self, failed: bool = False) -> None:
        """End the run; what is not uploaded in time stays on disk for `sync`.

        Args:
            failed: the run is shown as failed.
        """
        self._hand_over(lambda run: _finish(run, failed))
        self._hand_over(None)
        if self._worker is None or self._run is None:
            return
        self._worker.join(timeout=2 * self._finish_seconds)
        if self._worker.is_alive():
            Tracker.server_failed = True
            self._stop("it does not answer")
        self._run = self._worker = None

    def __enter__(self) -> "Tracker":
        return self

    def __exit__(self, kind: Any, error: Any, trace: Any) -> None:
        self.finish(failed=kind is not None and not issubclass(kind, Stopped))

    def _hand_over(self, call: Callable[[Any], None] | None) -> None:
        if self._run is None:
            return
        try:
            self._calls.put_nowait(call)
        except queue.Full:
            self._stop("it does not keep up")

    def _work(self) -> None:
        while (run := self._run) is not None and (call := self._calls.get()) is not None:
            try:
                call(run)
            except Exception as error:
                self._stop(last_line(error))

    def _stop(self, reason: str) -> None:
        if self._run is None:
            return
        self._run = None
        say(f"wandb: {reason}; {self.id} is not tracked any further")


def _finish(run: Any, failed: bool) -> None:
    running = Path(run.settings.sync_dir) / RUNNING
    try:
        run.finish(exit_code=int(failed))
    except TimeoutError:
        running.replace(running.with_name(PENDING))
        say("wandb: the server did not take everything in time; `make sync` uploads the rest")
    else:
        running.unlink(missing_ok=True)


def _image(path: Path) -> Any:
    import wandb

    return wandb.Image(str(path))


def _table(frame: pd.DataFrame) -> Any:
    import wandb

    shown = {
        column: values.astype(object).where(values.notna(), None)
        if pd.api.types.is_numeric_dtype(values)
        else values.astype(str)
        for column, values in frame.items()
    }
    return wandb.Table(dataframe=pd.DataFrame(shown))


def last_line(error: object) -> str:
    """The last non-empty line of a message, cut to a readable length."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return (lines[-1] if lines else type(error).__name__)[:200]
