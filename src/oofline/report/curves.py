"""How training went: losses and scores of every fold, and the learning rates."""

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.lines import Line2D
from matplotlib.ticker import MaxNLocator

from oofline.report.style import DARK, GREY, RED, figure, run_color, titles

MAX_NAMED = 6
"""Learning rates that the legend names one by one."""
_SEED_LINES: tuple[Any, ...] = ("-", "--", ":", "-.")


def learning_curves(
    path: Path, histories: list[pd.DataFrame], metric: str, greater_is_better: bool,
    unit: str = "epoch",
) -> Path:  # fmt: skip
    """Losses and score at every evaluation, all folds and seeds in one figure.

    Args:
        path: PNG to write.
        histories: one per run, not empty: columns epoch, train_loss, valid_loss, score, seed, fold.
        metric: name of the score.
        greater_is_better: its direction (decides which evaluation is marked as the best).
        unit: what column epoch counts.
    """
    runs = pd.concat(histories, ignore_index=True)
    seeds = [int(seed) for seed in sorted(runs["seed"].unique())]
    better = "higher" if greater_is_better else "lower"
    panels = {
        "train_loss": ("Training loss", "loss"),
        "valid_loss": ("Validation loss", "loss"),
        "score": (f"Validation {metric}", f"{metric} ({better} is better)"),
    }
    with figure(path, 11.0, 4.3) as fig:
        axes = fig.subplots(1, 3)
        axes[1].sharey(axes[0])
        for ax, (column, (title, label)) in zip(axes, panels.items(), strict=True):
            for history in histories:
                _draw_run(ax, history, column, seeds)
            _draw_mean(ax, runs, column, len(histories))
            titles(ax, title, unit, label)
            ax.xaxis.set_major_locator(MaxNLocator(nbins=6, integer=True, min_n_ticks=1))
        for history in histories:
            _mark_best(axes[2], history, greater_is_better)
        handles = _legend([int(fold) for fold in sorted(runs["fold"].unique())], seeds)
        fig.legend(handles=handles, loc="outside lower center", ncols=min(9, len(handles)))
    return path


def _draw_run(ax: Axes, history: pd.DataFrame, column: str, seeds: list[int]) -> None:
    seed, fold = int(history["seed"].iloc[0]), int(history["fold"].iloc[0])
    ax.plot(
        history["epoch"], history[column], color=run_color(fold), alpha=0.75, linewidth=1.1,
        linestyle=_seed_line(seed, seeds), marker="o", markersize=3,
    )  # fmt: skip


def _seed_line(seed: int, seeds: list[int]) -> Any:
    return _SEED_LINES[seeds.index(seed) % len(_SEED_LINES)]


def _draw_mean(ax: Axes, runs: pd.DataFrame, column: str, n_runs: int) -> None:
    """The mean over runs, at evaluations that all of them reached."""
    by_epoch = runs.groupby(runs["epoch"].round(3))[column].agg(["mean", "count"])
    shared = by_epoch[by_epoch["count"] == n_runs]
    if n_runs > 1 and len(shared) > 1:
        ax.plot(shared.index, shared["mean"], color=DARK, linewidth=2.6, zorder=2.5)


def _mark_best(ax: Axes, history: pd.DataFrame, greater_is_better: bool) -> None:
    """Mark the best score of a run, where one is defined."""
    score = history["score"].to_numpy(dtype=np.float64)
    if np.isfinite(score).any():
        best = int(np.nanargmax(score if greater_is_better else -score))
        color = run_color(int(history["fold"].iloc[0]))
        point = [history["epoch"].iloc[best]], [score[best]]
        ax.plot(*point, "D", color=color, markersize=6, markerfacecolor="white", zorder=3)


def _legend(folds: list[int], seeds: list[int]) -> list[Line2D]:
    """Handles: a colour per fold, a line style per seed, the mean, the best."""
    handles = [Line2D([], [], color=run_color(fold), label=f"fold {fold}") for fold in folds]
    if len(seeds) > 1:
        handles += [
            Line2D([], [], color=GREY, linestyle=_seed_line(seed, seeds), label=f"seed {seed}")
            for seed in seeds
        ]
    if len(folds) * len(seeds) > 1:
        handles.append(Line2D([], [], color=DARK, linewidth=2.6, label="mean"))
    best = Line2D([], [], color=DARK, marker="D", linestyle="", label="best evaluation")
    best.set_markerfacecolor("white")
    return [*handles, best]


def lr_schedule(
    path: Path,
    steps: np.ndarray,
    rates: dict[str, np.ndarray],
    marks: list[int] | None = None,
    note: str = "",
) -> Path:
    """Learning rate of every group over the optimizer steps.

    Groups with the same rates are one line. Many lines go from dark to light, bottom to top of the
    model, and only the ends are named.

    Args:
        path: PNG to write.
        steps: (s,) int64.
        rates: group -> (s,) float64, from the bottom of the model to its head, which is last.
        marks: steps of the evaluations, or None.
        note: which run this is, added to the title.
    """
    lines = _merged(rates)
    body = colormaps["cividis"](np.linspace(0.0, 0.85, max(1, len(lines) - 1)))
    with figure(path, 7.6, 4.0) as fig:
        ax = fig.subplots()
        for index, (label, values) in enumerate(lines):
            is_head = index == len(lines) - 1
            named = len(lines) <= MAX_NAMED or index in (0, len(lines) - 2) or is_head
            ax.plot(
                steps, values, color=RED if is_head else body[index], clip_on=False,
                label=label if named else "_", linewidth=2.0 if is_head else 1.5,
            )  # fmt: skip
        for index, mark in enumerate(marks or []):
            label = "_" if index else "evaluation"
            ax.axvline(mark, color=GREY, linewidth=0.9, linestyle=":", zorder=0, label=label)
        ax.set_ylim(bottom=0)
        ax.set_xlim(0, max(1, int(steps[-1]) + 1))
        ax.ticklabel_format(axis="y", style="sci", scilimits=(-2, 3))
        titles(ax, f"Learning rate{note and f', {note}'}", "optimizer step", "learning rate")
        fig.legend(loc="outside lower center", ncols=4)
    return path


def _merged(rates: dict[str, np.ndarray]) -> list[tuple[str, np.ndarray]]:
    """(label, values) of every distinct line; neighbours with equal rates share one."""
    lines: list[tuple[list[str], np.ndarray]] = []
    for name, values in rates.items():
        if lines and np.array_equal(lines[-1][1], values):
            lines[-1][0].append(name)
        else:
            lines.append(([name], values))
    return [
        ((names[0] if len(names) == 1 else f"{names[0]} … {names[-1]}")
         + ("" if values.any() else " (frozen)"), values)
        for names, values in lines
    ]  # fmt: skip
