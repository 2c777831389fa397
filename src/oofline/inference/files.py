"""Whether the files of a stored fold are those that were trained."""

from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow.parquet as pq
from safetensors import SafetensorError, safe_open

from oofline.blocks import Block, finite
from oofline.data.competition import Competition
from oofline.errors import DataError
from oofline.inference.needs import Unit, unit_name
from oofline.models.text_model import WEIGHTS_FILE
from oofline.results import Task, prediction_array, prediction_columns, prediction_frame
from oofline.scoring.oof import read_parquet
from oofline.scoring.summary import write_frame
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
    if there != prediction_columns(task):
        raise DataError(
            f"{path} holds {', '.join(there)}, but train.csv gives {', '.join(task.outputs)}: "
            "it is not the competition that this fold was trained on"
        )


def write_test_predictions(
    folder: Path, task: Task, ids: np.ndarray, unit: Unit, pred: Block, remedy: str
) -> None:
    """Write a fold's test.parquet.

    Args:
        folder: receives it.
        task: gives the outputs.
        ids: (n_test,) str.
        unit: which fold.
        pred: `Block` of n_test rows.
        remedy: what to do about predictions that are not finite.

    Raises:
        DataError: a prediction is not finite.
    """
    if not finite(pred).all():
        raise DataError(f"{unit_name(unit)}: predictions are not finite: {remedy}")
    write_frame(folder / "test.parquet", [prediction_frame(task, ids, *unit[1:], pred=pred)])


def stored_validation(folder: Path, competition: Competition) -> tuple[np.ndarray, Block]:
    """Training rows that a fold has validated, those still there: (rows (r,), pred, a `Block`)."""
    frame = read_parquet(folder / "oof.parquet")
    at = pd.Index(competition.train_ids).get_indexer(pd.Index(frame["id"]))
    return at[at >= 0], prediction_array(competition.task, frame[at >= 0])
