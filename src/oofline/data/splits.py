"""Which row is validated in which fold, decided once per competition."""

import warnings
from dataclasses import dataclass, field

import numpy as np
import pandas as pd
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components
from sklearn.model_selection import GroupKFold, KFold, StratifiedGroupKFold, StratifiedKFold

from oofline.config import CFG
from oofline.data.competition import Competition
from oofline.data.duplicates import exact_groups
from oofline.errors import ConfigError, DataError

STRATIFIED = ("stratified", "stratified-group")
"""Schemes that need every class in every fold."""


@dataclass(frozen=True)
class Folds:
    """The fold of each training row.

    Attributes:
        ids: (n,) str, in train order.
        fold: (n,) int64, 0 to n_folds - 1; -1 = never validated (scheme "time", first block).
        scheme: the scheme that was used, never "auto".
        reason: why that scheme.
        groups: (n,) int64, rows with the same number share a fold (except in scheme "time").
        summary: lines to print: the findings of the leak audit.
    """

    ids: np.ndarray
    fold: np.ndarray
    scheme: str
    reason: str
    groups: np.ndarray
    summary: list[str] = field(default_factory=list)

    @property
    def n_folds(self) -> int:
        """Number of folds K."""
        return int(self.fold.max()) + 1

    def train_rows(self, fold: int) -> np.ndarray:
        """Row numbers to train on for a fold, int64; scheme "time": earlier blocks only."""
        if self.scheme == "time":
            return np.flatnonzero(self.fold < fold)
        return np.flatnonzero(self.fold != fold)

    def valid_rows(self, fold: int) -> np.ndarray:
        """Row numbers to validate on for a fold, int64."""
        return np.flatnonzero(self.fold == fold)


def make_folds(cfg: CFG, competition: Competition, groups: np.ndarray) -> Folds:
    """Split the training rows.

    No group of duplicates crosses a fold, in any scheme but "time" (there the past must not see
    the future, whatever repeats). Without ``group_col`` one row stands for each group of
    duplicates in scikit-learn's splitter and the others follow it; with ``group_col`` groups that
    share a duplicate are merged, in every scheme; an empty group cell is a group of its own.

    Args:
        cfg: gives fold_scheme, n_folds, fold_seed, fold_bins, group_col and time_col.
        competition: n training rows.
        groups: (n,) int64 duplicate groups, see `oofline.data.duplicates.duplicate_groups`.

    Raises:
        ConfigError: the scheme does not fit the task.
        DataError: fewer rows, groups or members of a class than folds, or unreadable times.
    """
    scheme, reason = choose_scheme(cfg, competition)
    if scheme == "time":
        fold = _time_blocks(cfg, competition)
    else:
        if cfg.group_col:
            groups = _merged(groups, competition.train[cfg.group_col].tolist())
        fold = _split(cfg, competition, scheme, groups)
    return Folds(competition.train_ids, fold, scheme, reason, groups)


def choose_scheme(cfg: CFG, competition: Competition) -> tuple[str, str]:
    """The scheme that "auto" stands for, or the one that is set, with its reason.

    Raises:
        ConfigError: the scheme does not fit the task.
    """
    classes = competition.task.kind != "regression"
    if cfg.fold_scheme != "auto":
        if cfg.fold_scheme in STRATIFIED and not classes:
            other = "group" if cfg.fold_scheme == "stratified-group" else "binned"
            raise ConfigError(
                f'fold_scheme = "{cfg.fold_scheme}" needs classes, but the task is regression: '
                f'use "{other}"'
            )
        if cfg.fold_scheme == "binned" and classes:
            raise ConfigError('fold_scheme = "binned" is for regression: use "stratified"')
        if cfg.fold_scheme == "time" and cfg.group_col:
            raise ConfigError('fold_scheme = "time" cannot keep group_col together: leave one out')
        return cfg.fold_scheme, "fold_scheme is set"
    if cfg.group_col:
        kept = f"group_col keeps rows of one {cfg.group_col} together"
        if classes:
            return "stratified-group", f"{kept}, and the {competition.task.kind} task its classes"
        return "group", kept
    if classes:
        return "stratified", f"{competition.task.kind} task: every fold has the same class shares"
    return "binned", f"regression: every fold has the same shares of {cfg.fold_bins} target bins"


