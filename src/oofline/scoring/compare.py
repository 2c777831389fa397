"""Is one experiment better than another? Paired over rows, and over folds.

Two intervals that overlap say little, because both experiments were scored on the same rows: an
easy row is easy for both. So the difference itself is resampled (paired bootstrap over rows). It
takes the trained models and thresholds as given; whether other training runs would differ as much
is what the p-value over folds says. In simulations two equally good models are told apart in about
6 of 100 comparisons by RMSE (aim: 5), and in 7 to 8 by F1, whose tuned threshold is noisy too.
"""

import math
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import pandas as pd
from scipy.stats import t as student_t

from oofline.errors import ConfigError, DataError
from oofline.results import Task
from oofline.scoring.decisions import cross_fitted_decision
from oofline.scoring.intervals import bootstrap_scores, percentile_interval, strata_of
from oofline.scoring.metrics import get_metric
from oofline.scoring.stored import Stored, load_stored, stored_names
from oofline.scoring.summary import decided_score, fold_scores
from oofline.storage import Paths

Verdict = Literal["better", "worse", "no difference shown"]


@dataclass(frozen=True)
class Comparison:
    """The difference between two experiments on the same rows.

    Attributes:
        difference: score of a minus score of the base, in units of the metric.
        ci95: paired bootstrap interval of the difference, over rows.
        p: two-sided p-value over folds (see `corrected_p`); None with fewer than two folds.
        verdict: about a, in the metric's own direction; "better" and "worse" only where the
            interval leaves out 0.
        rows_needed: rows at which this difference would be shown in 4 of 5 cases; None if it is 0.
    """

    difference: float
    ci95: tuple[float, float]
    p: float | None
    verdict: Verdict
    rows_needed: int | None


def paired(
    task: Task,
    y: np.ndarray,
    a: np.ndarray,
    base: np.ndarray,
    fold: np.ndarray,
    groups: np.ndarray | None = None,
    n_samples: int = 1000,
) -> Comparison:
    """Compare predictions ``a`` with those of ``base`` on the same rows.

    Thresholds are cross-fitted for each once, before rows are drawn.

    Args:
        task: gives metric and kind.
        y: (n,) int64 or (n, T) float64.
        a: (n, T) float64, out of fold, averaged over seeds.
        base: (n, T) float64, the same rows.
        fold: (n,) int64.
        groups: (n,) rows that are drawn together, or None.
        n_samples: resamples.
    """
    inputs = [cross_fitted_decision(task, y, pred, fold).inputs for pred in (a, base)]
    return paired_inputs(task, y, inputs[0], inputs[1], fold, groups, n_samples)


def paired_inputs(
    task: Task,
    y: np.ndarray,
    a: np.ndarray,
    base: np.ndarray,
    fold: np.ndarray,
    groups: np.ndarray | None = None,
    n_samples: int = 1000,
) -> Comparison:
    """`paired` for what `Decision.inputs` holds (labels where the metric needs them)."""
    metric = get_metric(task.metric, task.kind)
    ours, theirs = metric.of_rows(y, a), metric.of_rows(y, base)
    draws = bootstrap_scores(
        lambda rows: ours(rows) - theirs(rows), len(y), strata_of(task.kind, y), groups, n_samples
    )
    lo, hi = percentile_interval(draws)
    difference = decided_score(task, y, a) - decided_score(task, y, base)
    by_fold, base_by_fold = fold_scores(task, y, a, fold), fold_scores(task, y, base, fold)
    sizes = np.array([(fold == k).sum() for k in by_fold])
    p = corrected_p(np.array([by_fold[k] - base_by_fold[k] for k in by_fold]), sizes)
    verdict: Verdict = "no difference shown"
    if lo > 0 or hi < 0:
        verdict = "better" if metric.sign * (lo + hi) > 0 else "worse"
    return Comparison(difference, (lo, hi), p, verdict, rows_needed(difference, (lo, hi), len(y)))


def corrected_p(
    differences: np.ndarray, sizes: np.ndarray, n_rows: int | None = None
) -> float | None:
    """Two-sided p-value of paired fold differences, corrected for overlapping training sets.

    Nadeau and Bengio 2003: the variance of the mean is (1/K + n_test/n_train) s^2 instead of
    s^2/K, because K folds share most of their training rows; t with K - 1 degrees of freedom.
    Seeds share the split, so they are averaged before: more seeds lower s, not the correction.

    Args:
        differences: (K,) score differences, one per fold, averaged over seeds.
        sizes: (K,) rows per fold.
        n_rows: rows of all folds; more than ``sizes.sum()`` where only some folds were trained.
            None = the sum.

    Returns:
        p, or None for fewer than two folds or differences that are not defined.
    """
    k = len(differences)
    if k < 2 or not np.isfinite(differences).all():
        return None
    n_rows = int(sizes.sum()) if n_rows is None else n_rows
    test_share = sizes.mean() / (n_rows - sizes.mean())
    deviation = math.sqrt((1 / k + test_share) * differences.var(ddof=1))
    if deviation == 0:
        return 1.0 if differences.mean() == 0 else 0.0
    return float(2 * student_t.sf(abs(differences.mean()) / deviation, k - 1))


