"""submission.csv: joined by id to sample_submission, checked before it gets its name."""

import datetime
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from oofline.blocks import Block, average
from oofline.errors import ConfigError, DataError
from oofline.results import Task, prediction_array
from oofline.scoring.answers import answers_from
from oofline.scoring.metrics import Cut, default_cut, hard_labels
from oofline.scoring.oof import join, read_parquet
from oofline.scoring.stored import stored_folder
from oofline.scoring.summary import plain
from oofline.storage import Paths, read_json, replacing, sha256_of, write_json

SUM_TOLERANCE = 1e-3
"""How far the probabilities of a row may be from summing to one."""


def make_submission(
    paths: Paths, task: Task, sample: pd.DataFrame, id_col: str, name: str,
    contexts: Mapping[str, str] | None = None,
) -> Path:  # fmt: skip
    """Write output/<comp>/submission.csv, and submission.json that says where it came from.

    Args:
        paths: of the competition.
        task: what the file holds: labels in their original form, probabilities or values.
        sample: sample_submission, every column as text; gives ids, order and columns.
        id_col: its id column.
        name: an experiment or an ensemble; predictions are averaged over its seeds.
        contexts: id -> text that its answer is cut out of; None where no answers are asked for.

    Returns:
        The path written.

    Raises:
        DataError: no such name (those there are listed), ids without a prediction, or the result
            fails `check_submission`; nothing is written then.
        ConfigError: the sample's columns do not fit the task.
    """
    folder = stored_folder(paths, name)
    scores = read_json(folder / "scores.json")
    pred = _mean_test(folder / "test.parquet", task, sample[id_col])
    cut = default_cut(task)
    if scores.get("threshold") is not None:
        cut = np.asarray(scores["threshold"], dtype=np.float64)
    if contexts is None:
        submission = fill_sample(task, sample, id_col, pred, cut)
    else:
        column = prediction_columns(task, sample, id_col)[0]
        texts = [contexts[row_id] for row_id in sample[id_col]]
        submission = sample.assign(**{column: answers_from(texts, pred, task.longest)})
    with replacing(paths.submission) as temporary:
        submission.to_csv(temporary, index=False, lineterminator="\n")
        validate_submission(temporary, sample, id_col, task)
    about = {
        "source": name,
        "metric": scores["metric"],
        "score": scores["score"],
        "ci95": scores["ci95"],
        "threshold": cut,
        "seeds": scores["seeds"],
        "rows": len(submission),
        "columns": list(submission.columns),
        "time": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        "sha256": sha256_of(paths.submission),
        "predictions_sha256": sha256_of(folder / "test.parquet"),
    }
    write_json(paths.submission.with_suffix(".json"), plain(about))
    return paths.submission


def _mean_test(path: Path, task: Task, ids: pd.Series) -> Block:
    """Test predictions (n, T) averaged over seeds, in the order of ``ids``."""
    frame, wanted = read_parquet(path), pd.Index(ids.astype(str))
    parts = [frame[frame["seed"] == seed] for seed in frame["seed"].unique()]
    return average([prediction_array(task, part)[join(path, part["id"], wanted)] for part in parts])


def fill_sample(
    task: Task, sample: pd.DataFrame, id_col: str, pred: np.ndarray, cut: Cut
) -> pd.DataFrame:
    """The sample with its prediction columns replaced.

    Labels are written as train.csv has them, but as whole numbers where the sample's are whole
    numbers ("1", not "1.0"). Values and probabilities are never rounded, since samples often hold
    a placeholder 0; only values scored by qwk are, as its score is.

    Args:
        task: gives what is asked for.
        sample: all columns as text, n rows.
        id_col: id column.
        pred: (n, T) predictions in the sample's order.
        cut: turns predictions into labels, see `hard_labels`.
    """
    columns = prediction_columns(task, sample, id_col)
    if task.asks == "label":
        labels = np.array(_written_labels(task, sample[columns[0]]), dtype=object)
        chosen = hard_labels(task.kind, pred, cut).reshape(len(sample), -1)
        return sample.assign(**{name: labels[chosen[:, i]] for i, name in enumerate(columns)})
    if task.kind == "regression" and task.metric == "qwk":
        pred = np.rint(pred).astype(np.int64)
    return sample.assign(**{name: pred[:, i] for i, name in enumerate(columns)})


