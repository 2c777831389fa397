"""What is predicted: the kind of task, its labels and the target values, read from the files."""

from dataclasses import dataclass

import numpy as np
import pandas as pd

from oofline.config import CFG
from oofline.errors import ConfigError, DataError
from oofline.results import Asks, Kind, Task

MAX_CLASSES = 50
"""More distinct whole numbers than this are a regression target."""
SUPPORTED = ("binary", "multiclass", "regression")

_MISSING = {"", "nan", "na", "n/a", "null", "none", "inf", "-inf", "+inf", "infinity", "-infinity"}
_PLURAL = {"label": "labels", "probability": "probabilities", "value": "values"}
_USUAL_METRIC = {
    ("binary", "label"): "f1",
    ("binary", "probability"): "roc_auc",
    ("multiclass", "label"): "accuracy",
    ("multiclass", "probability"): "log_loss",
    ("regression", "value"): "rmse",
}


@dataclass(frozen=True)
class Target:
    """The task and the target values of the training rows.

    Attributes:
        task: what is predicted.
        y: (n,) int64 class indices, or (n, 1) float64 values for regression.
        notes: one line each, how it was decided.
    """

    task: Task
    y: np.ndarray
    notes: tuple[str, ...]


def read_target(
    cfg: CFG, train: pd.DataFrame, test: pd.DataFrame, sample: pd.DataFrame, id_col: str
) -> Target:
    """Infer the task from sample_submission and the target column, or take ``cfg.task``.

    Args:
        cfg: gives task, metric and submission_asks.
        train: training table, all str.
        test: test table, all str.
        sample: sample_submission, all str.
        id_col: the id column.

    Raises:
        ConfigError: a kind of task that is not supported yet, or a setting that the data
            contradict.
        DataError: no usable target, or missing or infinite target values.
    """
    if cfg.task not in ("auto", *SUPPORTED):
        raise ConfigError(
            f'task = "{cfg.task}" is not supported yet: use "binary", "multiclass", '
            '"regression" or "auto"'
        )
    columns = [column for column in sample.columns if column != id_col]
    if not columns:
        raise DataError(f'sample_submission has no column besides the id column "{id_col}"')
    if all(column in train.columns for column in columns):
        _refuse_several(columns, train)
        return _single_column(cfg, train, sample, columns[0], id_col)
    return _column_per_class(cfg, train, test, columns, id_col)


def _refuse_several(columns: list[str], train: pd.DataFrame) -> None:
    if len(columns) == 1:
        return
    names = ", ".join(columns)
    values = train[columns].apply(pd.to_numeric, errors="coerce")
    if values.isin([0, 1]).all(axis=None):
        kind = "multilabel classification (several 0/1 targets"
    elif values.notna().any(axis=0).all():
        kind = "multi-target regression (several numeric targets"
    else:
        kind = "predicting several columns at once (targets"
    raise ConfigError(
        f"{kind}: {names}) is not supported yet; to predict one of them, leave only its "
        "column in sample_submission"
    )


def _column_per_class(
    cfg: CFG, train: pd.DataFrame, test: pd.DataFrame, columns: list[str], id_col: str
) -> Target:
    """Sample columns that are the values of one training column: probabilities per class."""
    unseen = [column for column in columns if column not in train.columns]
    if "PredictionString" in unseen or {"context", "question"} <= set(train.columns):
        raise ConfigError(
            f"extractive question answering (sample_submission asks for {', '.join(unseen)}; "
            f"train has {', '.join(train.columns)}) is not supported yet"
        )
    holders = [
        name
        for name in train.columns
        if name != id_col and name not in test.columns and set(train[name]) == set(columns)
    ]
    if len(holders) != 1:
        raise DataError(
            f"sample_submission column(s) {', '.join(unseen)} are not in train, nor are they the "
            "values of exactly one train column: name the target column as in train.csv"
        )
    if cfg.task not in ("auto", "multiclass") or cfg.submission_asks == "label":
        raise ConfigError(
            f"sample_submission has a column per class of {holders[0]}: that asks for "
            'probabilities of task "multiclass"; leave task and submission_asks at "auto"'
        )
    task = _task(cfg, "multiclass", holders[0], columns, "probability")
    y = train[holders[0]].map({label: k for k, label in enumerate(columns)})
    why = f"sample_submission has one column per value of {holders[0]}"
    return Target(task, y.to_numpy(dtype=np.int64), (_line(task, why),))


def _single_column(
    cfg: CFG, train: pd.DataFrame, sample: pd.DataFrame, target: str, id_col: str
) -> Target:
    texts = train[target].str.strip()
    numbers = pd.to_numeric(texts, errors="coerce").to_numpy(dtype=np.float64)
    _refuse_missing(texts, numbers, train[id_col], target, cfg)
    numeric = bool(np.isfinite(numbers).all())
    kind, why = _kind(cfg, target, texts, numbers if numeric else None)
    if kind == "regression":
        if cfg.submission_asks != "auto":
            raise ConfigError(
                f'submission_asks = "{cfg.submission_asks}" is for classes, but {target} is '
                'regression: leave it at "auto"'
            )
        task = _task(cfg, kind, target, [], "value")
        return Target(task, numbers[:, None], (_line(task, why),))
    labels, y = _classes(texts, numbers if numeric else None)
    asked = sample[target].str.strip()
    labels = _as_in_sample(labels, asked, numeric)
    asks, reason = _asks(cfg, kind, labels, asked)
    task = _task(cfg, kind, target, labels, asks)
    return Target(task, y, (_line(task, why), *reason))


