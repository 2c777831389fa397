"""Everything a fold needs to go on inside an epoch, in one safetensors file."""

import json
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from oofline.blocks import Block, from_arrays, to_arrays
from oofline.errors import DataError
from oofline.models.weights import read_tensors, write_tensors
from oofline.techniques import Technique


@dataclass
class Progress:
    """Where training stands, besides tensors.

    Attributes:
        step: finished optimizer steps.
        last_eval: value of ``step`` at the last evaluation, -1 before the first.
        stopped: patience has run out.
        evals_without_gain: evaluations since the best one.
        best_step: value of ``step`` at the best evaluation.
        best_value: monitored value there, larger is better.
        loss_sum: sum of window losses since the last evaluation.
        loss_count: number of windows in it.
        micro_batch: most rows per forward pass (halved when memory runs out).
        seconds: training time so far, over all starts.
        eval_seconds: the part of it spent in evaluations.
        rows_trained: rows seen so far.
        history: one dict per evaluation.
        snapshots: steps whose weights are kept for checkpoint "average".
    """

    step: int = 0
    last_eval: int = -1
    stopped: bool = False
    evals_without_gain: int = 0
    best_step: int = -1
    best_value: float = float("-inf")
    loss_sum: float = 0.0
    loss_count: int = 0
    micro_batch: int = 0
    seconds: float = 0.0
    eval_seconds: float = 0.0
    rows_trained: int = 0
    history: list[dict[str, float]] = field(default_factory=list)
    snapshots: list[int] = field(default_factory=list)


@dataclass
class Predictions:
    """Validation predictions, blocks of n_v rows, of the last and of the best evaluation."""

    last: Block
    best: Block


def save_state(
    path: Path, progress: Progress, predictions: Predictions | None, model: nn.Module,
    optimizer: torch.optim.Optimizer, scaler: torch.amp.GradScaler, techniques: list[Technique],
    random_states: list[dict[str, Tensor]] | None = None,
) -> None:  # fmt: skip
    """Write the resumable state in one step; a crash meanwhile leaves the previous one.

    ``random_states``: `random_state` of each process that trains the fold; None = of this one.
    """
    tensors = {f"model.{name}": value for name, value in model.state_dict().items()}
    for index, entry in optimizer.state_dict()["state"].items():
        tensors |= {f"optimizer.{index}.{name}": value for name, value in entry.items()}
    for technique in techniques:
        tensors |= {f"technique.{technique.name}.{k}": v for k, v in technique.state().items()}
    for rank, numbers in enumerate(random_states or [random_state(model)]):
        tensors |= {_random_key(kind, rank): value for kind, value in numbers.items()}
    if predictions is not None:
        for which, block in (("last", predictions.last), ("best", predictions.best)):
            arrays = to_arrays(block)
            tensors |= {f"predictions.{which}.{k}": torch.from_numpy(a) for k, a in arrays.items()}
    meta = {"progress": json.dumps(asdict(progress)), "scaler": json.dumps(scaler.state_dict())}
    write_tensors(path, tensors, meta)


def random_state(model: nn.Module) -> dict[str, Tensor]:
    """Where this process's random numbers stand, by "cpu" and "cuda" (of the model's GPU)."""
    device = next(model.parameters()).device
    on_gpu = {"cuda": torch.cuda.get_rng_state(device)} if device.type == "cuda" else {}
    return {"cpu": torch.get_rng_state(), **on_gpu}


def _random_key(kind: str, rank: int) -> str:
    return f"rng.{kind}" + (f".{rank}" if rank else "")


def load_state(
    path: Path, model: nn.Module, optimizer: torch.optim.Optimizer,
    scaler: torch.amp.GradScaler, techniques: list[Technique], rank: int = 0,
) -> tuple[Progress, Predictions | None]:  # fmt: skip
    """Take up a saved state: weights, optimizer, loss scale and random numbers.

    Random numbers are those that the process of that rank had; they stay as they are where the
    state was saved by fewer processes.

    Raises:
        DataError: the file cannot be read or belongs to another model.
    """
    tensors, meta = read_tensors(path)
    try:
        model.load_state_dict(_below(tensors, "model."))
        _load_optimizer(optimizer, _below(tensors, "optimizer."))
    except (RuntimeError, KeyError, ValueError) as error:
        reason = str(error).splitlines()[0]
        raise DataError(f"{path} belongs to another model ({reason}); delete its folder") from error
    for technique in techniques:
        technique.load_state(_below(tensors, f"technique.{technique.name}."))
    device = next(model.parameters()).device
    if (numbers := tensors.get(_random_key("cpu", rank))) is not None:
        torch.set_rng_state(numbers)
    numbers = tensors.get(_random_key("cuda", rank))
    if numbers is not None and device.type == "cuda":
        torch.cuda.set_rng_state(numbers, device)
    scaler_state = json.loads(meta["scaler"])
    if scaler_state:
        scaler.load_state_dict(scaler_state)
    parts = _below(tensors, "predictions.")
    last, best = (
        {name: tensor.numpy() for name, tensor in _below(parts, f"{which}.").items()}
        for which in ("last", "best")
    )
    predictions = Predictions(from_arrays(last), from_arrays(best)) if parts else None
    return Progress(**json.loads(meta["progress"])), predictions


def _below(tensors: dict[str, Any], prefix: str) -> dict[str, Any]:
    return {k.removeprefix(prefix): v for k, v in tensors.items() if k.startswith(prefix)}


def _load_optimizer(optimizer: torch.optim.Optimizer, flat: dict[str, Tensor]) -> None:
    state: dict[int, dict[str, Tensor]] = {}
    for key, value in flat.items():
        index, name = key.split(".", 1)
        state.setdefault(int(index), {})[name] = value
    optimizer.load_state_dict(
        {"state": state, "param_groups": optimizer.state_dict()["param_groups"]}
    )
