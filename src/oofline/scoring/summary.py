"""The score of an experiment, everything that says how far to trust it, and its three files."""

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from oofline.blocks import Blocks, average
from oofline.results import Task, prediction_frame
from oofline.scoring.decisions import cross_fitted_decision
from oofline.scoring.intervals import bootstrap_ci, strata_of
from oofline.scoring.metrics import get_metric, scores_beside, scores_by_target
from oofline.scoring.oof import PREFIXES, Oof
from oofline.storage import Paths, replacing, write_json


def decided_score(task: Task, y: np.ndarray, inputs: np.ndarray) -> float:
    """Score of what `Decision.inputs` holds; y (n,) or (n, T)."""
    return float(get_metric(task.metric, task.kind).function(y, inputs))


def interval(
    task: Task,
    y: np.ndarray,
    inputs: np.ndarray,
    groups: np.ndarray | None = None,
    n_samples: int = 1000,
) -> tuple[float, float]:
    """95 % bootstrap interval of a decided score; by groups if given (see `strata_of`).

    Args:
        task: gives metric and kind.
        y: (n,) int64 or (n, T) float64.
        inputs: `Decision.inputs`.
        groups: (n,) or None.
        n_samples: resamples.
    """
    scored = get_metric(task.metric, task.kind).of_rows(y, inputs)
    return bootstrap_ci(scored, len(y), strata_of(task.kind, y), groups, n_samples)


def fold_scores(
    task: Task, y: np.ndarray, inputs: np.ndarray, fold: np.ndarray
) -> dict[int, float]:
    """Fold -> score on its rows; nan where the metric is not defined there."""
    return {int(k): decided_score(task, y[fold == k], inputs[fold == k]) for k in np.unique(fold)}


def by_target(task: Task, y: np.ndarray, inputs: np.ndarray) -> dict[str, dict[str, float]]:
    """``{"target_scores": {name: score}}`` where there are several targets or labels, else {}."""
    found = scores_by_target(task, y, inputs)
    return {"target_scores": found} if found else {}


def beside(task: Task, y: np.ndarray, inputs: np.ndarray) -> dict[str, dict[str, float]]:
    """``{"beside": {metric: score}}`` where the kind has further metrics, else {}."""
    found = scores_beside(task, y, inputs)
    return {"beside": found} if found else {}


def spread(scores: Iterable[float]) -> float | None:
    """Sample standard deviation (n - 1); None for fewer than two scores."""
    values = np.array(list(scores), dtype=np.float64)
    return float(values.std(ddof=1)) if len(values) > 1 else None


def summarise(
    task: Task,
    oof: Oof,
    y: np.ndarray,
    groups: np.ndarray | None = None,
    n_samples: int = 1000,
) -> dict[str, Any]:
    """Contents of an experiment's scores.json.

    ``score``, ``score_last`` and ``score_best`` are of predictions averaged over seeds (that is
    what is submitted), thresholds cross-fitted. ``optimism`` is best minus last, turned so that
    positive means that the best checkpoint looks better. ``fold_std`` is over folds (of their mean
    over seeds), ``seed_std`` over seeds.

    Args:
        task: gives metric and kind.
        oof: from `collect`.
        y: (N,) or (N, T): targets of all rows of train.csv.
        groups: (N,) or None: rows that are drawn together.
        n_samples: resamples of the interval.
    """
    metric = get_metric(task.metric, task.kind)
    y = y[oof.rows]
    decisions = {
        prefix: cross_fitted_decision(task, y, average(block), oof.fold)
        for prefix, block in oof.blocks.items()
    }
    scores = {p: decided_score(task, y, d.inputs) for p, d in decisions.items()}
    inputs = decisions["pred"].inputs
    lo, hi = interval(task, y, inputs, None if groups is None else groups[oof.rows], n_samples)
    return {
        "metric": metric.name,
        "greater_is_better": metric.greater_is_better,
        "score": scores["pred"],
        "score_last": scores["last"],
        "score_best": scores["best"],
        "optimism": metric.sign * (scores["best"] - scores["last"]),
        "ci95": [lo, hi],
        "n_rows": len(oof.rows),
        "folds": oof.folds,
        "seeds": list(oof.seeds),
        **_by_fold_and_seed(task, y, oof),
        **by_target(task, y, inputs),
        **beside(task, y, inputs),
        "threshold": decisions["pred"].threshold,
        "thresholds": decisions["pred"].thresholds,
        "minutes": sum(float(f.get("minutes") or 0.0) for f in oof.fold_scores),
        "samples_per_s": _mean([f.get("samples_per_s") for f in oof.fold_scores]),
    }


