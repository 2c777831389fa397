"""Pictures of a search: its progress, each setting's sensitivity, importances, all at once.

Every function takes the table of trials (see `oofline.tuning.trials.trials_frame`) and the settings
that were searched, with the form of each: "log", "range" or "choice".
"""

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator
from scipy.stats import t as student_t

from oofline.report.smooth import smooth
from oofline.report.style import BLUE, DARK, GREEN, GREY, ORANGE, RED, figure, titles
from oofline.report.tuning_axes import ends, far_below, positions, scale, shortened

_BEHIND: Any = {"facecolor": "white", "edgecolor": "none", "pad": 0.5, "alpha": 0.8}
FEWEST = 5
"""Points behind a smooth band."""


def progress(
    path: Path, frame: pd.DataFrame, forms: dict[str, str], metric: str, greater: bool
) -> Path:
    """Score, best score so far and each setting's value, by trial in the order of start.

    Args:
        path: PNG to write.
        frame: the trials.
        forms: setting -> form.
        metric: name of the score.
        greater: whether higher is better.
    """
    with figure(path, 8.2, 3.6 + 1.7 * len(forms)) as fig:
        ratios = [2.2, *[1.0] * len(forms)]
        axes = fig.subplots(1 + len(forms), 1, sharex=True, gridspec_kw={"height_ratios": ratios})
        axes = np.atleast_1d(axes)
        _scores(axes[0], frame, frame["trial"].to_numpy(float), greater)
        done = frame[frame["state"] == "complete"]
        running = done["score"].cummax() if greater else done["score"].cummin()
        axes[0].step(done["trial"], running, where="post", color=GREEN, label="best so far")
        titles(axes[0], "Trials in the order of their start", "", _label(metric, greater))
        for ax, (name, form) in zip(axes[1:], forms.items(), strict=True):
            at, ticks = positions(frame[name], form)
            ax.scatter(frame["trial"], at, s=16, c=_state_colors(frame), zorder=3)
            scale(ax, "y", form, ticks, frame[name])
            titles(ax, "", "", name)
        axes[-1].set_xlabel("trial")
        axes[-1].xaxis.set_major_locator(MaxNLocator(nbins=8, steps=[1, 2, 5, 10], integer=True))
        _legend(fig, 4)
    return path


