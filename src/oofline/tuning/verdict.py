"""What a search found, in sentences that never say more than its scores can carry."""

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from oofline.ablation.contrast import Contrast, seed_interval
from oofline.limits import RANGES
from oofline.tuning.space import Parameter

NEAR = 0.01
"""Trials within this share of the best score count as near it."""
FLAT = 0.25
"""A neighbourhood this wide, as a share of what was searched, is flat."""
EDGE = 0.03
"""A best value this close to an end of its range, as a share of it, lies at the edge."""
EDGES = ("lower", "upper")


@dataclass(frozen=True)
class Neighbourhood:
    """Where a bounded setting scores near the best.

    Attributes:
        low: lowest value around the best one with no trial between that scores less.
        high: the same upwards.
        width: share of the searched range, 0..1, on its scale.
        n: trials in it.
        edge: which end of the range the best value lies at: "lower", "upper" or "".
    """

    low: float
    high: float
    width: float
    n: int
    edge: str


@dataclass(frozen=True)
class Rerun:
    """The best values and the default, trained again on new seeds.

    Attributes:
        contrast: the best minus the default; score and seed scores are the best's.
        claimed: the best trial's score in the search, mean over its seeds.
        sign: 1 where higher is better, else -1.
    """

    contrast: Contrast
    claimed: float
    sign: int

    @property
    def optimism(self) -> float:
        """How much better the search made the best look than new seeds do."""
        return self.sign * (self.claimed - self.contrast.score)


def near_best(frame: pd.DataFrame, greater: bool) -> np.ndarray:
    """(n,) bool: which trials score within `NEAR` of the best one (stopped ones by estimate)."""
    score = frame["estimate"].to_numpy(float)
    complete = frame["score"]
    best = float(complete.max() if greater else complete.min())
    margin = NEAR * abs(best)
    return score >= best - margin if greater else score <= best + margin


def neighbourhood(
    frame: pd.DataFrame, parameter: Parameter, best: float, near: np.ndarray, alone: bool = True
) -> Neighbourhood:
    """Walk from the best value both ways while trials score near the best.

    Args:
        frame: trials.
        parameter: bounded, "log" or "range".
        best: its best value.
        near: from `near_best`.
        alone: whether nothing else was searched; else a worse trial between may be worse for
            another setting's value, and does not end the walk.
    """
    value = frame[parameter.name].to_numpy(float)
    known = np.isfinite(frame["estimate"].to_numpy(float)) & np.isfinite(value)
    known &= near | alone
    order = np.argsort(value[known], kind="stable")
    sorted_value, sorted_near = value[known][order], near[known][order]
    low = _walk(sorted_value[::-1], sorted_near[::-1], sorted_value[::-1] <= best, best)
    high = _walk(sorted_value, sorted_near, sorted_value >= best, best)
    scale = math.log if parameter.form == "log" else float
    start, end = (scale(bound) for bound in parameter.values)
    at = (scale(best) - start) / (end - start)
    edge = EDGES[0] if at < EDGE else EDGES[1] if at > 1 - EDGE else ""
    inside = (sorted_value >= low) & (sorted_value <= high) & sorted_near
    width = (scale(high) - scale(low)) / (end - start)
    return Neighbourhood(low, high, width, int(inside.sum()), edge)


def _walk(value: np.ndarray, near: np.ndarray, side: np.ndarray, best: float) -> float:
    """The last value on one side of the best before the first that is not near it."""
    last = best
    for one, good in zip(value[side], near[side], strict=True):
        if not good and one != best:
            break
        last = float(one)
    return last


