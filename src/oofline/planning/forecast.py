"""From what was measured to minutes, memory and disk on a machine. Plain arithmetic.

On the device that was measured the time of a fold is what was measured, give or take. Another GPU
is not there to be measured: its time is the number of operations (counted here) over a share of
its published peak, and no less than it takes to start that many kernels. The share and the time to
start a kernel are ranges, so every forecast is one.
"""

import math
from dataclasses import asdict, dataclass
from typing import Any

from oofline.planning.machines import (
    KAGGLE_OUTPUT_GB,
    KAGGLE_SESSION_HOURS,
    KAGGLE_WEEK_HOURS,
    Gpu,
    Machine,
)

UTILISATION = (0.10, 0.45)
"""Share of a GPU's peak that training of an encoder reaches: little with short batches."""
LAUNCH_S = (0.001, 0.004)
"""Seconds that a GPU's driver takes to start the kernels of one layer, forward and backward."""
CONTEXT_GB = (0.4, 1.0)
"""Memory that CUDA itself takes on a GPU."""
HERE = 0.1
"""Least relative width of a forecast for the device that was measured, to each side."""
GROWTH = 1.5
"""A process on a CPU grows up to this factor above a minute of it: freed blocks that batches of
other lengths do not fit into, a second model beside the first for a moment."""
SHARED_CPU = 1.4
"""Processes side by side on one CPU slow each other down by up to this factor (caches, memory)."""
MEASURED, ESTIMATED = "measured", "estimated from peak rates, not measured"

Range = tuple[float, float]
"""(lowest, highest)."""


@dataclass(frozen=True)
class Network:
    """What a fold of a transformer asks of a GPU.

    Attributes:
        train_flops: operations of all steps of a fold.
        predict_flops: operations of all its predictions.
        layer_passes: layers x forward passes of all steps and predictions.
        host_s: seconds that do not become shorter on a GPU: building, intervals, files.
        fixed_gb: weights, gradients and optimizer, 10^9 bytes.
        activation_gb: (lowest, highest) of the largest step, in the format that was measured.
        precision: the setting.
        format: number format that was measured.
        half_gb: the weights in 16 bits.
    """

    train_flops: float
    predict_flops: float
    layer_passes: float
    host_s: float
    fixed_gb: float
    activation_gb: Range
    precision: str
    format: str
    half_gb: float


@dataclass(frozen=True)
class Measured:
    """One unit (a fold) on the device that was measured.

    Attributes:
        device: what it is called.
        startup_s: seconds from starting a process to the first fold: imports, data, tokens.
        unit_s: seconds of a fold, the mean over folds.
        error: relative standard error of it.
        kept_gb: the finished fold: model and predictions.
        predictions_gb: the predictions alone (trials of a tuning keep no weights).
        working_gb: what an unfinished fold takes besides: states, weights of the best evaluation.
        memory_gb: peak of the process, or of the GPU.
        room_gb: memory that is there.
        is_cpu: whether memory is that of a process.
        network: what a GPU would have to do; None = nothing (a baseline).
    """

    device: str
    startup_s: float
    unit_s: float
    error: float
    kept_gb: float
    predictions_gb: float
    working_gb: float
    memory_gb: float
    room_gb: float
    is_cpu: bool = True
    network: Network | None = None


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


def unit_seconds(measured: Measured, gpu: Gpu | None) -> Range:
    """Seconds of one fold on the device that was measured (None), or on another GPU."""
    if gpu is None or measured.network is None:
        width = max(HERE, 2 * measured.error)
        return measured.unit_s * (1 - width / (1 + width)), measured.unit_s * (1 + width)
    work = measured.network
    peak = gpu.tflops[gpu.format_of(work.precision)] * 1e12
    flops = work.train_flops + work.predict_flops
    fast, slow = flops / (peak * UTILISATION[1]), flops / (peak * UTILISATION[0])
    launches = (work.layer_passes * LAUNCH_S[0], work.layer_passes * LAUNCH_S[1])
    return max(fast, launches[0]) + 0.5 * work.host_s, max(slow, launches[1]) + 2 * work.host_s


def gpu_memory(network: Network, gpu: Gpu) -> Range:
    """Memory on a GPU, 10^9 bytes: weights and optimizer, activations of the largest step, CUDA."""
    low, high = network.activation_gb
    form, half = gpu.format_of(network.precision), 0.0
    if form != "fp32":
        half = network.half_gb
        if network.format == "fp32":  # activations are halved, but for sums that stay as they are
            low, high = 0.5 * low, 0.8 * high
    elif network.format != "fp32":
        low, high = low, 2 * high
    return (
        network.fixed_gb + low + CONTEXT_GB[0], network.fixed_gb + half + 1.2 * high + CONTEXT_GB[1]
    )  # fmt: skip


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
    low, high = unit_seconds(measured, machine.gpu)
    n_slots = max(1, min(machine.count, jobs.n_trials or jobs.n_units))
    if slowdown is not None:
        low, high = low * slowdown[0], high * slowdown[1]
    overhead = overhead_s * jobs.n_folds if machine.count > 1 else 0.0
    rounds, start = jobs.rounds(n_slots), measured.startup_s
    seconds = (0.7 * start + rounds * low, 1.5 * start + rounds * high + overhead)
    most = measured.memory_gb * (GROWTH if measured.is_cpu else 1.1)
    memory, room = (measured.memory_gb, most), measured.room_gb
    if machine.gpu is not None and measured.network is not None:
        memory, room = gpu_memory(measured.network, machine.gpu), machine.gpu.memory_gb
    elif slowdown is not None:
        memory = (n_slots * measured.memory_gb, n_slots * most)
    kept = measured.predictions_gb if jobs.n_trials else measured.kept_gb
    disk = jobs.n_folds * kept
    peak = disk + n_slots * (measured.working_gb + measured.kept_gb - kept)
    minutes = (seconds[0] / 60, seconds[1] / 60)
    basis = MEASURED if machine.gpu is None else ESTIMATED
    notes = tuple(_notes(machine, minutes, memory, room, peak))
    return Forecast(
        machine.label, basis, minutes, (low / 60, high / 60), memory, room, disk, peak, notes
    )


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
