"""Whether the files of a stored fold are those that were trained."""

from pathlib import Path

import pyarrow.parquet as pq
from safetensors import SafetensorError, safe_open

from oofline.errors import DataError
from oofline.models.text_model import WEIGHTS_FILE
from oofline.results import Task
from oofline.storage import read_json, sha256_of

ORIGINAL = "sha256_of_original"
"""Metadata of weights that were converted to float16: SHA-256 of the file they were made from."""


def check_files(folder: Path) -> None:
    """Compare a fold's files with the SHA-256 that training stored in its scores.json.

    Weights converted to float16 pass when their metadata names the file they were made from, or
    names none.

    Raises:
        DataError: one is missing, or is not the one that was trained (named).
    """
    for name, digest in read_json(folder / "scores.json").get("sha256", {}).items():
        path = folder / name
        if not path.is_file():
            raise DataError(f"{path} is missing: copy the fold's folder again")
        found = sha256_of(path)
        if found != digest and not (name == WEIGHTS_FILE and _is_made_from(path, digest)):
            raise DataError(
                f"{path} is not the file that this fold was trained with (SHA-256 {found[:12]}..., "
                f"scores.json says {digest[:12]}...): restore it, or copy the fold's folder again"
            )


def _is_made_from(path: Path, digest: str) -> bool:
    """Whether the weights are float16 ones, made from the file with that SHA-256."""
    try:
        with safe_open(path, framework="pt") as handle:
            origin = (handle.metadata() or {}).get(ORIGINAL, digest)
            kinds = {handle.get_slice(name).get_dtype() for name in handle.keys()}  # noqa: SIM118
    except (OSError, SafetensorError) as error:
        raise DataError(f"{path} cannot be read ({error}): copy it again") from None
    return origin == digest and "F16" in kinds


def check_outputs(folder: Path, task: Task) -> None:
    """The classes of train.csv must be those that the fold was trained on, in their order.

    Raises:
        DataError: its stored predictions have other columns.
    """
    path = folder / "oof.parquet"
    if not path.is_file():
        return
    there = [name for name in pq.read_schema(path).names if name.startswith("pred_")]
    if there != [f"pred_{name}" for name in task.outputs]:
        raise DataError(
            f"{path} holds {', '.join(there)}, but train.csv gives {', '.join(task.outputs)}: "
            "it is not the competition that this fold was trained on"
        )