def _split(cfg: CFG, competition: Competition, scheme: str, groups: np.ndarray) -> np.ndarray:
    """Split one row per group, or all rows by group where group_col makes groups uneven."""
    _, first_row, group = np.unique(groups, return_index=True, return_inverse=True)
    _require_enough(cfg, len(first_row), len(groups))
    rows = np.arange(len(groups)) if cfg.group_col else first_row
    strata = np.zeros(len(rows), dtype=np.int64)
    if scheme in STRATIFIED:
        strata = competition.y[rows]
        _require_members(cfg, competition, strata, group[rows])
    elif scheme == "binned":
        n_bins = max(1, min(cfg.fold_bins, len(first_row) // cfg.n_folds))
        strata = _bins(competition.y[rows, 0], n_bins)
    stratify = len(np.unique(strata)) > 1
    kind = {
        (False, False): KFold,
        (True, False): StratifiedKFold,
        (False, True): GroupKFold,
        (True, True): StratifiedGroupKFold,
    }[stratify, bool(cfg.group_col)]
    splitter = kind(n_splits=cfg.n_folds, shuffle=True, random_state=cfg.fold_seed)
    fold = np.full(len(rows), -1, dtype=np.int64)
    with warnings.catch_warnings():  # bins may have fewer members than folds: harmless
        warnings.simplefilter("ignore", UserWarning)
        for k, (_, valid) in enumerate(splitter.split(rows, strata, group[rows])):
            fold[valid] = k
    return fold if cfg.group_col else fold[group]


def _require_enough(cfg: CFG, n_groups: int, n_rows: int) -> None:
    if n_groups < cfg.n_folds:
        what = f'groups (by group_col = "{cfg.group_col}" and ' if cfg.group_col else "rows ("
        raise DataError(
            f"{n_groups} {what}duplicates merged, of {n_rows} rows) cannot fill n_folds = "
            f"{cfg.n_folds}: lower n_folds"
        )


def _require_members(
    cfg: CFG, competition: Competition, classes: np.ndarray, groups: np.ndarray
) -> None:
    """Every class needs a member (an independent one: another group) in every fold."""
    n_classes = len(competition.task.labels)
    members = np.unique(groups * n_classes + classes) % n_classes
    counts = np.bincount(members, minlength=n_classes)
    rarest = int(counts.argmin())
    if counts[rarest] < cfg.n_folds:
        unstratified = "group" if cfg.group_col else "kfold"
        raise DataError(
            f'class "{competition.task.labels[rarest]}" has {counts[rarest]} independent row(s) '
            f"(duplicates and groups counted once), fewer than n_folds = {cfg.n_folds}: lower "
            f'n_folds, set fold_scheme = "{unstratified}", or merge or drop the class'
        )


def _bins(values: np.ndarray, n_bins: int) -> np.ndarray:
    """Quantile bin of each value, (n,) int64; equal values share a bin."""
    return pd.qcut(values, n_bins, labels=False, duplicates="drop").astype(np.int64)


def _merged(duplicates: np.ndarray, names: list[str]) -> np.ndarray:
    """Connected components of rows that share a duplicate group or a group name, (n,) int64."""
    by_name = exact_groups(names) + duplicates.max() + 1
    size = int(by_name.max()) + 1
    graph = coo_array((np.ones(len(names), np.int8), (duplicates, by_name)), shape=(size, size))
    _, label = connected_components(graph, directed=False)
    _, group = np.unique(label[duplicates], return_inverse=True)
    return group.astype(np.int64)


def _time_blocks(cfg: CFG, competition: Competition) -> np.ndarray:
    """n_folds + 1 blocks in time order, of about equal size, equal times in one; the first -1."""
    times = _as_times(competition.train[cfg.time_col], cfg.time_col)
    first_rank = pd.Series(times).rank(method="min").to_numpy() - 1
    block = (first_rank * (cfg.n_folds + 1) // len(times)).astype(np.int64)
    if len(np.unique(block)) < cfg.n_folds + 1:
        raise DataError(
            f'time_col "{cfg.time_col}" has too few distinct times for {cfg.n_folds + 1} blocks '
            f"(one to start from and n_folds = {cfg.n_folds}): lower n_folds"
        )
    return block - 1


def _as_times(column: pd.Series, name: str) -> np.ndarray:
    numbers = pd.to_numeric(column, errors="coerce")
    if numbers.notna().all():
        return numbers.to_numpy(dtype=np.float64)
    times = pd.to_datetime(column, errors="coerce", format="ISO8601", utc=True)
    if times.isna().any():
        examples = ", ".join(repr(value) for value in column[times.isna()][:3])
        raise DataError(
            f'time_col "{name}": {times.isna().sum()} value(s) are neither numbers nor ISO dates '
            f"(for example {examples}): write them as 2024-01-31 or 2024-01-31T12:00"
        )
    return times.to_numpy(dtype="datetime64[ns]").astype(np.int64)