def prediction_columns(task: Task, sample: pd.DataFrame, id_col: str) -> list[str]:
    """The sample's columns that predictions go to, in the order of `Task.outputs`.

    Raises:
        ConfigError: they are not there.
    """
    per_class = task.kind == "multiclass" and task.asks == "probability"
    wanted = list(task.outputs if per_class else task.targets)
    others = [name for name in sample.columns if name != id_col]
    if len(wanted) == 1 and len(others) == 1:
        return others
    absent = [name for name in wanted if name not in others]
    if absent:
        raise ConfigError(
            f"sample_submission has no column {', '.join(absent)} for the {task.asks} of this "
            f"{task.kind} task (it has {', '.join(others)}): check submission_asks and task"
        )
    return wanted


def _written_labels(task: Task, sample_column: pd.Series) -> list[str]:
    """The class labels in the form that the sample writes them in."""
    if not sample_column.str.fullmatch(r"[+-]?\d+").all():
        return list(task.labels)
    try:
        numbers = [float(label) for label in task.labels]
    except ValueError:
        return list(task.labels)
    whole = all(number.is_integer() for number in numbers)
    return [str(int(number)) for number in numbers] if whole else list(task.labels)


def validate_submission(path: Path, sample: pd.DataFrame, id_col: str, task: Task) -> pd.DataFrame:
    """Check any submission file against the sample; see `check_submission`.

    Returns:
        The file's content, every column as text.

    Raises:
        DataError: what is wrong, in one line.
    """
    try:
        found = pd.read_csv(path, dtype=str, na_filter=False, encoding="utf-8")
    except (OSError, ValueError) as error:
        raise DataError(f"{path} cannot be read: {str(error).splitlines()[0]}") from None
    try:
        check_submission(found, sample, id_col, task)
    except DataError as error:
        raise DataError(f"not a valid submission: {error}") from None
    return found


def check_submission(found: pd.DataFrame, sample: pd.DataFrame, id_col: str, task: Task) -> None:
    """Check columns, ids and contents of a submission read as text.

    Raises:
        DataError: columns, number of rows, ids or their order differ from the sample's; a value is
            empty or not finite; a probability is outside 0..1 or a row of class probabilities does
            not sum to one; a label is not one of the task's; all answers are empty.
    """
    if list(found.columns) != list(sample.columns):
        raise DataError(
            f"its columns are {', '.join(found.columns)}, sample_submission has "
            f"{', '.join(sample.columns)}"
        )
    _check_ids(found[id_col], sample[id_col])
    columns = prediction_columns(task, sample, id_col)
    if task.asks == "label":
        for name in columns:
            _check_labels(found[name], _written_labels(task, sample[columns[0]]))
    elif task.asks == "answer":
        if not found[columns[0]].str.strip().any():
            raise DataError(f"every answer in column {columns[0]} is empty")
    else:
        _check_numbers(found, columns, task)


def _check_ids(found: pd.Series, wanted: pd.Series) -> None:
    if len(found) == len(wanted) and (found.to_numpy() == wanted.to_numpy()).all():
        return
    missing, strange = set(wanted) - set(found), set(found) - set(wanted)
    if missing or strange:
        example = sorted(missing or strange)[0]
        raise DataError(
            f"{len(missing)} ids of sample_submission are missing and {len(strange)} are strange "
            f"(for example {example})"
        )
    if len(found) != len(wanted):
        raise DataError(f"it has {len(found)} rows, sample_submission has {len(wanted)}")
    raise DataError("its ids are in another order than those of sample_submission")


def _check_labels(found: pd.Series, known: list[str]) -> None:
    strange = found[~found.isin(known)]
    if len(strange):
        raise DataError(
            f"{len(strange)} labels in column {found.name} are not known (for example "
            f"{strange.iloc[0]!r}); known: {', '.join(known)}"
        )


def _check_numbers(found: pd.DataFrame, columns: list[str], task: Task) -> None:
    values: Any = found[columns].apply(pd.to_numeric, errors="coerce").to_numpy(np.float64)
    bad = ~np.isfinite(values).all(axis=1)
    if bad.any():
        raise DataError(f"{bad.sum()} rows hold no finite number, the first in line {_line(bad)}")
    if task.asks != "probability":
        return
    outside = ((values < 0) | (values > 1)).any(axis=1)
    if outside.any():
        raise DataError(
            f"{outside.sum()} rows are outside 0 to 1, the first in line {_line(outside)}"
        )
    unequal = np.abs(values.sum(axis=1) - 1) > SUM_TOLERANCE
    if task.kind == "multiclass" and len(columns) > 1 and unequal.any():
        raise DataError(
            f"class probabilities of {unequal.sum()} rows do not sum to one, the first in line "
            f"{_line(unequal)}"
        )


def _line(rows: np.ndarray) -> int:
    """Line of the file (from 1, after the header) of the first marked row."""
    return int(np.argmax(rows)) + 2
