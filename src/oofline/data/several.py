"""Several target columns at once: labels that are each 0 or 1, or several values."""

import numpy as np
import pandas as pd

from oofline.config import CFG
from oofline.data.described import Target, make_task, task_line
from oofline.data.kinds import refuse_missing
from oofline.errors import ConfigError, DataError
from oofline.results import Asks
from oofline.tasks import Kind

PROBABILITY_METRICS = frozenset({"roc_auc", "roc_auc_micro", "log_loss"})
LABEL_METRICS = frozenset({"f1_macro", "f1_micro"})


def read_several(
    cfg: CFG, train: pd.DataFrame, sample: pd.DataFrame, columns: list[str], id_col: str
) -> Target:
    """The task of sample columns that are all columns of train.

    Args:
        cfg: gives task, metric, target_col and submission_asks.
        train: training table, all str.
        sample: sample_submission, all str.
        columns: two columns or more, in the sample's order.
        id_col: the id column.

    Raises:
        ConfigError: a setting contradicts the data.
        DataError: a column holds no numbers, misses some, or is constant where values are asked.
    """
    names = ", ".join(columns)
    if cfg.target_col:
        raise ConfigError(
            f"target_col names one target, but sample_submission asks for {names}: leave it empty, "
            "or leave only that column in sample_submission"
        )
    y = np.column_stack([_numbers(cfg, train, name, id_col) for name in columns])
    binary = bool(np.isin(y, (0, 1)).all())
    kind, why = _kind(cfg, binary, names)
    if kind == "multi-target":
        constant = [
            name for name, spread in zip(columns, np.ptp(y, axis=0), strict=True) if not spread
        ]
        if constant:
            raise DataError(f'train: target "{constant[0]}" has only one value: nothing to learn')
        if cfg.submission_asks != "auto":
            raise ConfigError('submission_asks is for classes, but these are values: leave "auto"')
        task = make_task(cfg, kind, columns, [], "value")
        return Target(task, y, (task_line(task, why),))
    asks, notes = _asks(cfg, sample[columns])
    task = make_task(cfg, kind, columns, ["0", "1"], asks)
    empty = [name for name, share in zip(columns, y.mean(axis=0), strict=True) if share in (0, 1)]
    if empty:
        notes += (f"labels with one value only in train, left out of AUC: {', '.join(empty)}",)
    return Target(task, y.astype(np.int64), (task_line(task, why), *notes))


def _numbers(cfg: CFG, train: pd.DataFrame, name: str, id_col: str) -> np.ndarray:
    """(n,) float64 values of a target column."""
    texts = train[name].str.strip()
    numbers = pd.to_numeric(texts, errors="coerce").to_numpy(dtype=np.float64)
    if not np.isfinite(numbers).any():
        raise DataError(
            f'train: target "{name}" holds no numbers; predicting several columns of classes at '
            "once is not supported: leave one target column in sample_submission"
        )
    refuse_missing(texts, numbers, train[id_col], name, cfg, numeric=True)
    return numbers


def _kind(cfg: CFG, binary: bool, names: str) -> tuple[Kind, str]:
    if cfg.task == "auto":
        if binary:
            return "multilabel", "several targets of 0 and 1"
        return "multi-target", "several numeric targets"
    if cfg.task == "multilabel" and not binary:
        raise ConfigError(f'task = "multilabel", but not all of {names} are 0 or 1')
    if cfg.task not in ("multilabel", "multi-target"):
        raise ConfigError(
            f'task = "{cfg.task}" has one target, but sample_submission asks for {names}: use '
            '"multi-target" (values), "multilabel" (0 and 1) or "auto"'
        )
    return cfg.task, "task is set"


def _asks(cfg: CFG, asked: pd.DataFrame) -> tuple[Asks, tuple[str, ...]]:
    """Labels or probabilities: as set, as the metric scores, else probabilities."""
    if cfg.submission_asks != "auto":
        return cfg.submission_asks, ("submission_asks is set",)
    if cfg.metric in LABEL_METRICS:
        return "label", (f"submission: labels, as metric {cfg.metric} is set",)
    if cfg.metric in PROBABILITY_METRICS:
        return "probability", (f"submission: probabilities, as metric {cfg.metric} is set",)
    values = asked.apply(pd.to_numeric, errors="coerce")
    if values.isin([0, 1]).all(axis=None):
        return "probability", (
            "submission: probabilities; sample_submission writes 0 and 1, set submission_asks = "
            '"label" if it means labels',
        )
    return "probability", ()
