"""One fold on a machine: its seconds, and the memory of one of its devices. Plain arithmetic.

On the device that was measured the time of a fold is what was measured, give or take. Another GPU
is not there to be measured: its time is the number of operations (counted here) over a share of
its published peak, and no less than it takes to start that many kernels. Folds that share a GPU,
and GPUs that share a fold, were not measured either. All of these are ranges.
"""

from dataclasses import dataclass

from oofline.planning.machines import Gpu, Machine

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
TURNS = 1.2
"""Folds that share a GPU take turns on it, which costs up to this factor besides."""
LINK_GB_S = (3.0, 100.0)
"""10^9 bytes a second between GPUs of one machine: by way of its memory, or over NVLink."""

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
        gradient_gb: gradients that several GPUs add up.
        exchanges: how often they do so in a fold.
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
    gradient_gb: float = 0.0
    exchanges: float = 0.0


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


def unit_seconds(measured: Measured, machine: Machine, sharing: int = 1) -> Range:
    """Seconds of one fold.

    A fold on several GPUs takes at best its share of the time on one (and the exchange of the
    gradients), at worst no less than on one: short batches are not faster for being halved.

    Args:
        measured: one fold on one device here.
        machine: where; says how many GPUs train a fold together.
        sharing: folds on one GPU at the same time: at best they fill each other's gaps, at worst
            they take turns.
    """
    work, turns = measured.network, sharing * TURNS if sharing > 1 else 1.0
    if machine.gpu is None or work is None:
        width = max(HERE, 2 * measured.error)
        low, high = measured.unit_s * (1 - width / (1 + width)), measured.unit_s * (1 + width)
        if work is not None and machine.joined > 1:
            least = min(work.host_s, low)
            low = least + (low - least) / machine.joined
    else:
        peak = machine.gpu.tflops[machine.gpu.format_of(work.precision)] * 1e12
        flops = work.train_flops + work.predict_flops
        fast, slow = flops / (peak * UTILISATION[1]), flops / (peak * UTILISATION[0])
        launches = (work.layer_passes * LAUNCH_S[0], work.layer_passes * LAUNCH_S[1])
        low = max(fast * sharing, launches[0]) / machine.joined + 0.5 * work.host_s
        high = max(slow, launches[1]) + 2 * work.host_s
    exchange = _exchange_seconds(work, machine.joined) if work else (0.0, 0.0)
    return low + exchange[0], high * turns + exchange[1]


def _exchange_seconds(work: Network, joined: int) -> Range:
    """Seconds to add up gradients in a ring: each GPU sends and takes 2 (n - 1) / n of them."""
    gb = 2 * (joined - 1) / joined * work.gradient_gb * work.exchanges
    return gb / LINK_GB_S[1], gb / LINK_GB_S[0]


def device_memory(measured: Measured, machine: Machine, sharing: int = 1) -> tuple[Range, float]:
    """Memory that the folds on one device take, and what it has, 10^9 bytes.

    GPUs that train a fold together hold all weights each; of the largest step at best their share.
    """
    work = measured.network
    if machine.gpu is not None and work is not None:
        low, high = gpu_memory(work, machine.gpu, machine.joined)
        room = machine.gpu.memory_gb
    else:
        low, room = measured.memory_gb, measured.room_gb
        high = low * (GROWTH if measured.is_cpu else 1.1)
        if work is not None and machine.joined > 1:
            least = min(work.fixed_gb, low)
            low = least + (low - least) / machine.joined
    return (sharing * low, sharing * high), room


def gpu_memory(network: Network, gpu: Gpu, joined: int = 1) -> Range:
    """Memory on a GPU, 10^9 bytes: weights and optimizer, activations of the largest step, CUDA.

    Args:
        network: the fold.
        gpu: its kind.
        joined: how many of them train it together.
    """
    low, high = network.activation_gb
    low /= joined
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
