"""Tensors in safetensors files: written in one step, never unpickled."""

import os
from pathlib import Path

from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from oofline.errors import DataError
from oofline.storage import replacing


def write_tensors(path: Path, tensors: dict[str, Tensor], meta: dict[str, str]) -> None:
    """Write tensors to a safetensors file in one step; tensors that share memory are copied."""
    seen: set[int] = set()
    flat = {}
    for name, tensor in tensors.items():
        value = tensor.detach().contiguous()
        shared = value.numel() > 0 and value.data_ptr() in seen
        seen.add(value.data_ptr())
        flat[name] = value.clone() if shared else value
    with replacing(path) as temporary:
        try:
            save_file(flat, temporary, metadata=meta)
        except SafetensorError as error:
            raise _as_os_error(error) from error


def read_tensors(path: Path) -> tuple[dict[str, Tensor], dict[str, str]]:
    """Tensors and metadata of a safetensors file, on the CPU.

    Raises:
        DataError: the file is missing or damaged.
    """
    try:
        with safe_open(path, framework="pt") as handle:
            tensors = {name: handle.get_tensor(name) for name in handle.keys()}  # noqa: SIM118
            return tensors, dict(handle.metadata() or {})
    except (OSError, SafetensorError) as error:
        raise DataError(f"{path} cannot be read ({error}); delete it and run again") from error


def _as_os_error(error: SafetensorError) -> OSError:
    """Safetensors hides the errno of a failed write in its text: give it back."""
    text = str(error)
    marker = "os error "
    number = int(text.split(marker)[1].split(")")[0]) if marker in text else 5
    return OSError(number, os.strerror(number))
