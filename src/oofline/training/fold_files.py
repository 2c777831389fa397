"""The files of a finished fold, scores.json last: its presence means done."""

from pathlib import Path

import numpy as np
import pandas as pd
from transformers import PreTrainedTokenizerBase

from oofline.models.text_model import TextModel, save_model
from oofline.results import FoldResult, Task, prediction_frame
from oofline.scoring.intervals import bootstrap_ci, strata_of
from oofline.scoring.metrics import score
from oofline.scoring.summary import plain, write_frame
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
    remove_working_files(folder)


def remove_working_files(folder: Path) -> None:
    """Delete what only an unfinished fold needs."""
    for pattern in ("state.safetensors", "best*.safetensors", "snapshot*.safetensors"):
        for leftover in folder.glob(pattern):
            leftover.unlink(missing_ok=True)


def fold_interval(task: Task, y: np.ndarray, pred: np.ndarray, n_samples: int) -> list[float]:
    """95 % bootstrap interval [lo, hi] of one fold's score, rows drawn again."""
    strata = strata_of(task.kind, y)
    return list(
        bootstrap_ci(lambda rows: score(task, y[rows], pred[rows]), len(y), strata, None, n_samples)
    )
