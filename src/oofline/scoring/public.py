"""Out-of-fold score against public score: do they disagree by more than chance explains?

What is assumed, and said beside every verdict: the public rows are drawn like the training rows, a
score's standard error falls with the root of the rows (it is read off the OOF interval: width /
3.92), and the two sets of rows are independent. What is not in it: that the models behind the test
predictions are averages over folds, which scores a little better than each of them out of fold.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from itertools import combinations

import numpy as np
import pandas as pd
from scipy.stats import norm

PUBLIC_SHARE = 0.3
"""Share of the test rows that is taken for public where nothing is stated."""
LEVEL = 0.05
"""Chance that any of the submissions (or pairs) is called out by accident, together."""
PairError = Callable[[str, str], float | None]
"""Standard error of the OOF difference of two results over the training rows; None = not known."""


@dataclass(frozen=True)
class Agreement:
    """What the submissions of a ledger say about the OOF score.

    Attributes:
        rows: the submissions with a public score, and columns ``difference`` (public minus OOF),
            ``public_error`` (standard error of the public score), ``z`` and ``beyond`` (bool).
        bound: |z| beyond which a difference is called out.
        pairs: pairs whose OOF difference leaves out 0 by its own interval.
        reversed_pairs: those of them that stand the other way round in public, as (better out of
            fold, worse out of fold, beyond noise).
        n_train: rows behind the OOF scores.
        n_public: rows taken to be behind the public score.
    """

    rows: pd.DataFrame
    bound: float
    pairs: int
    reversed_pairs: list[tuple[str, str, bool]]
    n_train: int
    n_public: int


def standard_error(lo: np.ndarray, hi: np.ndarray) -> np.ndarray:
    """Standard error behind 95 % intervals, (n,)."""
    return (np.asarray(hi, dtype=np.float64) - np.asarray(lo, dtype=np.float64)) / 3.92


def bound_for(n_tests: int) -> float:
    """|z| that none of so many tests exceeds by chance, at `LEVEL` together (Bonferroni)."""
    return float(norm.isf(LEVEL / 2 / max(1, n_tests)))


def agreement(
    rows: pd.DataFrame,
    n_train: int,
    n_public: int,
    greater_is_better: bool,
    pair_error: PairError = lambda a, b: None,
) -> Agreement:
    """Test every submission, and the order of every pair.

    Args:
        rows: a row per scored submission: name, oof_score, oof_lo, oof_hi, public_score (float64).
        n_train: rows behind the OOF scores.
        n_public: rows behind the public scores.
        greater_is_better: direction of the metric.
        pair_error: paired standard error of two names' OOF difference; where it is not known, the
            two scores count as independent, which calls fewer pairs different.
    """
    error = standard_error(rows["oof_lo"].to_numpy(), rows["oof_hi"].to_numpy())
    public_error = error * math.sqrt(n_train / n_public)
    difference = (rows["public_score"] - rows["oof_score"]).to_numpy(dtype=np.float64)
    with np.errstate(divide="ignore", invalid="ignore"):
        z = difference / np.hypot(error, public_error)
    bound = bound_for(len(rows))
    tested = rows.assign(
        difference=difference, public_error=public_error, z=z, beyond=np.abs(z) > bound
    )
    pairs, turned = _pairs(tested, error, n_train / n_public, greater_is_better, pair_error)
    return Agreement(tested, bound, pairs, turned, n_train, n_public)


def _pairs(
    rows: pd.DataFrame, error: np.ndarray, ratio: float, greater: bool, pair_error: PairError
) -> tuple[int, list[tuple[str, str, bool]]]:
    """Number of pairs that OOF tells apart, and those of them that public turns round."""
    names = rows["name"].tolist()
    oof, public = (rows[c].to_numpy(dtype=np.float64) for c in ("oof_score", "public_score"))
    told = []
    for a, b in combinations(range(len(rows)), 2):
        known = pair_error(names[a], names[b]) if names[a] != names[b] else None
        spread = float(np.hypot(error[a], error[b])) if known is None else known
        if abs(oof[a] - oof[b]) > 1.96 * spread:
            better, worse = (a, b) if (oof[a] > oof[b]) == greater else (b, a)
            told.append((better, worse, spread))
    bound, turned = bound_for(len(told)), []
    for better, worse, spread in told:
        gap = public[better] - public[worse]
        if gap == 0 or (gap > 0) == greater:
            continue
        z = (gap - (oof[better] - oof[worse])) / (spread * math.sqrt(1 + ratio)) if spread else 0.0
        turned.append((names[better], names[worse], abs(z) > bound))
    return len(told), turned


def sentences(found: Agreement, metric: str, greater_is_better: bool, stated: bool) -> list[str]:
    """What the agreement says, in words; the assumptions last.

    Args:
        found: from `agreement`.
        metric: name of the score.
        greater_is_better: its direction.
        stated: whether the user gave the number of public rows.
    """
    rows, sign = found.rows, 1 if greater_is_better else -1
    out = rows[rows["beyond"]]
    lines = [
        f"{row['name']}: public {metric} {row['public_score']:.5f} is "
        f"{'better' if sign * row['difference'] > 0 else 'worse'} than its OOF "
        f"{row['oof_score']:.5f} by more than noise explains ({row['difference']:+.5f}, "
        f"z {row['z']:+.1f}, bound {found.bound:.1f})"
        for row in out.to_dict("records")
    ]
    if len(out) < len(rows):
        within = len(rows) - len(out)
        lines.append(f"{within} of {len(rows)} public scores differ from OOF within noise")
    for better, worse, beyond in found.reversed_pairs:
        how = "more than noise explains" if beyond else "which the public rows' noise explains"
        lines.append(f"{better} is better than {worse} out of fold, worse in public: {how}")
    if found.pairs and not found.reversed_pairs:
        lines.append(f"public keeps the order of all {found.pairs} pairs that OOF tells apart")
    source = "as stated" if stated else f"taken as {PUBLIC_SHARE:.0%} of test; set --public-rows"
    lines.append(
        f"assumed: {found.n_public:,} public rows ({source}), drawn like the {found.n_train:,} "
        "training rows; errors fall with the root of the rows"
    )
    return lines
