"""Settings of what runs the units of work: this machine, or a Ray cluster."""

from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True)
class EngineSettings:
    """The part of CFG that says where folds are trained; it changes no result."""

    # ---- where folds are trained (may change between two starts of the same experiment)
    engine: Literal["local", "ray"] = "local"
    """"local": this machine; "ray": the cluster at RAY_ADDRESS, or one of this machine alone."""
    cpus_per_fold: int = 0
    """Threads of a fold (ray: CPUs too); 0 = on a CPU the cores by `device` entries, on a GPU 1."""
    gpus_per_fold: float = 1.0
    """GPUs of a fold: 0.5 = two folds share one, 2 = one fold on two."""
    shared_storage: str = ""
    """ray: where nodes leave results, a folder or "s3://bucket/name"; "" = they see this folder."""
    ray_wait_minutes: float = 0.0
    """ray: how long to wait for a node that is large enough; 0 = refuse at once."""