def rows_needed(difference: float, ci95: tuple[float, float], n_rows: int) -> int | None:
    """Rows at which this difference would be shown with 80 % power at the 5 % level.

    The standard error is read off the interval (width / 3.92) and shrinks with the root of rows.

    Returns:
        Number of rows, or None where the difference is 0 or not defined.
    """
    error = (ci95[1] - ci95[0]) / 3.92
    if difference == 0 or not math.isfinite(difference) or not math.isfinite(error):
        return None
    return math.ceil(n_rows * (2.80 * error / difference) ** 2)


def compare_experiments(
    paths: Paths,
    task: Task,
    ids: np.ndarray,
    y: np.ndarray,
    fold: np.ndarray,
    base: str,
    exps: list[str] | None = None,
    groups: np.ndarray | None = None,
    n_samples: int = 1000,
) -> pd.DataFrame:
    """Every experiment and ensemble beside a base, best first.

    Args:
        paths: of the competition.
        task: gives metric and kind.
        ids: (N,) in the order of train.csv.
        y: (N,) or (N, T).
        fold: (N,) int64; -1 = in no fold.
        base: name of what the others are compared with.
        exps: names; None = everything that is scored.
        groups: (N,) or None.
        n_samples: resamples.

    Returns:
        DataFrame with columns experiment, score, lo, hi, diff, diff_lo, diff_hi, verdict, p,
        rows_needed, fold_std, seed_std, seeds, minutes, samples_per_s, and "score/<target>" where
        there are several. The base's own differences are nan, its verdict "base".

    Raises:
        DataError: a name is not there, or its rows or folds are not those given.
        ConfigError: a name is one seed of an experiment ("awp@42").
    """
    rows = np.flatnonzero(fold >= 0)
    names = _whole(list(dict.fromkeys([base, *(stored_names(paths) if exps is None else exps)])))
    members = [load_aligned(paths, name, task, ids[rows], fold[rows]) for name in names]
    groups = None if groups is None else groups[rows]
    table = []
    for member in members:
        row = _row(member)
        if member.name != base:
            pair = (member.pred, members[0].pred, fold[rows], groups, n_samples)
            result = paired(task, y[rows], *pair)
            row |= {
                "diff": result.difference, "diff_lo": result.ci95[0], "diff_hi": result.ci95[1],
                "verdict": result.verdict, "p": result.p, "rows_needed": result.rows_needed,
            }  # fmt: skip
        table.append(row)
    best_first = not get_metric(task.metric, task.kind).greater_is_better
    return pd.DataFrame(table).sort_values("score", ascending=best_first, ignore_index=True)


def _whole(names: list[str]) -> list[str]:
    """The names, none of which may be a single seed."""
    for name in names:
        if "@" in name:
            raise ConfigError(f"compare takes whole experiments: give {name.partition('@')[0]!r}")
    return names


def load_aligned(paths: Paths, spec: str, task: Task, ids: np.ndarray, fold: np.ndarray) -> Stored:
    """`load_stored`, refusing predictions that were made under other folds (DataError)."""
    stored = load_stored(paths, spec, task, ids)
    moved = int((stored.fold != fold).sum())
    if moved:
        raise DataError(
            f"{spec!r} was trained with other folds ({moved} of {len(fold)} rows differ from "
            "folds.csv): restore folds.csv or train it again under another EXP"
        )
    return stored


def _row(member: Stored) -> dict[str, Any]:
    """The columns that need no base; nan where scores.json says nothing."""
    scores, nan = member.scores, float("nan")
    figures = zip(("score", "lo", "hi"), (scores["score"], *scores["ci95"]), strict=True)
    row: dict[str, Any] = {"experiment": member.name}
    row |= {key: nan if value is None else value for key, value in figures}
    row |= {"diff": nan, "diff_lo": nan, "diff_hi": nan, "verdict": "base"}
    row |= {"p": nan, "rows_needed": nan}
    row |= {key: scores.get(key, nan) for key in ("fold_std", "seed_std")}
    row["seeds"] = ",".join(map(str, member.seeds))
    row |= {f"score/{name}": value for name, value in scores.get("target_scores", {}).items()}
    return row | {key: scores.get(key, nan) for key in ("minutes", "samples_per_s")}
