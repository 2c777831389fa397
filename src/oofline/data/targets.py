"""What is predicted: the kind of task, its labels and the target values, read from the files."""

import numpy as np
import pandas as pd

from oofline.config import CFG
from oofline.data.described import Target, make_task, task_line
from oofline.data.kinds import (
    as_in_sample,
    classes_of,
    decide_asks,
    decide_kind,
    refuse_missing,
)
from oofline.data.several import read_several
from oofline.data.texts import require_column
from oofline.errors import ConfigError, DataError

__all__ = ["Target", "read_target"]


def read_target(
    cfg: CFG, train: pd.DataFrame, test: pd.DataFrame, sample: pd.DataFrame, id_col: str
) -> Target:
    """Infer the task from sample_submission and the target column, or take ``cfg.task``.

    Args:
        cfg: gives task, metric, target_col and submission_asks.
        train: training table, all str.
        test: test table, all str.
        sample: sample_submission, all str.
        id_col: the id column.

    Raises:
        ConfigError: a setting that the data contradict.
        DataError: no usable target, or missing or infinite target values.
    """
    columns = [column for column in sample.columns if column != id_col]
    if not columns:
        raise DataError(f'sample_submission has no column besides the id column "{id_col}"')
    if cfg.target_col:
        require_column(cfg.target_col, train, "target_col", "train")
        if cfg.target_col == id_col:
            raise ConfigError(f'target_col = "{id_col}" is the id column: name the target')
    if len(columns) > 1 and all(column in train.columns for column in columns):
        return read_several(cfg, train, sample, columns, id_col)
    if cfg.task in ("multilabel", "multi-target"):
        raise ConfigError(
            f'task = "{cfg.task}" has several targets, but sample_submission asks for '
            f"{', '.join(columns)}: name all target columns there as in train.csv"
        )
    if len(columns) == 1:
        target, notes = _target_column(cfg, train, test, columns[0], id_col)
        return _single_column(cfg, train, sample[columns[0]], target, id_col, notes)
    if cfg.target_col in columns:
        return _single_column(cfg, train, sample[cfg.target_col], cfg.target_col, id_col, ())
    return _column_per_class(cfg, train, test, columns, id_col)


def _target_column(
    cfg: CFG, train: pd.DataFrame, test: pd.DataFrame, column: str, id_col: str
) -> tuple[str, tuple[str, ...]]:
    """Train's target for the sample's only prediction column, with a note where names differ."""
    target, why = cfg.target_col, "target_col is set"
    if not target and column in train.columns:
        return column, ()
    if not target:
        known = {id_col, cfg.group_col, cfg.time_col, *test.columns}
        only = [str(name) for name in train.columns if name not in known]
        if len(only) != 1:
            those = f"{len(only)} columns ({', '.join(only)})" if only else "no column"
            raise DataError(
                f'sample_submission asks for "{column}", which is not in train, and train has '
                f"{those} that test lacks: set target_col to the one that is predicted"
            )
        target, why = only[0], "the only train column that test lacks"
    if target == column:
        return target, ()
    return target, (f"target: {target} ({why}), submitted as sample_submission's {column}",)


def _column_per_class(
    cfg: CFG, train: pd.DataFrame, test: pd.DataFrame, columns: list[str], id_col: str
) -> Target:
    """Sample columns that are the values of one training column: probabilities per class."""
    unseen = [column for column in columns if column not in train.columns]
    holders = [
        name
        for name in train.columns
        if (name == cfg.target_col if cfg.target_col else name not in {id_col, *test.columns})
        and set(train[name]) == set(columns)
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
    task = make_task(cfg, "multiclass", [holders[0]], columns, "probability")
    y = train[holders[0]].map({label: k for k, label in enumerate(columns)})
    why = f"sample_submission has one column per value of {holders[0]}"
    return Target(task, y.to_numpy(dtype=np.int64), (task_line(task, why),))


def _single_column(
    cfg: CFG,
    train: pd.DataFrame,
    asked: pd.Series,
    target: str,
    id_col: str,
    notes: tuple[str, ...],
) -> Target:
    """One target column; ``asked`` is the sample's column that it is submitted in."""
    texts, asked = train[target].str.strip(), asked.str.strip()
    numbers = pd.to_numeric(texts, errors="coerce").to_numpy(dtype=np.float64)
    refuse_missing(texts, numbers, train[id_col], target, cfg)
    numeric = bool(np.isfinite(numbers).all())
    kind, why = decide_kind(cfg, target, texts, numbers if numeric else None, asked)
    if kind == "regression":
        if cfg.submission_asks != "auto":
            raise ConfigError(
                f'submission_asks = "{cfg.submission_asks}" is for classes, but {target} is '
                'regression: leave it at "auto"'
            )
        task = make_task(cfg, kind, [target], [], "value")
        return Target(task, numbers[:, None], (*notes, task_line(task, why)))
    labels, y = classes_of(texts, numbers if numeric else None)
    labels = as_in_sample(labels, asked, numeric)
    if kind == "ordinal":
        task = make_task(cfg, kind, [target], labels, "label")
        return Target(task, y, (*notes, task_line(task, why)))
    asks, reason = decide_asks(cfg, kind, labels, asked)
    task = make_task(cfg, kind, [target], labels, asks)
    return Target(task, y, (*notes, task_line(task, why), *reason))
