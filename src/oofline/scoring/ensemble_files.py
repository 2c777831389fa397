"""What an ensemble leaves on disk: predictions, weights, a page to read, scores."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from oofline.blocks import Block, weighted_sum
from oofline.results import Task, prediction_frame
from oofline.scoring.blending import Blend, ranks_within
from oofline.scoring.compare import Comparison
from oofline.scoring.decisions import is_thresholded
from oofline.scoring.oof import join
from oofline.scoring.stored import Stored
from oofline.scoring.summary import plain, write_frame, write_test
from oofline.storage import write_json, write_text


@dataclass(frozen=True)
class Ensemble:
    """A finished ensemble.

    Attributes:
        name: of the ensemble.
        folder: where its files are.
        members: what was blended, in the order of the weights.
        member_scores: (M,) out-of-fold score of each.
        blend: weights, predictions and cross-fitted score.
        best: index of the best single member.
        against_best: the blend compared with it (a = blend).
        scores: contents of scores.json.
    """

    name: str
    folder: Path
    members: list[str]
    member_scores: list[float]
    blend: Blend
    best: int
    against_best: Comparison
    scores: dict[str, Any]


def blend_test(members: list[Stored], method: str, weights: np.ndarray) -> Block:
    """(n_test, T) blend of the members' test predictions, in the order of the first member's.

    Args:
        members: their test predictions are read, and their own out-of-fold ones under rank_mean:
            each member's test rows are ranked within those.
        method: one of `blending.METHODS` but "auto".
        weights: (M,) for the test rows.
    """
    first = pd.Index(members[0].test_ids)
    tests = []
    for member in members:
        test = ranks_within(member.pred, member.test) if method == "rank_mean" else member.test
        tests.append(test[join(Path(member.name), pd.Series(member.test_ids), first)])
    return weighted_sum(np.asarray(weights), tests)


def write_ensemble(
    task: Task, result: Ensemble, members: list[Stored], ids: np.ndarray, fold: np.ndarray
) -> None:
    """Write the files of an ensemble, scores.json last.

    Args:
        task: gives the outputs.
        result: what to write.
        members: what was blended.
        ids: (n,) training ids.
        fold: (n,) their folds.
    """
    blended, folder = result.blend, result.folder
    frame = prediction_frame(task, ids, -1, 0, pred=blended.pred, last=blended.pred)
    write_frame(folder / "oof.parquet", [frame.assign(fold=fold)])
    test = blend_test(members, blended.method, blended.weights)
    write_test(folder, task, [-1], members[0].test_ids, [test])
    write_json(folder / "weights.json", plain(_weights(result)))
    write_text(folder / "ensemble.md", markdown(task, result))
    write_json(folder / "scores.json", result.scores)


def _weights(result: Ensemble) -> dict[str, Any]:
    """Contents of weights.json."""
    blended = result.blend
    return {
        "method": blended.method,
        "members": result.members,
        "weights": blended.weights,
        "threshold": blended.threshold,
        "folds": {
            fold: {
                "method": blended.fold_methods[fold],
                "weights": weights,
                "threshold": blended.fold_thresholds[fold],
            }
            for fold, weights in blended.fold_weights.items()
        },
    }


def mean_weights(weights: np.ndarray) -> np.ndarray:
    """(M,) weights of the members, of (M, T) the mean over targets."""
    return weights if weights.ndim == 1 else weights.mean(axis=1)


def markdown(task: Task, result: Ensemble) -> str:
    """ensemble.md: weights, the honest and the optimistic score, and whether blending helped."""
    blended, scores, best = result.blend, result.scores, result.members[result.best]
    lo, hi = (float("nan") if bound is None else bound for bound in scores["ci95"])
    folds = list(blended.fold_weights)
    header = ["member", f"{task.metric} alone", "weight", *(f"fold {k}" for k in folds)]
    lines = [
        f"# Ensemble {result.name}",
        "",
        f"Method {blended.method}. Out-of-fold {task.metric} **{scores['score']:.5f}** "
        f"[{lo:.5f}, {hi:.5f}], cross-fitted: each fold is blended by weights"
        f"{' and a threshold' if is_thresholded(task) else ''} from the other folds.",
        f"On the rows that chose them the weights score {blended.in_sample:.5f}: that figure is "
        "optimistic, do not quote it.",
        "",
        verdict_line(task, result),
        "",
        "| " + " | ".join(header) + " |",
        "|" + " --- |" * len(header),
    ]
    total = mean_weights(blended.weights)
    of_folds = {k: mean_weights(blended.fold_weights[k]) for k in folds}
    for index, name in enumerate(result.members):
        cells = [name + (" (best)" if name == best else ""), f"{result.member_scores[index]:.5f}"]
        cells += [f"{total[index]:.3f}"]
        cells += [f"{of_folds[k][index]:.3f}" for k in folds]
        lines.append("| " + " | ".join(cells) + " |")
    lines += ["", "`weight` blends the test rows; the fold columns show how stable it is."]
    lines += _by_target(task, result)
    if len(set(blended.fold_methods.values()) | {blended.method}) > 1:
        chosen = ", ".join(f"fold {k}: {m}" for k, m in blended.fold_methods.items())
        lines += ["", f"The method was chosen without the fold it is scored on: {chosen}."]
    return "\n".join(lines) + "\n"


def _by_target(task: Task, result: Ensemble) -> list[str]:
    """Tables of the score and, where each has its own, the weights of every target."""
    scores = result.scores.get("target_scores")
    if not scores:
        return []
    weights = result.blend.weights
    own = result.members if weights.ndim == 2 else []
    means = any(weights.ndim == 2 for weights in (weights, *result.blend.fold_weights.values()))
    lines = ["", "Weights of single targets stand above as their means."] if means else []
    lines += ["", "| target | " + " | ".join([task.metric, *own]) + " |"]
    lines += ["|" + " --- |" * (2 + len(own))]
    for t, (name, value) in enumerate(scores.items()):
        cells = [name, "undefined" if value is None else f"{value:.5f}"]
        cells += [f"{weights[m, t]:.3f}" for m in range(len(own))]
        lines.append("| " + " | ".join(cells) + " |")
    return lines


def verdict_line(task: Task, result: Ensemble) -> str:
    """One sentence: does blending beat the best single member beyond noise?"""
    against, best = result.against_best, result.members[result.best]
    lo, hi = against.ci95
    figures = f"{against.difference:+.5f} {task.metric} [{lo:+.5f}, {hi:+.5f}], paired over rows"
    if against.verdict == "better":
        return f"Blending beats the best single member, {best}, beyond noise: {figures}."
    if against.verdict == "worse":
        return f"Blending is worse than the best single member, {best}: {figures}. Submit {best}."
    more = f"; {against.rows_needed:,} rows would show it" if against.rows_needed else ""
    return f"No difference shown between the blend and its best member, {best}: {figures}{more}."
