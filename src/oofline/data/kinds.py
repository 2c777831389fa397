"""The kind of task, its classes and what the sample asks for, read off values."""

import numpy as np
import pandas as pd

from oofline.config import CFG
from oofline.errors import ConfigError, DataError
from oofline.results import Asks, Kind

MAX_CLASSES = 50
"""More distinct whole numbers than this are a regression target."""
ONE_TARGET = ("binary", "multiclass", "regression", "ordinal")
"""Kinds of task with one target column."""
VALUE_METRICS = frozenset({"rmse", "mae", "mse", "r2", "pearson", "spearman", "mcrmse"})
"""Metrics of values: one of these set makes a numeric target a regression target."""

_MISSING = {"", "nan", "na", "n/a", "null", "none", "inf", "-inf", "+inf", "infinity", "-infinity"}


def refuse_missing(
    texts: pd.Series,
    numbers: np.ndarray,
    ids: pd.Series,
    target: str,
    cfg: CFG,
    numeric: bool = False,
) -> None:
    """Refuse empty cells always, NaN and infinity where the other values are numbers.

    Args:
        texts: (n,) target values as text.
        numbers: (n,) float64, nan where a text is no number.
        ids: (n,) ids, for the message.
        target: name of the column.
        cfg: gives task.
        numeric: only numbers will do, whatever ``cfg.task`` is.

    Raises:
        DataError: naming the first rows.
    """
    finite = np.isfinite(numbers)
    numeric |= cfg.task in ("regression", "ordinal")
    numeric |= finite.any() and texts[~finite].str.casefold().isin(_MISSING).all()
    bad = ~finite if numeric else (texts == "").to_numpy()
    if bad.any():
        some = zip(ids[bad].iloc[:3], texts[bad].iloc[:3], strict=True)
        examples = ", ".join(f"{row_id} ({text or 'empty'})" for row_id, text in some)
        what = "missing, infinite or not a number"
        raise DataError(
            f'train: target "{target}" is {what} in {bad.sum()} row(s), ids {examples}: '
            "repair or drop these rows"
        )


def decide_kind(
    cfg: CFG, target: str, texts: pd.Series, numbers: np.ndarray | None, asked: pd.Series
) -> tuple[Kind, str]:
    """The kind of task and its reason; a set ``cfg.task`` must fit the values.

    Args:
        cfg: gives task, metric and submission_asks.
        target: name of the column.
        texts: (n,) target values as text.
        numbers: (n,) float64, or None where they are no numbers.
        asked: (n_test,) the sample's values as text.

    Raises:
        ConfigError: the values do not fit ``cfg.task``.
        DataError: one value only, or texts that are neither classes nor numbers.
    """
    n_distinct = len(np.unique(numbers)) if numbers is not None else texts.nunique()
    whole = numbers is not None and bool((numbers == np.round(numbers)).all())
    if n_distinct < 2:
        raise DataError(f'train: target "{target}" has only one value: there is nothing to learn')
    if cfg.task == "binary" and n_distinct != 2:
        raise ConfigError(f'task = "binary", but {target} has {n_distinct} distinct values')
    if cfg.task == "multiclass" and n_distinct > len(texts) / 2:
        raise ConfigError(f'task = "multiclass", but {target} has {n_distinct} distinct values')
    if cfg.task == "ordinal" and not (whole and n_distinct <= MAX_CLASSES):
        raise ConfigError(
            f'task = "ordinal" needs up to {MAX_CLASSES} whole numbers, but {target} has '
            f'{n_distinct} distinct values: use "regression", or round them'
        )
    if cfg.task in ONE_TARGET:
        return cfg.task, "task is set"  # type: ignore[return-value]
    if numbers is not None and cfg.metric in VALUE_METRICS:
        return "regression", f"metric {cfg.metric} scores values"
    if whole and cfg.metric == "qwk" and 2 < n_distinct <= MAX_CLASSES:
        return "ordinal", "metric qwk scores steps of a scale"
    if n_distinct == 2:
        return "binary", f"{target} has two values"
    if numbers is not None and not whole:
        return "regression", f"{target} has fractional values"
    if numbers is not None and n_distinct > MAX_CLASSES:
        return "regression", f"{target} has {n_distinct} distinct whole numbers"
    if numbers is not None and (value := _no_label(cfg, numbers, asked)):
        return "regression", f"sample_submission holds {value}, which is no label of {target}"
    if numbers is None and n_distinct > max(2, len(texts) / 2):
        raise DataError(
            f'train: target "{target}" has {n_distinct} distinct texts in {len(texts)} rows: '
            "that is neither a class nor a number; check sample_submission's columns"
        )
    note = '; read as unordered, set task = "ordinal" or "regression" if their order matters'
    return "multiclass", f"{target} has {n_distinct} values" + (note if whole else "")


def _no_label(cfg: CFG, numbers: np.ndarray, asked: pd.Series) -> str:
    """The sample's first fraction that is not among the (whole) target numbers, or ""."""
    if cfg.submission_asks != "auto":
        return ""
    values = pd.to_numeric(asked, errors="coerce")
    fractions = asked[np.isfinite(values) & (values != values.round()) & ~values.isin(numbers)]
    return str(fractions.iloc[0]) if len(fractions) else ""


def classes_of(texts: pd.Series, numbers: np.ndarray | None) -> tuple[list[str], np.ndarray]:
    """Labels in class order (numbers by size, texts by alphabet) and the class (n,) of each row."""
    if numbers is not None:
        _, first, y = np.unique(numbers, return_index=True, return_inverse=True)
        return texts.iloc[first].tolist(), y.astype(np.int64)
    labels = sorted(texts.unique(), key=lambda label: (label.casefold(), label))
    return labels, texts.map({label: k for k, label in enumerate(labels)}).to_numpy(np.int64)


def as_in_sample(labels: list[str], asked: pd.Series, numeric: bool) -> list[str]:
    """Write 1.0 as 1 where sample_submission holds whole numbers."""
    if numeric and not set(asked) <= set(labels) and asked.str.fullmatch(r"-?\d+").all():
        return [f"{float(label):.0f}" if float(label).is_integer() else label for label in labels]
    return labels


def decide_asks(
    cfg: CFG, kind: Kind, labels: list[str], asked: pd.Series
) -> tuple[Asks, tuple[str, ...]]:
    """Labels or probabilities, with a note where the sample leaves a doubt.

    Args:
        cfg: gives submission_asks and metric.
        kind: "binary" or "multiclass".
        labels: in class order.
        asked: (n_test,) the sample's values as text.

    Raises:
        ConfigError: probabilities of several classes in one column.
    """
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
