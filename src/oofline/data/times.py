"""Folds in the order of time."""

import numpy as np
import pandas as pd

from oofline.config import CFG
from oofline.data.competition import Competition
from oofline.errors import DataError


def time_blocks(cfg: CFG, competition: Competition) -> np.ndarray:
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
