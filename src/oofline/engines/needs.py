"""What a unit asks of a cluster's node, and whether there is one that has it."""

from collections.abc import Sequence
from dataclasses import dataclass

from oofline.config import CFG
from oofline.engines.threads import threads_per_fold
from oofline.errors import ConfigError


@dataclass(frozen=True)
class Node:
    """CPUs and GPUs of one node."""

    cpus: float
    gpus: float


@dataclass(frozen=True)
class Needs:
    """What one unit takes of a node.

    Attributes:
        cpus: logical CPUs.
        gpus: GPUs; 0.5 = half of one, 0 = it computes on a CPU.
    """

    cpus: int
    gpus: float

    def slots(self, nodes: Sequence[Node]) -> int:
        """How many units these nodes can run at the same time."""
        return sum(self._fit(node) for node in nodes)

    def _fit(self, node: Node) -> int:
        fitting = int((node.cpus + 1e-9) // self.cpus)
        if self.gpus >= 1:
            return min(fitting, int(node.gpus // self.gpus))
        if self.gpus > 0:  # units that share a GPU stay on one
            return min(fitting, int(node.gpus) * int((1 + 1e-9) // self.gpus))
        return fitting

    def __str__(self) -> str:
        cpus = f"{self.cpus} CPU{'s' * (self.cpus != 1)}"
        return cpus + (f" and {self.gpus:g} GPU{'s' * (self.gpus > 1)}" if self.gpus else "")


def needs_of(cfg: CFG, nodes: Sequence[Node]) -> Needs:
    """What a unit of these settings asks for.

    ``device`` says the kind: "cpu" takes no GPU, "cuda" does, and "auto" does for transformers
    where the cluster has GPUs.
    """
    gpu = cfg.device.startswith("cuda") or (
        cfg.device == "auto" and cfg.kind == "transformer" and any(node.gpus for node in nodes)
    )
    if gpu:
        return Needs(cfg.cpus_per_fold or 1, cfg.gpus_per_fold)
    return Needs(threads_per_fold(cfg), 0.0)


def refuse_too_large(needs: Needs, nodes: Sequence[Node]) -> None:
    """Refuse units that no node can ever run (ConfigError)."""
    if needs.slots(nodes):
        return
    largest = max(nodes, key=lambda node: (node.gpus, node.cpus), default=Node(0, 0))
    raise ConfigError(
        f"a fold asks for {needs} on one node, but the largest of the cluster's {len(nodes)} nodes "
        f"has {largest.cpus:g} CPUs and {largest.gpus:g} GPUs: lower cpus_per_fold or "
        "gpus_per_fold (or device), or let it wait for larger ones with ray_wait_minutes"
    )
