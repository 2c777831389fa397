"""Reads losses from the device every few steps: logging, and stopping at the first bad one."""

import re
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import psutil
import torch
from torch import Tensor

from oofline.errors import OoflineError
from oofline.training.state import Progress

EVERY_STEPS = 10
"""Steps between two looks at the device: reading it after each step would make a GPU wait."""


@dataclass(frozen=True)
class Reading:
    """What happened since the last look.

    Attributes:
        loss: mean of the window losses.
        grad_norm: norm of the last gradient before clipping.
        samples_per_s: training rows per second since the last look.
    """

    loss: float
    grad_norm: float
    samples_per_s: float


class Pulse:
    """Collects the losses of optimizer steps and reads them in one go.

    Args:
        progress: its running loss is kept up to date.
        report: takes each reading.
        scaled: a loss scaler skips steps whose gradient overflows, so those are not an error.
    """

    def __init__(
        self, progress: Progress, report: Callable[[Reading], None], scaled: bool = False
    ) -> None:
        self._progress, self._report, self._scaled = progress, report, scaled
        self._pending: list[tuple[int, list[np.ndarray], Tensor, Tensor]] = []
        self._rows = 0
        self._started = time.perf_counter()

    def add(self, step: int, batches: list[np.ndarray], loss: Tensor, norm: Tensor) -> None:
        """Take note of one optimizer step, and read when it is time to.

        Args:
            step: its index.
            batches: row indices of its window.
            loss: its loss, a scalar on the device.
            norm: its gradient norm, a scalar on the device.
        """
        self._pending.append((step, batches, loss, norm))
        self._rows += sum(len(batch) for batch in batches)
        if len(self._pending) >= EVERY_STEPS:
            self.flush()

    def flush(self) -> None:
        """Read what was added, report it and forget it.

        Raises:
            OoflineError: a loss or a gradient is not finite; names the step and the rows.
        """
        if not self._pending:
            return
        pairs = torch.stack([torch.stack([e[2].double(), e[3].double()]) for e in self._pending])
        losses, norms = pairs.cpu().numpy().T
        for (step, batches, _, _), loss, norm in zip(self._pending, losses, norms, strict=True):
            if not np.isfinite(loss):
                raise OoflineError(_bad(f"the loss is {loss}", step, batches))
            if not np.isfinite(norm) and not self._scaled:
                raise OoflineError(_bad(f"the gradient's norm is {norm}", step, batches))
        speed = self._rows / (time.perf_counter() - self._started)
        self._progress.loss_sum += float(losses.sum())
        self._progress.loss_count += len(losses)
        self._report(Reading(float(losses.mean()), float(norms[-1]), speed))
        self.restart()

    def restart(self) -> None:
        """Begin a new stretch; time that went by (an evaluation, a save) does not count."""
        self._pending, self._rows, self._started = [], 0, time.perf_counter()


def _bad(what: str, step: int, batches: list[np.ndarray]) -> str:
    rows = ", ".join(str(row) for row in np.concatenate(batches)[:16])
    return (
        f"{what} at optimizer step {step} (training rows {rows}): lower lr, lengthen "
        "warmup_fraction, or use precision = fp32"
    )


def peak_memory_mb(device: torch.device) -> float:
    """Peak memory in MB: allocated on a GPU, resident of this process on a CPU.

    On Linux it is read from /proc, because ``ru_maxrss`` of a started process begins at what its
    parent held, not at 0.
    """
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device) / 1e6
    if sys.platform == "linux":
        found = re.search(r"VmHWM:\s+(\d+) kB", Path("/proc/self/status").read_text())
        if found:
            return int(found[1]) * 1024.0 / 1e6
    try:
        import resource
    except ImportError:  # Windows
        return float(psutil.Process().memory_info().peak_wset) / 1e6
    unit = 1.0 if sys.platform == "darwin" else 1024.0
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / 1e6