def sensitivity(
    path: Path, frame: pd.DataFrame, forms: dict[str, str], metric: str, greater: bool,
    default: dict[str, object],
) -> Path:  # fmt: skip
    """Score against each setting's value, with a smooth band, and where the default lies.

    The band is the mean of a Gaussian process (see `oofline.report.smooth`) with its 95 % interval,
    of a choice the mean of its trials with theirs; the other settings count as noise. Scores off
    the scale (see `far_below`) do not enter it.
    """
    columns = min(3, len(forms))
    rows = -(-len(forms) // columns)
    with figure(path, 5.2 * columns + 0.6, 3.6 * rows + 0.4) as fig:
        grid = fig.subplots(rows, columns, squeeze=False).flatten()
        for ax, (name, form) in zip(grid, forms.items(), strict=False):
            at, ticks = positions(frame[name], form)
            _scores(ax, frame, at, greater)
            score = frame["estimate"].to_numpy(float)
            score = np.where(far_below(score, greater), np.nan, score)
            _means(ax, at, score) if form == "choice" else _band(ax, at, score, form)
            where, _ = positions(pd.Series([default[name]]), form, ticks)
            if np.isfinite(where[0]):
                ax.axvline(where[0], color=GREY, linestyle=":", label="default")
            scale(ax, "x", form, ticks, frame[name])
            if form != "choice":
                ax.set_xlim(*ends(np.concatenate([at, where]), form))
            titles(ax, name, name + " (log scale)" * (form == "log"), _label(metric, greater))
        for ax in grid[len(forms) :]:
            ax.set_axis_off()
        _legend(fig, 3 * columns)
    return path


def importances(path: Path, shares: dict[str, float], note: str) -> Path:
    """How much of the scores' spread each setting explains, as bars; ``note`` says by what."""
    names = sorted(shares, key=lambda name: shares[name])
    with figure(path, 6.4, 1.5 + 0.42 * len(names)) as fig:
        ax = fig.subplots()
        values = [shares[name] for name in names]
        ax.barh(names, values, color=BLUE, height=0.6)
        for index, value in enumerate(values):
            ax.text(value, index, f" {100 * value:.0f} %", va="center", color=DARK)
        ax.set_xlim(0, 1.1)
        titles(ax, "Importance of each setting", note, "")
    return path


def parallel(
    path: Path, frame: pd.DataFrame, forms: dict[str, str], metric: str, greater: bool
) -> Path:
    """Every trial as a line through its values to its score, the better the darker."""
    far = far_below(frame["estimate"].to_numpy(float), greater)
    known = frame[frame["estimate"].notna() & ~far]
    known = known.sort_values("estimate", ascending=greater)  # the best is drawn last
    with figure(path, 2.6 + 1.9 * len(forms), 4.4) as fig:
        ax = fig.subplots()
        ranks = known["estimate"].rank(pct=True, ascending=greater).to_numpy()
        heights = np.column_stack([_height(ax, i, known[n], f) for i, (n, f) in
                                   enumerate([*forms.items(), ("estimate", "range")])])  # fmt: skip
        for index, line in enumerate(heights):
            best = index == len(heights) - 1
            color = RED if best else colormaps["cividis_r"](0.1 + 0.9 * float(ranks[index]))
            ax.plot(line, color=color, linewidth=2.4 if best else 1.0, alpha=1 if best else 0.7,
                    label="best" if best else "_", clip_on=False)  # fmt: skip
        ax.set_xticks(range(len(forms) + 1), [*forms, metric])
        ax.set_yticks([])
        ax.set_ylim(-0.04, 1.04)
        ax.set_xlim(-0.15, len(forms) + 0.15)
        ax.spines["left"].set_visible(False)
        left_out = f"; {int(far.sum())} far worse left out" if far.any() else ""
        titles(ax, "Values and scores", f"the darker a line, the better its trial{left_out}", "")
        fig.legend(loc="outside lower center")
    return path


def _height(ax: Axes, index: int, column: pd.Series, form: str) -> np.ndarray:
    """(n,) heights 0..1 of a column's values on its own axis, whose ends are labelled."""
    at, ticks = positions(column, form)
    at = np.log10(at) if form == "log" else at
    low, high = (float(at.min()), float(at.max())) if len(at) else (0.0, 1.0)
    width = (high - low) or 1.0
    ax.axvline(index, color=DARK, linewidth=0.9)
    marks = dict(zip(map(float, ticks.values()), shortened(list(ticks)), strict=True))
    if not ticks:
        marks = {v: f"{10**v if form == 'log' else v:.3g}" for v in (low, high)}
    for value, text in marks.items():
        ax.annotate(text, (index, (value - low) / width), textcoords="offset points",
                    xytext=(4, 0), fontsize=8, color=DARK, va="center", zorder=5,
                    bbox=_BEHIND)  # fmt: skip
    return (at - low) / width


def _legend(fig: Figure, columns: int) -> None:
    """One legend for all axes, each entry once."""
    found: dict[str, Any] = {}
    for ax in fig.axes:
        for handle, label in zip(*ax.get_legend_handles_labels(), strict=True):
            found.setdefault(label, handle)
    fig.legend(list(found.values()), list(found), loc="outside lower center", ncols=columns)


def _label(metric: str, greater: bool) -> str:
    return f"{metric} ({'higher' if greater else 'lower'} is better)"


def _state_colors(frame: pd.DataFrame) -> list[str]:
    colors = {"complete": BLUE, "stopped early": ORANGE}
    return [colors.get(state, GREY) for state in frame["state"]]


def _scores(ax: Axes, frame: pd.DataFrame, at: np.ndarray, greater: bool) -> None:
    """Points: complete, stopped early (their estimate), the best; no score, or one far off."""
    score = frame["estimate"].to_numpy(float)
    far, end = far_below(score, greater), 0.02 if greater else 0.98
    edge: Any = {"transform": ax.get_xaxis_transform(), "color": GREY, "s": 24, "zorder": 3}
    done, early = ((frame["state"] == s) & ~far for s in ("complete", "stopped early"))
    ax.scatter(at[done], score[done], s=26, color=BLUE, zorder=3, label="complete")
    if early.any():
        ax.scatter(at[early], score[early], s=26, facecolors="none", edgecolors=ORANGE, zorder=3,
                   label="stopped early (estimate)")  # fmt: skip
    lost = frame["state"].isin(["failed", "stopped early"]).to_numpy() & ~np.isfinite(score)
    if lost.any():
        ax.scatter(at[lost], [end] * int(lost.sum()), marker="x", label="no score", **edge)
    if far.any():
        ax.scatter(at[far], [end] * int(far.sum()), marker="v" if greater else "^",
                   label="far worse, off the scale", **edge)  # fmt: skip
    if done.any():
        best = int(np.nanargmax(np.where(done, score if greater else -score, np.nan)))
        ax.scatter(at[best], score[best], s=90, marker="*", color=RED, zorder=4, label="best")


def _band(ax: Axes, at: np.ndarray, score: np.ndarray, form: str) -> None:
    known = np.isfinite(at) & np.isfinite(score)
    if known.sum() < FEWEST or np.ptp(at[known]) == 0:
        return
    x = np.log(at[known]) if form == "log" else at[known]
    grid = np.linspace(x.min(), x.max(), 120)
    mean, deviation = smooth(x, score[known], grid)
    shown = np.exp(grid) if form == "log" else grid
    ax.plot(shown, mean, color=BLUE, linewidth=1.3, alpha=0.8, label="smooth, 95 %")
    ax.fill_between(shown, mean - 1.96 * deviation, mean + 1.96 * deviation, color=BLUE,
                    alpha=0.13, linewidth=0)  # fmt: skip


def _means(ax: Axes, at: np.ndarray, score: np.ndarray) -> None:
    """Mean of each choice's trials beside its points, with Student's 95 % interval."""
    known, label = np.isfinite(at) & np.isfinite(score), "mean, 95 %"
    for place in np.unique(at[known]):
        own = score[known & (at == place)]
        if len(own) > 2:
            half = float(student_t.ppf(0.975, len(own) - 1) * own.std(ddof=1) / np.sqrt(len(own)))
            ax.errorbar(place + 0.15, own.mean(), half, color=BLUE, marker="_", markersize=11,
                        alpha=0.8, label=label)  # fmt: skip
            label = "_"