def _mean(values: list[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return float(np.mean(known)) if known else None


def _by_fold_and_seed(task: Task, y: np.ndarray, oof: Oof) -> dict[str, Any]:
    """``fold_scores``, ``seed_scores`` and their spreads."""
    by_seed, by_fold = {}, []
    for seed, pred in zip(oof.seeds, oof.blocks["pred"], strict=True):
        inputs = cross_fitted_decision(task, y, pred, oof.fold).inputs
        by_seed[str(seed)] = decided_score(task, y, inputs)
        for fold, value in fold_scores(task, y, inputs, oof.fold).items():
            by_fold.append({"fold": fold, "seed": seed, "score": value})
    fold_means = [
        float(np.mean([f["score"] for f in by_fold if f["fold"] == k])) for k in oof.folds
    ]
    return {
        "fold_scores": by_fold,
        "seed_scores": by_seed,
        "fold_std": spread(fold_means),
        "seed_std": spread(by_seed.values()),
    }


def write_oof(
    paths: Paths,
    task: Task,
    oof: Oof,
    y: np.ndarray,
    groups: np.ndarray | None = None,
    n_samples: int = 1000,
) -> dict[str, Any]:
    """Score an experiment and write oof.parquet, test.parquet and, last, scores.json.

    oof.parquet has n rows per seed (``id, seed, fold, pred_*, last_*, best_*``), test.parquet
    n_test rows per seed with fold -1. Arguments as in `summarise`.

    Returns:
        The contents of scores.json (scores that are not defined are None).
    """
    folder = paths.experiment(oof.exp)
    scores = plain(summarise(task, oof, y, groups, n_samples))
    write_frame(
        folder / "oof.parquet",
        [
            prediction_frame(
                task, oof.ids, seed, 0, **{p: oof.blocks[p][s] for p in PREFIXES}
            ).assign(fold=oof.fold)
            for s, seed in enumerate(oof.seeds)
        ],
    )
    write_test(folder, task, oof.seeds, oof.test_ids, oof.test)
    write_json(folder / "scores.json", scores)
    return scores


def write_test(
    folder: Path, task: Task, seeds: Iterable[int], test_ids: np.ndarray, test: Blocks
) -> None:
    """Write test.parquet: n_test rows per seed with fold -1; test (S, n_test, T)."""
    frames = [
        prediction_frame(task, test_ids, seed, -1, pred=pred)
        for seed, pred in zip(seeds, test, strict=True)
    ]
    write_frame(folder / "test.parquet", frames)


def write_frame(path: Path, frames: list[pd.DataFrame]) -> None:
    """Write frames below each other as one parquet file, in one step."""
    with replacing(path) as temporary:
        pd.concat(frames, ignore_index=True).to_parquet(temporary, index=False, compression="zstd")


def plain(value: Any) -> Any:
    """The value as JSON can hold it: numpy numbers to Python's, nan and infinite to None."""
    if isinstance(value, dict):
        return {str(key): plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [plain(item) for item in value]
    if isinstance(value, np.ndarray):
        return plain(value.tolist())
    if isinstance(value, np.generic):
        value = value.item()
    return None if isinstance(value, float) and not np.isfinite(value) else value
