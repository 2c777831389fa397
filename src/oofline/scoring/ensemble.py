"""Ensembles: members read, checked, blended, scored, and compared with the best of them."""

from typing import Any

import numpy as np

from oofline.blocks import stacked
from oofline.errors import ConfigError, DataError
from oofline.results import Task
from oofline.scoring.blending import Blend, blend, check_method
from oofline.scoring.compare import load_aligned, paired_inputs
from oofline.scoring.decisions import cross_fitted_decision, is_thresholded
from oofline.scoring.ensemble_files import Ensemble, write_ensemble
from oofline.scoring.metrics import get_metric
from oofline.scoring.stored import Stored
from oofline.scoring.summary import (
    beside,
    by_target,
    decided_score,
    fold_scores,
    interval,
    plain,
    spread,
)
from oofline.storage import Paths


def load_members(
    paths: Paths, specs: list[str], task: Task, ids: np.ndarray, fold: np.ndarray
) -> list[Stored]:
    """Read the members of an ensemble.

    Args:
        paths: of the competition.
        specs: experiments ("awp") or single seeds of them ("awp@42").
        task: gives outputs and metric.
        ids: (n,) training ids that belong to a fold.
        fold: (n,) their folds.

    Raises:
        ConfigError: fewer than two, or one given twice.
        DataError: a member is not there, has other rows, other folds or other test rows.
    """
    if len(specs) < 2:
        raise ConfigError(
            f"an ensemble needs at least two members, got {', '.join(specs) or 'none'}: give "
            'EXPS=base,awp, or seeds of one experiment as "base@42,base@43"'
        )
    if len(set(specs)) < len(specs):
        raise ConfigError(f"an ensemble member is given twice: {', '.join(specs)}")
    members = [load_aligned(paths, spec, task, ids, fold) for spec in specs]
    for member in members[1:]:
        if set(member.test_ids) != set(members[0].test_ids):
            raise DataError(
                f"{member.name!r} and {members[0].name!r} have other test ids: test.csv changed "
                "between them; train one of them again"
            )
    return members


def build_ensemble(
    paths: Paths,
    task: Task,
    name: str,
    specs: list[str],
    ids: np.ndarray,
    y: np.ndarray,
    fold: np.ndarray,
    method: str = "auto",
    groups: np.ndarray | None = None,
    n_samples: int = 1000,
) -> Ensemble:
    """Blend experiments and write output/<comp>/ensembles/<name>/.

    Files: oof.parquet (seed -1; pred_* = last_* = the cross-fitted blend), test.parquet,
    weights.json, ensemble.md and, last, scores.json.

    Args:
        paths: of the competition.
        task: gives outputs and metric.
        name: of the ensemble.
        specs: members (see `load_members`).
        ids: (N,) in the order of train.csv.
        y: (N,) or (N, T).
        fold: (N,) int64; -1 = in no fold.
        method: one of `blending.METHODS`.
        groups: (N,) rows drawn together in intervals, or None.
        n_samples: resamples of the intervals.

    Raises:
        ConfigError, DataError: see `load_members` and `blending.blend`; or the name is taken by an
            experiment.
    """
    check_method(task, method)
    _check_name(paths, name)
    rows = np.flatnonzero(fold >= 0)
    ids, y, fold = np.asarray(ids).astype(str)[rows], y[rows], fold[rows]
    groups = None if groups is None else groups[rows]
    members = load_members(paths, specs, task, ids, fold)
    blended = blend(task, y, stacked([m.pred for m in members]), fold, method)
    singles = [cross_fitted_decision(task, y, m.pred, fold).inputs for m in members]
    member_scores = [decided_score(task, y, inputs) for inputs in singles]
    best = _best(task, member_scores, blended.score)
    against = paired_inputs(task, y, blended.inputs, singles[best], fold, groups, n_samples)
    ci95 = interval(task, y, blended.inputs, groups, n_samples)
    scores = plain(_scores(task, blended, members, y, fold, ci95))
    folder = paths.ensemble(name)
    result = Ensemble(name, folder, specs, member_scores, blended, best, against, scores)
    write_ensemble(task, result, members, ids, fold)
    return result


def _best(task: Task, member_scores: list[float], blended: float) -> int:
    """Index of the best member."""
    if np.isnan(blended) or np.isnan(member_scores).all():
        raise DataError(
            f"{task.metric} is not defined for the blend or for any member (constant predictions, "
            "or one class only): choose another metric or other members"
        )
    return int(np.nanargmax(get_metric(task.metric, task.kind).sign * np.array(member_scores)))


def _check_name(paths: Paths, name: str) -> None:
    if not name or name != name.strip() or any(c in name for c in '/\\@,:*?"<>|') or name[0] == ".":
        raise ConfigError(f"ensemble name {name!r} must be a plain folder name")
    if paths.experiment(name).exists():
        raise ConfigError(f"{name!r} is the name of an experiment: name the ensemble otherwise")


def _scores(
    task: Task,
    blended: Blend,
    members: list[Stored],
    y: np.ndarray,
    fold: np.ndarray,
    ci95: tuple[float, float],
) -> dict[str, Any]:
    """Contents of scores.json."""
    metric = get_metric(task.metric, task.kind)
    by_fold = fold_scores(task, y, blended.inputs, fold)
    return {
        "metric": metric.name,
        "greater_is_better": metric.greater_is_better,
        "score": blended.score,
        "score_last": blended.score,
        "score_in_sample": blended.in_sample,
        "ci95": list(ci95),
        "n_rows": len(y),
        "folds": list(by_fold),
        "seeds": sorted({seed for m in members for seed in m.seeds}),
        "fold_scores": [{"fold": k, "seed": -1, "score": v} for k, v in by_fold.items()],
        "fold_std": spread(by_fold.values()),
        **by_target(task, y, blended.inputs),
        **beside(task, y, blended.inputs),
        "threshold": blended.threshold,
        "thresholds": blended.fold_thresholds if is_thresholded(task) else {},
        "minutes": sum(float(m.scores.get("minutes") or 0.0) for m in members),
        "method": blended.method,
        "members": [m.name for m in members],
    }
