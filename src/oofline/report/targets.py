"""Several targets or labels beside each other."""

import math
from pathlib import Path

import numpy as np
import pandas as pd
from matplotlib.ticker import MaxNLocator

from oofline.report.fonts import displayable
from oofline.report.predictions import draw_values
from oofline.report.style import BLUE, DARK, figure, run_color, titles
from oofline.results import Task
from oofline.scoring.metrics import get_metric, scores_by_target
from oofline.scoring.summary import interval

COLUMNS = 3
"""Panels beside each other."""


def target_scores(
    path: Path,
    task: Task,
    y: np.ndarray,
    inputs: np.ndarray,
    histories: list[pd.DataFrame],
    groups: np.ndarray | None = None,
    n_samples: int = 1000,
) -> Path:
    """The score of every target with its 95 % interval, and how it went in training.

    Args:
        path: PNG to write.
        task: with several targets.
        y: (n, T).
        inputs: `Decision.inputs` (n, T), out of fold.
        histories: of all folds and seeds, see `learning_curves`.
        groups: (n,) rows that are drawn together, or None.
        n_samples: resamples of each interval.
    """
    scores = scores_by_target(task, y, inputs)
    better = "higher" if get_metric(task.metric, task.kind).greater_is_better else "lower"
    with figure(path, 10.0, 1.9 + 0.34 * max(5, len(scores))) as fig:
        left, right = fig.subplots(1, 2)
        heights = np.arange(len(scores))[::-1]
        for t, (height, value) in enumerate(zip(heights, scores.values(), strict=True)):
            lo, hi = interval(task.one(t), y[:, [t]], inputs[:, [t]], groups, n_samples)
            left.plot([lo, hi], [height, height], color=BLUE, linewidth=2.2, alpha=0.55)
            left.plot([value], [height], "o", color=run_color(t), markersize=7)
        left.set_yticks(heights, [displayable(name) for name in scores])
        left.set_ylim(-0.6, len(scores) - 0.4)
        titles(left, "Out-of-fold score by target", f"{task.metric}, 95 % interval", "")
        runs = pd.concat(histories, ignore_index=True)
        for t, name in enumerate(scores):
            if f"score/{name}" in runs:
                mean = runs.groupby(runs["epoch"].round(3))[f"score/{name}"].mean()
                right.plot(mean.index, mean, "o-", color=run_color(t), markersize=3)
        right.xaxis.set_major_locator(MaxNLocator(nbins=6, integer=True, min_n_ticks=1))
        about = f"{task.metric} ({better} is better)"
        titles(right, "In training, mean of folds and seeds", "epoch", about)
    return path


def values_by_target(path: Path, y: np.ndarray, pred: np.ndarray, names: tuple[str, ...]) -> Path:
    """Predicted against true values, one panel per target.

    Args:
        path: PNG to write.
        y: (n, T) float64.
        pred: (n, T) float64, out of fold.
        names: T of them.
    """
    columns = min(COLUMNS, len(names))
    rows = math.ceil(len(names) / columns)
    with figure(path, 3.6 * columns, 3.6 * rows + 0.4) as fig:
        panels = fig.subplots(rows, columns, squeeze=False).ravel()
        for t, name in enumerate(names):
            draw_values(panels[t], y[:, t], pred[:, t])
            titles(panels[t], displayable(name), "predicted", "true")
        for panel in panels[len(names) :]:
            panel.set_axis_off()
        fig.suptitle(f"{len(y):,} rows predicted out of fold", color=DARK)
    return path
