"""The processes that train one fold together, and what they tell each other."""

import contextlib
import os
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch._utils import _flatten_dense_tensors, _take_tensors, _unflatten_dense_tensors

from oofline.errors import OoflineError, Stopped

BUCKET_BYTES = 32 * 2**20
"""Gradients are added up in buckets of about this size, not tensor by tensor."""
PATIENCE = timedelta(minutes=30)
"""How long a process waits for the others (one of them may be writing a large state)."""
LOST = "another process of this fold has ended, or cannot be reached"
"""How the message of `PartnerLostError` begins."""
_WORDS = {1: torch.uint8, 2: torch.int16, 4: torch.int32, 8: torch.int64}


class PartnerLostError(OoflineError):
    """Another process of the fold is gone; what ended it is the reason to report."""


class AgreedOutOfMemoryError(torch.OutOfMemoryError):
    """Memory ran out in some process, and all of them know it."""


class Team:
    """W processes that train one fold; alone (W = 1) nothing is exchanged and nothing costs time.

    Every process calls the same methods in the same order; each waits there for the others.

    Attributes:
        rank: number of this process, 0..W-1; the first writes all files and speaks to the user.
        size: W.
    """

    def __init__(self, rank: int = 0, size: int = 1) -> None:
        self.rank, self.size = rank, size

    @property
    def first(self) -> bool:
        """Whether this process writes the files."""
        return self.rank == 0

    def most(self, value: int) -> int:
        """The largest of all processes' values, each at least 0."""
        if self.size == 1:
            return value
        shared = torch.tensor([value])
        with _others_needed():
            dist.all_reduce(shared, dist.ReduceOp.MAX)
        return int(shared)

    def any(self, wanted: bool) -> bool:
        """Whether any process wants it."""
        return self.most(int(wanted)) > 0

    def gather(self, value: Any) -> list[Any]:
        """Every process's value, in the order of ranks; any type that can be pickled."""
        if self.size == 1:
            return [value]
        from accelerate.utils import gather_object

        with _others_needed():
            found: list[Any] = gather_object([value])
        return found

    @contextlib.contextmanager
    def together(self) -> Iterator[None]:
        """Leave the block together: out of memory, or stopped, in one process is so in all.

        Blocks may stand in each other if nothing else is exchanged in the outer one: a process
        that fails on its way to an inner block agrees with the others at the end of theirs.

        Raises:
            AgreedOutOfMemoryError, Stopped: in every process, if any of them left the block so.
        """
        if self.size == 1:
            yield
            return
        left: tuple[str, str, int] | None = None
        try:
            yield
        except AgreedOutOfMemoryError:
            raise
        except torch.OutOfMemoryError as error:
            left = "memory", str(error), 0
        except Stopped as stop:
            left = "stopped", str(stop), stop.exit_code
        if not self.any(left is not None):
            return
        kind, text, code = next(entry for entry in self.gather(left) if entry is not None)
        raise Stopped(text, code) if kind == "stopped" else AgreedOutOfMemoryError(text)

    @torch.no_grad()
    def add_up(self, tensors: list[Tensor]) -> None:
        """Replace each tensor by its sum over the processes, the same bits in all of them.

        Raises:
            OoflineError: there is no memory for a bucket.
        """
        if self.size == 1:
            return
        with _no_way_back():
            for bucket in _take_tensors(tensors, BUCKET_BYTES):
                flat = _flatten_dense_tensors(bucket)
                with _others_needed():
                    dist.all_reduce(flat)
                torch._foreach_copy_(bucket, list(_unflatten_dense_tensors(flat, bucket)))

    def add_up_gradients(self, parameters: list[nn.Parameter], *further: Tensor) -> None:
        """Add up ``.grad`` over the processes, and ``further`` tensors of any one element.

        A parameter that has a gradient somewhere has one everywhere afterwards; one that has none
        anywhere (a layer that does not run) still has none.
        """
        if self.size == 1:
            return
        present = torch.tensor([p.grad is not None for p in parameters], dtype=torch.uint8)
        with _others_needed():
            dist.all_reduce(present, dist.ReduceOp.MAX)
        gradients = []
        for parameter, somewhere in zip(parameters, present.tolist(), strict=True):
            if somewhere and parameter.grad is None:
                with _no_way_back():
                    parameter.grad = torch.zeros_like(parameter)
            if parameter.grad is not None:
                gradients.append(parameter.grad)
        self.add_up([*gradients, *(tensor.view(1) for tensor in further)])

    def check_same(self, model: nn.Module) -> None:
        """Make sure that all processes hold the same weights, bit for bit.

        Raises:
            RuntimeError: in every process, naming a parameter that differs and where.
        """
        if self.size == 1:
            return
        names = [name for name, _ in model.named_parameters()]
        sums = self.gather(fingerprint(model))
        for rank, found in enumerate(sums):
            if found != sums[0]:
                pairs = zip(names, found, sums[0], strict=True)
                name = next(name for name, one, other in pairs if one != other)
                raise RuntimeError(
                    f"the processes of this fold no longer hold the same weights: {name} of rank "
                    f"{rank} differs from rank 0"
                )


