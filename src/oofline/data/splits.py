"""Which row is validated in which fold, decided once per competition."""

import warnings
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pandas as pd
from iterstrat.ml_stratifiers import MultilabelStratifiedKFold
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components
from sklearn.model_selection import GroupKFold, KFold, StratifiedGroupKFold, StratifiedKFold

from oofline.config import CFG
from oofline.data.competition import Competition
from oofline.data.duplicates import exact_groups
from oofline.data.times import time_blocks
from oofline.errors import ConfigError, DataError
from oofline.tasks import KINDS

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
        cfg: gives fold_scheme, n_folds, fold_seed, fold_bins and time_col.
        competition: n training rows, and their group_col.
        groups: (n,) int64 duplicate groups, see `oofline.data.duplicates.duplicate_groups`.

    Raises:
        ConfigError: the scheme does not fit the task.
        DataError: fewer rows, groups or members of a class than folds, or unreadable times.
    """
    scheme, reason = choose_scheme(cfg, competition)
    if scheme == "time":
        fold = time_blocks(cfg, competition)
    else:
        if competition.group_col:
            groups = _merged(groups, competition.train[competition.group_col].tolist())
        fold = _split(cfg, competition, scheme, groups)
    return Folds(competition.train_ids, fold, scheme, reason, groups)


def choose_scheme(cfg: CFG, competition: Competition) -> tuple[str, str]:
    """The scheme that "auto" stands for, or the one that is set, with its reason.

    Raises:
        ConfigError: the scheme does not fit the task.
    """
    task, group_col = competition.task, competition.group_col
    facts = KINDS[task.kind]
    if cfg.fold_scheme != "auto":
        _refuse_scheme(cfg.fold_scheme, competition)
        return cfg.fold_scheme, "fold_scheme is set"
    if group_col:
        kept = f"group_col keeps rows of one {group_col} together"
        if facts.truth != "class":
            return facts.grouped_folds, kept
        if rare := _rare_classes(cfg, competition):
            return "group", f"{kept}; fewer of them than folds have class {rare}"
        return facts.grouped_folds, f"{kept}, and the {task.kind} task its classes"
    same = {
        "stratified": "class shares",
        "binned": f"shares of {cfg.fold_bins} target bins",
        "multilabel-stratified": "shares of positives of every label"
        if facts.truth == "labels"
        else f"shares of {cfg.fold_bins} bins of every target",
    }
    if facts.folds == "kfold":
        return facts.folds, f"{task.kind}: rows are dealt by chance"
    return facts.folds, f"{task.kind}: every fold has the same {same[facts.folds]}"


def _rare_classes(cfg: CFG, competition: Competition) -> str:
    """Classes that too few groups have for a share in every fold, "" for none."""
    groups = exact_groups(competition.train[competition.group_col].tolist())
    counts = pd.Series(groups).groupby(competition.y).nunique()
    rare = counts.index[counts < cfg.n_folds]
    return ", ".join(competition.task.labels[k] for k in rare)


def _refuse_scheme(scheme: str, competition: Competition) -> None:
    """A scheme that was set must fit the task (ConfigError)."""
    kind, facts = competition.task.kind, KINDS[competition.task.kind]
    if scheme in STRATIFIED and facts.truth != "class":
        other = facts.grouped_folds if scheme == "stratified-group" else facts.folds
        raise ConfigError(
            f'fold_scheme = "{scheme}" needs classes, but the task is {kind}: use "{other}"'
        )
    if scheme == "binned" and kind != "regression":
        raise ConfigError(
            f'fold_scheme = "binned" is for regression, but the task is {kind}: use "{facts.folds}"'
        )
    if scheme == "multilabel-stratified" and (facts.folds != scheme or competition.group_col):
        other = facts.grouped_folds if competition.group_col else facts.folds
        why = "keeps no groups together" if competition.group_col else "is for several targets"
        raise ConfigError(f'fold_scheme = "{scheme}" {why}: use "{other}"')
    if scheme in ("group", "stratified-group") and not competition.group_col:
        raise ConfigError(f'fold_scheme = "{scheme}" needs group_col')
    if scheme == "time" and competition.group_col:
        raise ConfigError('fold_scheme = "time" cannot keep group_col together: leave one out')


def _split(cfg: CFG, competition: Competition, scheme: str, groups: np.ndarray) -> np.ndarray:
    """Split one row per group, or all rows by group where group_col makes groups uneven."""
    grouped = bool(competition.group_col) or (cfg.pair_groups and scheme != "multilabel-stratified")
    _, first_row, group = np.unique(groups, return_index=True, return_inverse=True)
    _require_enough(cfg, competition, len(first_row))
    rows = np.arange(len(groups)) if grouped else first_row
    strata = np.zeros(len(rows), dtype=np.int64)
    if scheme in STRATIFIED:
        strata = competition.y[rows]
        _require_members(cfg, competition, strata, group[rows])
    elif scheme == "binned":
        n_bins = max(1, min(cfg.fold_bins, len(first_row) // cfg.n_folds))
        strata = _bins(competition.y[rows, 0], n_bins)
    elif scheme == "multilabel-stratified":
        strata = indicators(competition.y[rows], cfg.fold_bins, len(first_row) // cfg.n_folds)
    fold = np.full(len(rows), -1, dtype=np.int64)
    splitter = _splitter(cfg, strata, grouped)
    with warnings.catch_warnings():  # bins may have fewer members than folds: harmless
        warnings.simplefilter("ignore", UserWarning)
        for k, (_, valid) in enumerate(splitter.split(rows, strata, group[rows])):
            fold[valid] = k
    return fold if grouped else fold[group]


def _splitter(cfg: CFG, strata: np.ndarray, grouped: bool) -> Any:
    """The library's splitter for strata (n,), or 0/1 indicators (n, m), with or without groups."""
    if strata.ndim == 2:
        kind: Any = MultilabelStratifiedKFold
    else:
        kind = {
            (False, False): KFold,
            (True, False): StratifiedKFold,
            (False, True): GroupKFold,
            (True, True): StratifiedGroupKFold,
        }[len(np.unique(strata)) > 1, grouped]
    return kind(n_splits=cfg.n_folds, shuffle=True, random_state=cfg.fold_seed)


def indicators(y: np.ndarray, n_bins: int, most_bins: int) -> np.ndarray:
    """What MultilabelStratifiedKFold balances: labels as they are, values as one-hot bins.

    The splitter casts y to bool, so every score above 0 would be the same to it: raw values would
    give folds that are not stratified at all.

    Args:
        y: (n, T) int64 of 0 and 1, or (n, T) float64 values.
        n_bins: quantile bins of each target.
        most_bins: as many as the rows allow.

    Returns:
        (n, T) or (n, sum of the targets' bins) bool.
    """
    if y.dtype.kind == "i":
        return y.astype(bool)
    bins = [_bins(column, max(1, min(n_bins, most_bins))) for column in y.T]
    return np.column_stack([codes[:, None] == np.unique(codes) for codes in bins])


def _require_enough(cfg: CFG, competition: Competition, n_groups: int) -> None:
    if n_groups < cfg.n_folds:
        by = competition.group_col
        what = f'groups (by group_col = "{by}" and ' if by else "rows ("
        raise DataError(
            f"{n_groups} {what}duplicates merged, of {len(competition.y)} rows) cannot fill "
            f"n_folds = {cfg.n_folds}: lower n_folds"
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
        unstratified = "group" if competition.group_col else "kfold"
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
