"""Units of several arms on a cluster, side by side."""

import functools
from collections.abc import Callable

from oofline.config import CFG
from oofline.crossval import Unit, begin, unit_name
from oofline.engines.depot import Depot
from oofline.engines.dispatch import Failure
from oofline.progress import quiet
from oofline.sharing import Work, do_on_cluster, encoder_digest, engine_ready, node_trainer
from oofline.storage import Paths
from oofline.training.guard import Guard

Job = tuple[CFG, Unit]
"""Settings of an arm, and (seed, fold)."""


def train_spread(jobs: list[Job], paths: Paths, guard: Guard) -> list[Failure]:
    """Train units of arms on a cluster, in this order; one that fails does not stop the others.

    Args:
        jobs: what is not finished; arms of one kind of model at a time.
        paths: of the competition.
        guard: of this process.

    Returns:
        Those that failed; their ``unit`` is a `Job`.

    Raises:
        Stopped: time limit or interrupt, with resumable states.
        ConfigError, DataError: an arm's settings or inputs are wrong.
        RuntimeError: a bug, with its traceback.
    """
    failures: list[Failure] = []
    for kind in dict.fromkeys(cfg.kind for cfg, _ in jobs):
        some = [job for job in jobs if job[0].kind == kind]
        arms = tuple({cfg.exp: cfg for cfg, _ in some}.values())
        with engine_ready(arms[0], len(some)):
            left = {cfg.exp: _begin(cfg, paths, _units_of(cfg, some)) for cfg in arms}
            some = [(cfg, unit) for cfg, unit in some if unit in left[cfg.exp]]
            digests = {cfg.exp: encoder_digest(cfg) for cfg in arms}
            work = Work(
                some, functools.partial(_trainer, digests), paths.output / "ablations" / "workers",
                lambda job: unit_of(*job), go_on=True, further=arms[1:], alone=True,
            )  # fmt: skip
            outcomes = do_on_cluster(arms[0], paths, work, guard) if some else []
        failures += [outcome for outcome in outcomes if isinstance(outcome, Failure)]
    return failures


def _units_of(arm: CFG, jobs: list[Job]) -> list[Unit]:
    return [unit for cfg, unit in jobs if cfg.exp == arm.exp]


def _begin(cfg: CFG, paths: Paths, units: list[Unit]) -> list[Unit]:
    """Begin an arm; returns its units that no store holds finished."""
    with quiet():
        begin(cfg, paths)
    return Depot(cfg.shared_storage, paths).begin(cfg, units) if cfg.shared_storage else units


def unit_of(cfg: CFG, unit: Unit) -> str:
    """What a unit of an arm is called in messages."""
    return f"{cfg.exp} {unit_name(unit)}"


def _trainer(
    digests: dict[str, str], paths: Paths, device: str, guard: Guard
) -> Callable[[Job], bool]:
    """What trains a unit of any arm on a node."""

    def do(job: Job) -> bool:
        """Train one unit of an arm."""
        cfg, unit = job
        return node_trainer(cfg, digests[cfg.exp], paths, device, guard)(unit)

    return do
