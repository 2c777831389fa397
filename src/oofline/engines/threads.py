"""How many threads a fold computes with: bits of a result on a CPU depend on it."""

import contextlib
from collections.abc import Iterator

import threadpoolctl
import torch

from oofline.config import CFG


def threads_per_fold(cfg: CFG) -> int:
    """Threads of a fold that is trained on a CPU, whichever engine trains it.

    Args:
        cfg: gives cpus_per_fold; 0 divides this machine's threads by the entries of ``device``.
    """
    side_by_side = cfg.device.count(",") + 1
    return cfg.cpus_per_fold or max(1, torch.get_num_threads() // side_by_side)


def limit_threads(n: int) -> None:
    """Let this process compute with ``n`` threads: torch, BLAS and OpenMP alike."""
    threadpoolctl.threadpool_limits(n)
    torch.set_num_threads(n)


@contextlib.contextmanager
def limited_threads(n: int) -> Iterator[None]:
    """Compute with ``n`` threads for the time of the block (see `limit_threads`)."""
    before = torch.get_num_threads()
    with threadpoolctl.threadpool_limits(n):
        try:
            torch.set_num_threads(n)
            yield
        finally:
            torch.set_num_threads(before)