def _refuse_missing(
    texts: pd.Series, numbers: np.ndarray, ids: pd.Series, target: str, cfg: CFG
) -> None:
    """Empty cells always; NaN and infinity where the other values are numbers."""
    finite = np.isfinite(numbers)
    numeric = finite.any() and texts[~finite].str.casefold().isin(_MISSING).all()
    bad = ~finite if numeric or cfg.task == "regression" else (texts == "").to_numpy()
    if bad.any():
        some = zip(ids[bad].iloc[:3], texts[bad].iloc[:3], strict=True)
        examples = ", ".join(f"{row_id} ({text or 'empty'})" for row_id, text in some)
        what = "missing, infinite or not a number"
        raise DataError(
            f'train: target "{target}" is {what} in {bad.sum()} row(s), ids {examples}: '
            "repair or drop these rows"
        )


def _kind(cfg: CFG, target: str, texts: pd.Series, numbers: np.ndarray | None) -> tuple[Kind, str]:
    """The kind of task and its reason; a set ``cfg.task`` must fit the values."""
    n_distinct = len(np.unique(numbers)) if numbers is not None else texts.nunique()
    whole = numbers is not None and bool((numbers == np.round(numbers)).all())
    if n_distinct < 2:
        raise DataError(f'train: target "{target}" has only one value: there is nothing to learn')
    if cfg.task == "binary" and n_distinct != 2:
        raise ConfigError(f'task = "binary", but {target} has {n_distinct} distinct values')
    if cfg.task == "multiclass" and n_distinct > len(texts) / 2:
        raise ConfigError(f'task = "multiclass", but {target} has {n_distinct} distinct values')
    if cfg.task in SUPPORTED:
        return cfg.task, "task is set"  # type: ignore[return-value]
    if n_distinct == 2:
        return "binary", f"{target} has two values"
    if numbers is not None and not whole:
        return "regression", f"{target} has fractional values"
    if numbers is not None and n_distinct > MAX_CLASSES:
        return "regression", f"{target} has {n_distinct} distinct whole numbers"
    if numbers is None and n_distinct > max(2, len(texts) / 2):
        raise DataError(
            f'train: target "{target}" has {n_distinct} distinct texts in {len(texts)} rows: '
            "that is neither a class nor a number; check sample_submission's columns"
        )
    note = '; read as unordered, set task = "regression" if their order matters'
    return "multiclass", f"{target} has {n_distinct} values" + (note if whole else "")


def _classes(texts: pd.Series, numbers: np.ndarray | None) -> tuple[list[str], np.ndarray]:
    """Labels in class order (numbers by size, texts by alphabet) and the class of each row."""
    if numbers is not None:
        _, first, y = np.unique(numbers, return_index=True, return_inverse=True)
        return texts.iloc[first].tolist(), y.astype(np.int64)
    labels = sorted(texts.unique(), key=lambda label: (label.casefold(), label))
    return labels, texts.map({label: k for k, label in enumerate(labels)}).to_numpy(np.int64)


def _as_in_sample(labels: list[str], asked: pd.Series, numeric: bool) -> list[str]:
    """Write 1.0 as 1 where sample_submission holds whole numbers."""
    if numeric and not set(asked) <= set(labels) and asked.str.fullmatch(r"-?\d+").all():
        return [f"{float(label):.0f}" if float(label).is_integer() else label for label in labels]
    return labels


def _asks(
    cfg: CFG, kind: Kind, labels: list[str], asked: pd.Series
) -> tuple[Asks, tuple[str, ...]]:
    """Labels or probabilities, with a note where the sample leaves a doubt."""
    if kind == "multiclass":
        if cfg.submission_asks == "probability":
            raise ConfigError(
                f'submission_asks = "probability" needs a column per class ({", ".join(labels)}) '
                'in sample_submission, which has one: leave it at "auto"'
            )
        return "label", ()
    if cfg.submission_asks != "auto":
        return cfg.submission_asks, ("submission_asks is set",)
    if cfg.metric in ("roc_auc", "log_loss"):
        return "probability", (f"submission: probabilities, as metric {cfg.metric} is set",)
    values = pd.to_numeric(asked, errors="coerce")
    unknown = ~asked.isin(labels)
    if (unknown & values.notna() & (values != values.round())).any():
        return "probability", ("submission: probabilities, as sample_submission has fractions",)
    if (unknown & values.notna()).any():
        return "label", (
            f"submission: labels, though sample_submission writes {asked[unknown].iloc[0]}; set "
            'submission_asks = "probability" if it means probabilities',
        )
    return "label", ()


def _task(cfg: CFG, kind: Kind, target: str, labels: list[str], asks: Asks) -> Task:
    metric = _USUAL_METRIC[kind, asks] if cfg.metric == "auto" else cfg.metric
    outputs = tuple(labels) if kind == "multiclass" else (target,)
    return Task(kind, (target,), tuple(labels), outputs, metric, asks)


def _line(task: Task, why: str) -> str:
    classes = ""
    if task.kind == "binary":
        classes = f"; positive class {task.labels[1]}, negative {task.labels[0]}"
    elif task.kind == "multiclass":
        shown = ", ".join(task.labels[:6]) + (", ..." if len(task.labels) > 6 else "")
        classes = f"; {len(task.labels)} classes: {shown}"
    return (
        f"task: {task.kind} ({why}){classes}; metric {task.metric}; submission asks for "
        f"{_PLURAL[task.asks]}"
    )