ALONE = Team()
"""One process trains the fold."""


def fingerprint(model: nn.Module) -> list[int]:
    """The sum of the bits of every parameter, read as whole numbers; one read of the device."""
    sums = []
    for parameter in model.parameters():
        flat = parameter.detach().reshape(-1)
        sums.append(flat.view(_WORDS[flat.element_size()]).sum(dtype=torch.int64))
    return torch.stack(sums).tolist()


def join(rank: int, size: int, device: str, meeting: Path) -> Team:
    """Meet the other processes of the team; once in the life of a process.

    Args:
        rank: number of this process.
        size: processes in the team.
        device: of this process: "cpu", or "cuda:<i>", which no other of them has.
        meeting: a file that does not exist yet, the same for all.
    """
    from accelerate import PartialState
    from accelerate.utils import check_cuda_p2p_ib_support

    on_gpu, index = device.startswith("cuda"), torch.device(device).index or 0
    os.environ |= {
        "RANK": str(rank), "WORLD_SIZE": str(size), "LOCAL_WORLD_SIZE": str(size),
        "LOCAL_RANK": str(index if on_gpu else rank),
        "OMP_NUM_THREADS": str(torch.get_num_threads()),  # else accelerate chooses a number
    }  # fmt: skip
    if Path("/sys/class/net/lo").exists():
        os.environ.setdefault("GLOO_SOCKET_IFNAME", "lo")  # one machine: its name need not resolve
    if on_gpu and not check_cuda_p2p_ib_support():  # RTX 40 with an early driver
        os.environ |= {"NCCL_P2P_DISABLE": "1", "NCCL_IB_DISABLE": "1"}
    store = dist.FileStore(str(meeting), size)  # no port that somebody else may have
    store.set_timeout(PATIENCE)
    backend = {"backend": "cpu:gloo,cuda:nccl"} if on_gpu else {}
    with _others_needed():
        PartialState(
            cpu=not on_gpu, store=store, rank=rank, world_size=size, timeout=PATIENCE, **backend
        )
    return Team(rank, size)


def leave() -> None:
    """Close the connections to the others, if there are any."""
    if dist.is_initialized():
        dist.destroy_process_group()


@contextlib.contextmanager
def _others_needed() -> Iterator[None]:
    """What fails inside fails because another process is gone."""
    try:
        yield
    except torch.OutOfMemoryError:
        raise
    except RuntimeError as error:
        reason = str(error).splitlines()[0]
        raise PartnerLostError(f"{LOST} ({reason})") from error


@contextlib.contextmanager
def _no_way_back() -> Iterator[None]:
    """Out of memory inside ends the fold: the others add up already, too late to halve anything.

    Raises:
        OoflineError: in place of it.
    """
    try:
        yield
    except torch.OutOfMemoryError as error:
        raise OoflineError(
            "out of GPU memory while gradients are added up: lower batch_size or max_len"
        ) from error