def sentences(
    frame: pd.DataFrame, space: tuple[Parameter, ...], metric: str, greater: bool,
    default: dict[str, Any], rerun: Rerun | None,
) -> list[str]:  # fmt: skip
    """What was found: the best values, how flat their neighbourhood is, and what they are worth.

    Args:
        frame: trials, one complete at least.
        space: what was searched.
        metric: name of the score.
        greater: whether higher is better.
        default: setting -> the value that all trials start from.
        rerun: None where nothing was trained again.
    """
    complete = frame["score"]
    row = frame.iloc[int((complete if greater else -complete).argmax())]
    values = ", ".join(f"{p.name} = {shown(row[p.name])}" for p in space)
    n_known = int(frame["estimate"].notna().sum())
    near = near_best(frame, greater)
    lines = [
        f"Best of {n_known} trials that have a score: trial {row['trial']}, {values}: {metric} "
        f"{row['score']:.5f}{_default_score(frame, space, default)}."
    ]
    lines.append(
        f"{int(near.sum())} of {n_known} trials score within {100 * NEAR:.0f} % of the best; "
        + "; ".join(_around(frame, p, row[p.name], near, len(space) == 1) for p in space)
        + "."
    )
    for parameter in space:
        if parameter.form == "choice":
            continue
        edge = neighbourhood(frame, parameter, float(row[parameter.name]), near).edge
        if edge:
            end = EDGES.index(edge)
            further = parameter.values[end] != RANGES.get(parameter.name, (None, None))[end]
            lines.append(
                f"The best {parameter.name} lies at the {edge} end of its range"
                + (": search further." if further else ", which is as far as it goes.")
            )
    return [*lines, *_worth(rerun, metric)]


def shown(value: Any) -> str:
    """A value in three digits."""
    return f"{value:.3g}" if isinstance(value, float) else str(value)


def _default_score(
    frame: pd.DataFrame, space: tuple[Parameter, ...], default: dict[str, Any]
) -> str:
    same = np.ones(len(frame), dtype=bool)
    for parameter in space:
        same &= (frame[parameter.name] == default[parameter.name]).to_numpy()
    found = frame[same & frame["score"].notna().to_numpy()]
    return f" (the default: {found['score'].iloc[0]:.5f})" if len(found) else ""


def _around(
    frame: pd.DataFrame, parameter: Parameter, best: Any, near: np.ndarray, alone: bool
) -> str:
    name = parameter.name
    if parameter.form == "choice":
        kinds = list(dict.fromkeys(map(str, frame[name][near])))
        return f"{name}: {', '.join(kinds)} among them"
    found = neighbourhood(frame, parameter, float(best), near, alone)
    if found.n < 2:
        return f"{name}: no other trial beside {shown(best)} does, so it is a peak or luck"
    kind = "flat" if found.width >= FLAT else "narrow"
    between = " with none worse between" * alone
    return (
        f"{name}: {found.n} of them from {shown(found.low)} to {shown(found.high)}{between}, "
        f"{100 * found.width:.0f} % of what was searched ({kind})"
    )


def _worth(rerun: Rerun | None, metric: str) -> list[str]:
    """Whether the best beats the default beyond seed noise, and the winner's optimism."""
    if rerun is None:
        return ["Nothing was trained again: whether this beats the default is not known."]
    found = rerun.contrast
    n_seeds, between = len(found.seed_scores), seed_interval(found.seed_differences)
    better = rerun.sign * found.difference > 0
    about = (
        f"on {n_seeds} new seed{'s' * (n_seeds > 1)} it scores {metric} {found.score:.5f}, "
        f"{found.difference:+.5f} from the default"
    )
    low, high = found.difference_ci95
    shown_by_rows = low > 0 or high < 0
    if n_seeds > 1 and np.ptp(found.seed_scores) == np.ptp(found.seed_differences) == 0:
        result = "better" if better else "worse"
        return [
            f"No score depends on the seed: {about}, over rows {low:+.5f} to {high:+.5f}, "
            f"{result if shown_by_rows else 'no difference shown'}.",
            "So new seeds do not show how much the search flattered it: it is scored on the rows "
            "that it was chosen on.",
        ]
    if between is None:
        verdict = f"Trained again, {about}: seed noise is not known from one seed."
    else:
        lo, hi = between
        beyond = lo > 0 or hi < 0
        word = ("beats" if better else "is worse than") if beyond else "does not beat"
        kind = " beyond seed noise"
        kind += ", but not beyond the luck of these rows" * (beyond and not shown_by_rows)
        verdict = (
            f"It {word} the default{kind}: {about} (95 % over seeds {lo:+.5f} to {hi:+.5f}; over "
            f"rows {found.difference_ci95[0]:+.5f} to {found.difference_ci95[1]:+.5f})."
        )
    flattered = rerun.optimism
    word = "flattered" if flattered > 0 else "did not flatter"
    return [
        verdict,
        f"The search {word} it: {rerun.claimed:.5f} found, {found.score:.5f} on new seeds "
        f"(winner's optimism {flattered:+.5f}).",
    ]
