"""The files of a finished fold, scores.json last: its presence means done."""

from pathlib import Path

import numpy as np
import pandas as pd
from transformers import PreTrainedTokenizerBase

from oofline.blocks import Block
from oofline.models.kept import NOTE, keep_backbone
from oofline.models.text_model import TextModel, save_model
from oofline.results import FoldResult, Task, prediction_frame
from oofline.scoring.metrics import default_cut, metric_inputs
from oofline.scoring.summary import interval, plain, write_frame
from oofline.storage import write_json, write_text


def write_fold(
    folder: Path, task: Task, tokenizer: PreTrainedTokenizerBase, model: TextModel,
    result: FoldResult,
) -> None:  # fmt: skip
    """Write model, predictions, history and scores, then remove the resumable state.

    scores.json holds the SHA-256 of the model's files too: one that was swapped is recognised.

    Raises:
        OoflineError: a file cannot be written; the state is still there, so the same command
            goes on from it.
    """
    hashes = save_model(model, tokenizer, folder)
    if NOTE in hashes:
        keep_backbone(folder)
    write_results(folder, task, result, hashes)
    remove_working_files(folder)


def write_results(folder: Path, task: Task, result: FoldResult, hashes: dict[str, str]) -> None:
    """Write predictions, history and last the scores; the model stands there already.

    Args:
        folder: of the fold.
        task: gives the outputs.
        result: what was trained.
        hashes: SHA-256 of the model's files by name.

    Raises:
        OoflineError: a file cannot be written.
    """
    valid = prediction_frame(
        task, result.valid_ids, result.seed, result.fold,
        pred=result.valid_pred, last=result.valid_last, best=result.valid_best,
    )  # fmt: skip
    test = prediction_frame(
        task, result.test_ids, result.seed, result.fold, pred=result.test_pred
    )  # fmt: skip
    write_frame(folder / "oof.parquet", [valid])
    write_frame(folder / "test.parquet", [test])
    write_text(folder / "history.csv", pd.DataFrame(result.history).to_csv(index=False))
    write_json(folder / "scores.json", plain(result.scores) | {"sha256": hashes})


def remove_working_files(folder: Path) -> None:
    """Delete what only an unfinished fold needs."""
    for pattern in ("state.safetensors", "best*.safetensors", "snapshot*.safetensors"):
        for leftover in folder.glob(pattern):
            leftover.unlink(missing_ok=True)


def fold_interval(task: Task, y: np.ndarray, pred: Block, n_samples: int) -> list[float]:
    """95 % bootstrap interval [lo, hi] of one fold's score, rows drawn again."""
    return list(interval(task, y, metric_inputs(task, y, pred, default_cut(task)), None, n_samples))
