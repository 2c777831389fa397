"""Machines to plan for: GPUs by what their makers publish, and Kaggle's limits."""

import math
import re
from dataclasses import dataclass

from oofline.engines.needs import Needs, Node
from oofline.errors import ConfigError
from oofline.sources import nearest


@dataclass(frozen=True)
class Gpu:
    """One kind of GPU.

    Attributes:
        name: as it is written in --gpus.
        tflops: peak of dense matrix products by number format, in 10^12 operations a second.
        memory_gb: its memory, in 10^9 bytes.
    """

    name: str
    tflops: dict[str, float]
    memory_gb: float

    def format_of(self, precision: str) -> str:
        """The number format that training takes there.

        Args:
            precision: the setting: "auto" is bf16 where there are units for it, else fp16.

        Raises:
            ConfigError: bf16 is asked of a GPU without units for it.
        """
        if precision == "auto":
            return "bf16" if "bf16" in self.tflops else "fp16"
        if precision not in self.tflops:
            raise ConfigError(
                f'precision = "{precision}", but a {self.name} has no {precision} units: use '
                'precision = "auto"'
            )
        return precision


GPUS = {
    gpu.name: gpu
    for gpu in (
        Gpu("P100", {"fp32": 9.3, "fp16": 18.7}, 17.1),
        Gpu("V100", {"fp32": 15.7, "fp16": 125.0}, 17.1),
        Gpu("T4", {"fp32": 8.1, "fp16": 65.0}, 15.8),
        Gpu("A10", {"fp32": 31.2, "fp16": 125.0, "bf16": 125.0}, 24.1),
        Gpu("RTX3090", {"fp32": 35.6, "fp16": 71.0, "bf16": 71.0}, 25.7),
        Gpu("RTX4090", {"fp32": 82.6, "fp16": 165.2, "bf16": 165.2}, 25.7),
        Gpu("L4", {"fp32": 30.3, "fp16": 121.0, "bf16": 121.0}, 24.1),
        Gpu("A100", {"fp32": 19.5, "fp16": 312.0, "bf16": 312.0}, 42.9),
        Gpu("H100", {"fp32": 66.9, "fp16": 989.0, "bf16": 989.0}, 85.9),
        Gpu("H200", {"fp32": 66.9, "fp16": 989.0, "bf16": 989.0}, 151.0),
    )
}
"""Peaks without sparsity, with sums in fp32, from NVIDIA's data sheets: Tesla P100 PCIe, V100 SXM2,
T4, A10, L4, A100 40 GB, H100 SXM, H200; GeForce cards from the papers on the GA102 and on Ada.
Memory is what the driver shows."""

KAGGLE_SESSION_HOURS = 12.0
"""Longest session of a notebook with a GPU (Kaggle's documentation of notebooks)."""
KAGGLE_WEEK_HOURS = 30.0
"""Hours a week with a GPU; it varies, and Kaggle shows the present number."""
KAGGLE_OUTPUT_GB = 20.0
"""Largest output of a notebook, /kaggle/working."""


_CPUS = 1e6
"""CPUs of any machine: they do not limit how many folds its GPUs train."""


@dataclass(frozen=True)
class Machine:
    """GPUs that work side by side.

    Attributes:
        label: in the table.
        count: how many, at least 1.
        gpu: their kind; None = the device that was measured.
        is_kaggle: whether Kaggle's limits hold there.
        gpus_per_fold: as the setting: below 1 folds share a GPU, above it GPUs share a fold.
    """

    label: str
    count: int
    gpu: Gpu | None = None
    is_kaggle: bool = False
    gpus_per_fold: float = 1.0

    @property
    def joined(self) -> int:
        """GPUs that train a fold together; 1 where folds have one each, or share it."""
        return max(1, int(self.gpus_per_fold))

    @property
    def slots(self) -> int:
        """Folds that can be trained at the same time; 0 = too few GPUs for one."""
        return Needs(1, self.gpus_per_fold).slots([Node(_CPUS, self.count)])

    def sharing(self, n_folds: int) -> int:
        """How many of ``n_folds`` at a time are on one GPU, where they spread evenly."""
        return math.ceil(n_folds / self.count) if self.gpus_per_fold < 1 else 1


KAGGLE = (
    Machine("Kaggle, 2 x T4", 2, GPUS["T4"], is_kaggle=True),
    Machine("Kaggle, P100", 1, GPUS["P100"], is_kaggle=True),
)


def parse_gpus(text: str) -> Machine | None:
    """The machine that --gpus asks for: "2xT4", "8xA100", "A100", or "4" of this machine's kind.

    Args:
        text: the option; "" = none.

    Raises:
        ConfigError: not of that form, or the GPU is not in `GPUS`.
    """
    text = text.strip()
    if not text:
        return None
    found = re.fullmatch(r"(?:(\d+)(?:\s*x\s*|$))?([A-Za-z]\w*)?", text)
    count = int(found[1] or 1) if found else 0
    if not found or count < 1:
        raise ConfigError(
            f'gpus = "{text}" is not a number of GPUs: use "2xT4", "8xA100", or "4" of this '
            "machine's kind"
        )
    if found[2] is None:
        return Machine(f"{count} x this device", count)
    names = {name.lower(): gpu for name, gpu in GPUS.items()}
    gpu = names.get(found[2].lower())
    if gpu is None:
        hint = nearest(found[2].upper(), list(GPUS))
        raise ConfigError(
            f'gpus = "{text}": no peak rate of {found[2]} is known here{hint} (known: '
            f"{', '.join(GPUS)})"
        )
    return Machine(f"{count} x {gpu.name}", count, gpu)
