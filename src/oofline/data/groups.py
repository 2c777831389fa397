"""Which column names groups that test does not share with train, found by content."""

import numpy as np
import pandas as pd

from oofline.config import CFG
from oofline.data.texts import require_column

FILLED = 0.9
"""Share of rows in train and test that must name a group."""
ROWS_PER_GROUP = 2.0
"""Fewest rows per group on average."""
UNSEEN = 0.5
"""Share of test's groups that train must lack: then rows of a group belong into one fold."""


def find_groups(
    cfg: CFG, train: pd.DataFrame, test: pd.DataFrame, reserved: tuple[str, ...]
) -> tuple[str, tuple[str, ...]]:
    """The column whose rows must stay in one fold.

    Where test asks about prompts (authors, titles) that train lacks, a fold must do the same;
    where it asks about the same ones, ordinary folds are right. Both are said.

    Args:
        cfg: gives group_col and fold_scheme.
        train: training table, all str.
        test: test table, all str.
        reserved: columns that are no groups (id, texts, targets, time).

    Returns:
        The column, "" for none, and what to print.

    Raises:
        ConfigError: group_col names a column that is not in train.
    """
    if cfg.group_col == "none" or (cfg.fold_scheme == "time" and not cfg.group_col):
        return "", ()
    if cfg.group_col:
        require_column(cfg.group_col, train, "group_col", "train")
        return cfg.group_col, ()
    names = [str(c) for c in train.columns if c in test.columns and c not in reserved]
    counts = {name: train[name].nunique() for name in names if _looks_like_groups(train[name])}
    counts = {name: n for name, n in counts.items() if n >= cfg.n_folds and _filled(test[name])}
    shares = {name: _unseen(train[name], test[name]) for name in counts}
    notes = [_note(name, counts[name], share) for name, share in shares.items()]
    found = [name for name, share in shares.items() if share >= UNSEEN]
    chosen = min(found, key=lambda name: counts[name], default="")
    if chosen:
        notes.append(f'groups: {chosen} keeps its rows in one fold; group_col = "none" if not')
    return chosen, tuple(notes)


def _looks_like_groups(column: pd.Series) -> bool:
    """Values that come back, and are no fractions."""
    if not _filled(column) or len(column) < ROWS_PER_GROUP * column.nunique():
        return False
    numbers = pd.to_numeric(column, errors="coerce").to_numpy(dtype=np.float64)
    whole = numbers[np.isfinite(numbers)]
    return bool((whole == np.round(whole)).all())


def _filled(column: pd.Series) -> bool:
    return float((column.str.strip() != "").mean()) >= FILLED


def _unseen(train: pd.Series, test: pd.Series) -> float:
    """Share of test's values that train lacks."""
    values = set(test) - {""}
    return len(values - set(train)) / max(1, len(values))


def _note(name: str, count: int, share: float) -> str:
    if share >= UNSEEN:
        return f"{name}: {count} values in train, {share:.0%} of test's are unseen there"
    return (
        f"{name}: {count} values in train, which has {1 - share:.0%} of test's: folds need not "
        "keep them together"
    )
