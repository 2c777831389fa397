"""Pictures and tables that hold several results beside each other."""

from pathlib import Path

import numpy as np
import pandas as pd
from matplotlib.axes import Axes

from oofline.report.fonts import displayable
from oofline.report.style import BLUE, DARK, GREY, ORANGE, RED, figure, titles
from oofline.scoring.ensemble_files import Ensemble, mean_weights

_VERDICT_COLORS = {"better": BLUE, "worse": RED, "base": DARK}
_NAME_LENGTH = 28


def _name(text: str) -> str:
    text = displayable(text)
    return text if len(text) <= _NAME_LENGTH else text[: _NAME_LENGTH - 1] + "…"


def _rows(ax: Axes, names: list[str]) -> np.ndarray:
    """Give an axis one named row per result, the first on top; returns their heights (n,)."""
    heights = np.arange(len(names))[::-1].astype(np.float64)
    ax.set_yticks(heights, names)
    ax.set_ylim(-0.6, len(names) - 0.4)
    ax.tick_params(axis="y", length=0)
    ax.grid(False, axis="y")
    return heights


def _point(
    ax: Axes, x: float, y: float, lo: float, hi: float, color: str, marker: str = "o"
) -> None:
    """One value with its interval; what is not defined (nan) is not drawn."""
    ax.plot([lo, hi], [y, y], color=color, linewidth=2.2, alpha=0.55)
    ax.plot([x], [y], marker, color=color, markersize=7)


def oof_vs_private(frame: pd.DataFrame, path: Path, metric: str) -> Path:
    """Out-of-fold score beside the score on rows whose truth was hidden, with their intervals.

    Args:
        frame: a row per result: experiment, oof, oof_lo, oof_hi, private, private_lo, private_hi.
        path: PNG to write.
        metric: name of the score.
    """
    with figure(path, 7.6, 1.7 + 0.62 * len(frame)) as fig:
        ax = fig.subplots()
        heights = _rows(ax, list(frame["experiment"].map(_name)))
        sides = (("oof", 0.14, BLUE, "o"), ("private", -0.14, ORANGE, "D"))
        for side, shift, color, marker in sides:
            for row, y in zip(frame.to_dict("records"), heights, strict=True):
                interval = row[f"{side}_lo"], row[f"{side}_hi"]
                _point(ax, row[side], y + shift, *interval, color, marker)
            label = "out of fold" if side == "oof" else "private"
            ax.plot([], [], marker=marker, color=color, linewidth=2.2, label=label)
        titles(
            ax,
            "Out-of-fold score, and the score on hidden rows",
            f"{metric} (line: 95 % interval)",
            "",
        )
        fig.legend(loc="outside lower center", ncols=2)
    return path


def compare_forest(frame: pd.DataFrame, path: Path, metric: str, greater_is_better: bool) -> Path:
    """Forest plot: every experiment's score, and its paired difference to the base.

    Args:
        frame: from `oofline.scoring.compare.compare_experiments`.
        path: PNG to write.
        metric: name of the score.
        greater_is_better: its direction.
    """
    better = "higher" if greater_is_better else "lower"
    base = frame.loc[frame["verdict"] == "base", "experiment"].iloc[0]
    with figure(path, 10.5, 1.9 + 0.42 * len(frame)) as fig:
        left, right = fig.subplots(1, 2, sharey=True)
        heights = _rows(left, list(frame["experiment"].map(_name)))
        right.grid(False, axis="y")
        right.tick_params(axis="y", length=0)
        for row, y in zip(frame.to_dict("records"), heights, strict=True):
            color = _VERDICT_COLORS.get(row["verdict"], GREY)
            _point(left, row["score"], y, row["lo"], row["hi"], color)
            if row["verdict"] == "base":
                left.axvline(row["score"], color=DARK, linewidth=0.8, linestyle=":")
                right.plot([0.0], [y], "o", color=color, markersize=7)
            else:
                _point(right, row["diff"], y, row["diff_lo"], row["diff_hi"], color)
        right.axvline(0.0, color=DARK, linewidth=0.8, linestyle=":")
        for ax in (left, right):
            ax.locator_params(axis="x", nbins=6)  # labels such as -0.0025 must not touch
        titles(
            left, "Out-of-fold score", f"{metric} ({better} is better), lines: 95 % intervals", ""
        )
        about = f"difference in {metric}, lines: 95 % intervals"
        titles(right, f"Difference to {_name(base)}, same rows", about, "")
        seen = [v for v in ("better", "no difference shown", "worse") if v in set(frame["verdict"])]
        for verdict in seen:
            color = _VERDICT_COLORS.get(verdict, GREY)
            right.plot([], [], marker="o", color=color, linewidth=2.2, label=verdict)
        if seen:
            fig.legend(loc="outside lower center", ncols=3)
    return path


def ensemble_weights(result: Ensemble, path: Path) -> Path:
    """The weight of every member on the test rows, and in each fold's cross-fitting.

    Args:
        result: from `oofline.scoring.ensemble.build_ensemble`.
        path: PNG to write.
    """
    weights = mean_weights(np.asarray(result.blend.weights, dtype=np.float64))
    folds = np.array([mean_weights(w) for w in result.blend.fold_weights.values()])
    with figure(path, 7.6, 1.8 + 0.42 * len(weights)) as fig:
        ax = fig.subplots()
        scored = zip(result.members, result.member_scores, strict=True)
        heights = _rows(ax, [f"{_name(name)}  {score:.4f}" for name, score in scored])
        bars = ax.barh(heights, weights, height=0.5, color=BLUE)
        dots = ax.plot(folds.T, heights, "o", color=ORANGE, mec="white", clip_on=False, zorder=4)
        ax.set_xlim(left=min(0.0, float(weights.min())))
        titles(ax, f"Weights of {_name(result.name)} ({result.blend.method})", "weight", "")
        labels = ["for the test rows", "for each fold, from the other folds"]
        fig.legend([bars.patches[0], dots[0]], labels, loc="outside lower center", ncols=2)
    return path


def comparison_text(frame: pd.DataFrame) -> pd.DataFrame:
    """The table of `compare_experiments` as a terminal can show it: intervals in one cell.

    Args:
        frame: one row per experiment, best first.

    Returns:
        Text cells; what is not known is empty; the scores of several targets come last. ``p``,
        ``rows_needed`` and ``seed_std`` stay in compare.csv.
    """
    return pd.DataFrame(
        {
            "experiment": frame["experiment"],
            "score": _cells(frame, "{score:.5f}"),
            "95 %": _cells(frame, "{lo:.4f}, {hi:.4f}"),
            "diff": _cells(frame, "{diff:+.5f}"),
            "its 95 %": _cells(frame, "{diff_lo:+.4f}, {diff_hi:+.4f}"),
            "verdict": frame["verdict"],
            "fold sd": _cells(frame, "{fold_std:.4f}"),
            "seeds": frame["seeds"],
            "min": _cells(frame, "{minutes:.1f}"),
            "rows/s": _cells(frame, "{samples_per_s:.0f}"),
            **{
                str(name).removeprefix("score/"): _cells(
                    frame[[name]].set_axis(["target"], axis=1), "{target:.4f}"
                )
                for name in frame.columns
                if str(name).startswith("score/")
            },
        }
    )


def _cells(frame: pd.DataFrame, template: str) -> list[str]:
    """The template filled from each row; empty where a value is missing."""
    names = [part.split(":")[0] for part in template.split("{")[1:]]
    values = frame[names].to_numpy(dtype=np.float64)
    return [
        template.format(**dict(zip(names, row, strict=True))) if np.isfinite(row).all() else ""
        for row in values
    ]
