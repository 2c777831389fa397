"""What runs in each of the processes that train one fold together."""

import dataclasses
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from oofline.config import CFG
from oofline.errors import OoflineError, Stopped
from oofline.progress import hand_over
from oofline.storage import Paths
from oofline.tracking import Tracker
from oofline.training.fold import train_fold
from oofline.training.guard import Guard
from oofline.training.material import Material
from oofline.training.preparation import prepare
from oofline.training.team import join, leave

EARLIER_SECONDS = 120.0
"""How long processes of a command that was killed may take to save and end."""


@dataclass(frozen=True)
class Order:
    """What one process of the group is to do.

    Attributes:
        cfg: settings of the experiment.
        paths: of the competition.
        seed: of the fold.
        fold: its index.
        rank: number of the process.
        size: processes in the group.
        meeting: file over which they find each other.
        watched: whether evaluations are to be shown to the process that started it.
        tracking: group of tracked runs, "" = the experiment.
    """

    cfg: CFG
    paths: Paths
    seed: int
    fold: int
    rank: int
    size: int
    meeting: Path
    watched: bool
    tracking: str


def start_rank(order: Order, device: str, guard: Guard) -> Callable[[int], dict[str, Any] | None]:
    """Make ready in a process of the group; gives what trains its part of the fold.

    Only one group at a time works on a fold: processes of a command that was killed save and end
    first.

    Raises:
        OoflineError: those do not end.
    """
    Tracker.group = order.tracking
    cfg = dataclasses.replace(order.cfg, device=device)
    material = prepare(cfg, order.paths)
    assert isinstance(material, Material)
    lock = FileLock(order.paths.fold(cfg.exp, order.seed, order.fold) / ".group.lock")
    if order.rank == 0:
        try:
            lock.acquire(timeout=EARLIER_SECONDS)
        except Timeout:
            raise OoflineError(
                "processes of an earlier command still train this fold: end them, or wait"
            ) from None
    team = join(order.rank, order.size, device, order.meeting)
    if order.watched and team.first:
        guard.watch = lambda row: hand_over("seen", row)

    def train(rank: int) -> dict[str, Any] | None:
        """Train the fold together with the others; the first gives the scores."""
        try:
            result = train_fold(cfg, material, order.seed, order.fold, guard, team)
        except Stopped:
            leave()
            raise
        finally:
            lock.release()  # also keeps the lock alive up to here; nothing where it was not taken
        leave()
        return result.scores if team.first else None

    return train
