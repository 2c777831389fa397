"""Whether a rehearsal passed, and if not, why: the submission, and predictions against the stored.

In fp32 a prediction depends on the row alone, to rounding: the bound is 1e-5. In bf16 and fp16 it
also depends on the rows beside it, through the padding, and the hidden test makes other batches
than the public one: there the bound is a share of the predictions' standard deviation.
"""

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from oofline.config import CFG
from oofline.data.competition import Competition, read_competition
from oofline.errors import OoflineError
from oofline.kaggle.bundle import units_of
from oofline.kaggle.image import limits
from oofline.kaggle.rehearsal import guard, runner
from oofline.kaggle.rehearsal.isolation import Finished
from oofline.kaggle.submission import validate_submission
from oofline.results import Task
from oofline.scoring.stored import mean_of_seeds, stored_folder
from oofline.storage import Paths, read_json

BOUND = 1e-5
"""Largest difference of a prediction where everything is computed in fp32."""
HALF_SHARE = 0.05
"""The same in bf16 and fp16, as a share of the stored predictions' standard deviation.

Measured with MiniLM in bf16, the public rows among three times as many: up to 0.004 of it (840
tweets, regression, 10 models) and 0.0144 (3,263 tweets, binary, 5 models), of which this is three
times the larger. The model of another fold, or another tokenizer, moved predictions by 1 and 3.5.
"""
ROUNDING_FACTOR = 3.0
"""With fp16 weights: how far beyond the difference measured on validation rows others may be."""


@dataclass(frozen=True)
class Difference:
    """One comparison with stored predictions.

    Attributes:
        what: which predictions.
        rows: rows compared.
        largest: largest absolute difference.
        bound: what it may be.
    """

    what: str
    rows: int
    largest: float
    bound: float

    @property
    def holds(self) -> bool:
        """Whether it is within the bound (a difference that is not a number is not)."""
        return bool(self.largest <= self.bound)


def cause_of(finished: Finished) -> str:
    """Why a run failed, in a few words; "" where it did not."""
    for start, words in ((guard.NETWORK, "network"), (guard.OUTSIDE, "write outside")):
        found = re.search(f"{re.escape(start)}(.*)", finished.log)
        if found:
            return f"{words}: the notebook tried to {_tried(words, found[1])}"
    if finished.stopped:
        return f"limit: {finished.stopped}"
    failed = re.search(f"{re.escape(runner.FAILED)}(.*)", finished.log)
    if failed:
        kind = "write outside /kaggle/working: " if "Read-only file system" in failed[1] else ""
        return kind + failed[1]
    if finished.code:
        lines = [line for line in finished.log.splitlines() if line.strip()]
        return f"it ended with {finished.code}: {lines[-1] if lines else 'no output'}"
    return ""


def _tried(words: str, what: str) -> str:
    return f"{what}, and there is no internet" if words == "network" else f"write {what}"


def check_submission_file(working: Path, cfg: CFG, paths: Paths) -> str:
    """Validate submission.csv against the hidden test's sample; "" or what is wrong.

    Args:
        working: the notebook's /kaggle/working.
        cfg: settings the competition is read with.
        paths: of the hidden competition.
    """
    path = working / "submission.csv"
    if not path.is_file():
        return "submission: the notebook left no submission.csv in /kaggle/working"
    try:
        hidden = read_competition(cfg, paths)
        validate_submission(path, hidden.sample, hidden.id_col, hidden.task)
    except OoflineError as error:
        return f"submission: {error}"
    return ""


def check_output_size(working: Path) -> str:
    """Compare what the notebook leaves with what Kaggle keeps; "" or what is wrong."""
    held = sum(path.stat().st_size for path in working.rglob("*") if path.is_file()) / 1e9
    most = limits()["output_gb"]
    if held <= most:
        return ""
    return f"output: the notebook leaves {held:.1f} GB in /kaggle/working, Kaggle keeps {most} GB"


def compare_with_stored(
    paths: Paths, working: Path, name: str, competition: Competition, predict: dict[str, Any],
    rounding: dict[str, Any] | None,
) -> list[Difference]:  # fmt: skip
    """Compare what the notebook predicted with what is stored.

    Args:
        paths: of the project.
        working: the notebook's /kaggle/working.
        name: experiment or ensemble.
        competition: the public one.
        predict: contents of predict.json.
        rounding: what fp16 weights changed, None where they are as trained.

    Returns:
        Per fold the public test rows and, where they were checked, the validation rows; last the
        averaged or blended test rows.
    """
    there, task = Paths(paths.comp, working), competition.task
    found = []
    for unit in units_of(paths, name):
        label = f"{unit.exp}/seed{unit.seed}/fold{unit.fold}"
        stored = _by_id(unit.folder / "test.parquet", task)
        now = there.fold(unit.exp, unit.seed, unit.fold) / "test.parquet"
        exact = {read_json(unit.folder / "scores.json").get("precision", "fp32")}
        bound = bound_for(stored, exact | set(predict.get("precision", [])), rounding)
        found.append(_compare(f"{label}, public test rows", stored, now, task, bound))
        checked = predict.get("max_difference", {}).get(label)
        if checked is not None:
            rows = predict["check_rows"] // max(1, len(predict["max_difference"]))
            found.append(Difference(f"{label}, validation rows", rows, checked, bound))
    stored = _by_id(stored_folder(paths, name) / "test.parquet", task)
    largest = max(difference.bound for difference in found)
    now = stored_folder(there, name) / "test.parquet"
    return [*found, _compare(f"{name}, averaged test rows", stored, now, task, largest)]


def bound_for(stored: pd.DataFrame, precisions: set[str], rounding: dict[str, Any] | None) -> float:
    """Largest difference that number formats and rounded weights explain.

    Args:
        stored: predictions by id.
        precisions: formats that they and the new ones were computed in.
        rounding: see `compare_with_stored`.
    """
    bound = (
        BOUND if precisions == {"fp32"} else HALF_SHARE * float(stored.to_numpy().std(axis=0).max())
    )
    return bound + (ROUNDING_FACTOR * rounding["max_difference"] if rounding else 0.0)


def _by_id(path: Path, task: Task) -> pd.DataFrame:
    """Predictions (n, T) by id, averaged over seeds; of answers a row by id and character."""
    pred, ids = mean_of_seeds(path, task)
    if isinstance(pred, np.ndarray):
        return pd.DataFrame(pred, index=pd.Index(ids.astype(str)))
    rows = np.repeat(ids.astype(str), np.diff(pred.indptr))
    return pd.DataFrame({"p": pred.data}, index=pd.MultiIndex.from_arrays([rows, pred.indices]))


def _compare(
    what: str, stored: pd.DataFrame, path: Path, task: Task, bound: float
) -> Difference:  # fmt: skip
    if not path.is_file():
        return Difference(f"{what} (missing)", 0, float("nan"), bound)
    now, known = _by_id(path, task), stored.index.get_level_values(0)
    if stored.index.nlevels > 1:  # characters that are left out have the probability 0
        now = now[now.index.get_level_values(0).isin(known)]
        places = stored.index.union(now.index)
        now, stored = (frame.reindex(places, fill_value=0.0) for frame in (now, stored))
    now = now.reindex(stored.index)
    largest = float(np.abs(now.to_numpy() - stored.to_numpy()).max())
    return Difference(what, known.nunique(), largest, bound)
