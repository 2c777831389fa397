"""From what was measured to minutes, memory and disk on a machine. Plain arithmetic."""

import math
from dataclasses import asdict, dataclass
from typing import Any

from oofline.planning.fold_on import TURNS, Measured, Range, device_memory, unit_seconds
from oofline.planning.machines import (
    KAGGLE_OUTPUT_GB,
    KAGGLE_SESSION_HOURS,
    KAGGLE_WEEK_HOURS,
    Machine,
)

SHARED_CPU = 1.4
"""Processes side by side on one CPU slow each other down by up to this factor (caches, memory)."""
MEASURED, ESTIMATED = "measured", "estimated from peak rates, not measured"
PARTLY = "measured alone, not as shared"


@dataclass(frozen=True)
class Jobs:
    """What is to be done.

    Attributes:
        n_units: folds x seeds that are left (of every trial, where there are trials).
        n_trials: trials of a tuning; 0 = none.
    """

    n_units: int
    n_trials: int = 0

    @property
    def n_folds(self) -> int:
        """Folds to be trained in all."""
        return self.n_units * max(1, self.n_trials)

    def rounds(self, n_slots: int) -> int:
        """Folds that are trained one after the other where ``n_slots`` work side by side."""
        if self.n_trials:
            return math.ceil(self.n_trials / n_slots) * self.n_units
        return math.ceil(self.n_units / n_slots)


@dataclass(frozen=True)
class Forecast:
    """What the jobs take on one machine.

    Attributes:
        machine: its label.
        basis: `MEASURED` or `ESTIMATED`.
        minutes: of everything, start to last fold.
        fold_minutes: of one fold.
        memory_gb: of one device, or of this machine.
        room_gb: memory of one such device.
        disk_gb: what is left when all is done.
        peak_disk_gb: the same, and what unfinished folds take meanwhile.
        notes: what does not fit, and what the limits mean.
    """

    machine: str
    basis: str
    minutes: Range
    fold_minutes: Range
    memory_gb: Range
    room_gb: float
    disk_gb: float
    peak_disk_gb: float
    notes: tuple[str, ...]

    def row(self) -> dict[str, Any]:
        """As a row of plan.json."""
        return asdict(self)


def forecast(
    measured: Measured, jobs: Jobs, machine: Machine, overhead_s: float = 0.0,
    slowdown: Range | None = None,
) -> Forecast:  # fmt: skip
    """What the jobs take on one machine.

    Args:
        measured: one fold here.
        jobs: what is to be done.
        machine: where.
        overhead_s: seconds that the engine takes to hand out a unit and to take it back.
        slowdown: how much slower a fold is beside others, where the machine's devices are processes
            that divide one CPU; None = they do not.
    """
    n_slots = max(1, min(machine.slots, jobs.n_trials or jobs.n_units))
    sharing = machine.sharing(n_slots)
    low, high = unit_seconds(measured, machine, sharing)
    memory, room = device_memory(measured, machine, sharing)
    if slowdown is not None:
        low, high = low * slowdown[0], high * slowdown[1]
        n_processes = n_slots * machine.joined
        memory = (n_processes * memory[0], n_processes * memory[1])
    overhead = overhead_s * jobs.n_folds if machine.count > 1 else 0.0
    rounds, start = jobs.rounds(n_slots), measured.startup_s
    starts = rounds if machine.joined > 1 else 1  # processes that join start anew for each fold
    seconds = (0.7 * starts * start + rounds * low, 1.5 * starts * start + rounds * high + overhead)
    kept = measured.predictions_gb if jobs.n_trials else measured.kept_gb
    disk = jobs.n_folds * kept
    peak = disk + n_slots * (measured.working_gb + measured.kept_gb - kept)
    minutes = (seconds[0] / 60, seconds[1] / 60)
    basis = MEASURED if machine.gpu is None else ESTIMATED
    if basis == MEASURED and (sharing > 1 or machine.joined > 1):
        basis = PARTLY
    notes = (
        *_portions(machine, sharing, measured.is_cpu),
        *_notes(machine, minutes, memory, room, peak),
    )
    return Forecast(
        machine.label, basis, minutes, (low / 60, high / 60), memory, room, disk, peak, notes
    )


def _portions(machine: Machine, sharing: int, on_cpu: bool) -> list[str]:
    """What folds that share a GPU, or GPUs that share a fold, mean for the forecast."""
    found = []
    if sharing > 1:
        found.append(
            f"{sharing} folds at a time share a GPU: each as fast as alone at best, "
            f"{sharing * TURNS:.2g} times slower at worst; the memory is that of all {sharing}"
        )
    if machine.joined > 1:
        parts = "processes" if on_cpu and machine.gpu is None else "GPUs"
        found.append(
            f"{machine.joined} {parts} train a fold together: {machine.joined} times as fast at "
            "best, at worst no faster than one and slowed by the exchange of gradients"
        )
    if left := machine.count % machine.joined:
        found.append(f"{left} of {machine.count} GPUs would do nothing")
    return found


def _notes(machine: Machine, minutes: Range, memory: Range, room: float, disk: float) -> list[str]:
    """What does not fit into the memory, and what Kaggle's limits mean."""
    found = []
    if memory[0] > room:
        found.append("does not fit into memory: lower batch_size or max_len, or take LoRA")
    elif memory[1] > room:
        found.append("may not fit into memory: batches are then halved by themselves, slower")
    if not machine.is_kaggle:
        return found
    hours = minutes[0] / 60, minutes[1] / 60
    sessions = tuple(max(1, math.ceil(h / KAGGLE_SESSION_HOURS)) for h in hours)
    if sessions[1] > 1:
        number = str(sessions[1]) if sessions[0] == sessions[1] else f"{sessions[0]}-{sessions[1]}"
        found.append(f"{number} sessions of {KAGGLE_SESSION_HOURS:.0f} h (--state goes on)")
    if hours[1] > KAGGLE_WEEK_HOURS:
        verb = "is" if hours[0] > KAGGLE_WEEK_HOURS else "may be"
        found.append(f"{verb} more than the {KAGGLE_WEEK_HOURS:.0f} h of a week")
    if disk > KAGGLE_OUTPUT_GB:
        found.append(f"{disk:.0f} GB are more than the {KAGGLE_OUTPUT_GB:.0f} GB of an output")
    return found or ["fits into one session"]
