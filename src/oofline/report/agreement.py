"""Whether OOF and public score agree: table of submissions, sentences and a picture."""

from functools import cache

import numpy as np
import pandas as pd

from oofline.data.competition import Competition
from oofline.errors import OoflineError
from oofline.progress import say
from oofline.report.ledger import ledger_text, oof_vs_public
from oofline.report.terminal import print_frame
from oofline.scoring.compare import load_aligned, paired
from oofline.scoring.metrics import get_metric
from oofline.scoring.public import PUBLIC_SHARE, PairError, agreement, sentences
from oofline.storage import Paths

SHOWN = 20
"""Submissions in the table, the newest; all stand in ledger.csv."""


def show_table(comp: str, frame: pd.DataFrame, sent: int, limit: int) -> None:
    """Print the newest submissions, and warn near the limit of the day.

    Args:
        comp: name of the competition.
        frame: the ledger, every cell as text.
        sent: submissions of the present UTC day.
        limit: how many a day Kaggle takes.
    """
    print_frame(ledger_text(frame.tail(SHOWN)), f"{comp}: {len(frame)} submissions")
    if sent >= limit:
        say(f"warning: {sent} submissions since 00:00 UTC, the limit is {limit} a day")
    elif sent == limit - 1:
        say(f"warning: one submission is left until 00:00 UTC (limit {limit} a day)")


def show_agreement(
    paths: Paths,
    rows: pd.DataFrame,
    competition: Competition,
    fold: np.ndarray,
    groups: np.ndarray | None,
    public_rows: int = 0,
    n_samples: int = 1000,
) -> None:
    """Say whether OOF and public score agree, and draw one against the other.

    Args:
        paths: of the competition.
        rows: of the ledger, those with a public score, figures as float64.
        competition: gives the task and the numbers of rows.
        fold: (N,) int64; -1 = in no fold.
        groups: (N,) rows that are drawn together, or None.
        public_rows: rows behind the public score; 0 = `PUBLIC_SHARE` of the test rows.
        n_samples: resamples of the paired differences.
    """
    task = competition.task
    rows = rows[rows["oof_metric"] == task.metric].reset_index(drop=True)
    if rows.empty:
        say(f"no public score of {task.metric} yet: make ledger COMP={paths.comp} asks for it")
        return
    greater = get_metric(task.metric, task.kind).greater_is_better
    n_public = public_rows or max(1, round(PUBLIC_SHARE * len(competition.test_ids)))
    pair_error = _paired_errors(paths, competition, fold, groups, n_samples)
    found = agreement(rows, int((fold >= 0).sum()), n_public, greater, pair_error)
    for line in sentences(found, task.metric, greater, public_rows > 0):
        say(line)
    picture = oof_vs_public(found, paths.output / "ledger.png", task.metric, greater)
    say(f"{len(rows)} public scores; open {picture}")


def _paired_errors(
    paths: Paths,
    competition: Competition,
    fold: np.ndarray,
    groups: np.ndarray | None,
    n_samples: int,
) -> PairError:
    """Standard errors of OOF differences on the same rows, from the stored predictions."""
    rows, task = np.flatnonzero(fold >= 0), competition.task
    y, ids = competition.y[rows], competition.train_ids[rows]
    groups = None if groups is None else groups[rows]

    @cache
    def predictions(name: str) -> np.ndarray | None:
        """Out-of-fold predictions (n, T); None where they are gone or of other folds."""
        try:
            return load_aligned(paths, name, task, ids, fold[rows]).pred
        except OoflineError:
            return None

    @cache
    def error(a: str, b: str) -> float | None:
        """Standard error of the difference of two results."""
        first, second = predictions(a), predictions(b)
        if first is None or second is None:
            return None
        lo, hi = paired(task, y, first, second, fold[rows], groups, n_samples).ci95
        return (hi - lo) / 3.92 if np.isfinite(hi - lo) else None

    return error
