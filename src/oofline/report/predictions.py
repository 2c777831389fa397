"""What the out-of-fold predictions look like: right and wrong, and for which texts."""

from pathlib import Path

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.collections import PolyCollection
from sklearn.metrics import confusion_matrix

from oofline.blocks import Block
from oofline.report.fonts import displayable, text_width
from oofline.report.style import BLUE, DARK, ORANGE, figure, titles
from oofline.results import Task
from oofline.scoring.metrics import get_metric
from oofline.scoring.summary import decided_score, interval
from oofline.scoring.weights import true_edges

MAX_POINTS = 3000
"""Rows that are drawn as points; more are drawn as a density."""
ROWS_PER_BIN = 30
"""Fewest rows of a length bin, as far as the lengths allow."""


def confusion(path: Path, y: np.ndarray, labels: np.ndarray, class_names: list[str]) -> Path:
    """Confusion matrix: counts, and shares of each true class as colour.

    Args:
        path: PNG to write.
        y: (n,) int64 true classes.
        labels: (n,) int64 predicted classes.
        class_names: C names, in class order.
    """
    counts = confusion_matrix(y, labels, labels=np.arange(len(class_names)))
    shares = counts / np.maximum(1, counts.sum(axis=1, keepdims=True))
    many = len(class_names) > 6
    names = [_cut(displayable(name), 18) for name in class_names]
    side = 0.8 + 0.8 * min(max(len(names), 3), 12)
    room = max(map(text_width, names)) / 8  # inches of the longest name
    with figure(path, side + 1.3 + room, side + 0.9 + (0.7 * room if many else 0.0)) as fig:
        ax = fig.subplots()
        image = ax.imshow(shares, cmap="Blues", vmin=0, vmax=1)
        ax.grid(False)
        ax.spines[:].set_visible(False)
        ax.set_xticks(range(len(names)), names, rotation=45 if many else 0,
                      ha="right" if many else "center")  # fmt: skip
        ax.set_yticks(range(len(names)), names)
        ax.tick_params(length=0)
        if len(names) <= 12:
            _write_cells(ax, counts, shares)
        right = np.trace(counts) / max(1, len(y))
        titles(ax, f"{right:.1%} of {len(y):,} rows right, out of fold", "predicted", "true")
        fig.colorbar(image, ax=ax, shrink=0.8, label="share of the true class").outline.set_visible(
            False
        )
    return path


def _write_cells(ax: Axes, counts: np.ndarray, shares: np.ndarray) -> None:
    for row, column in np.ndindex(*counts.shape):
        share = shares[row, column]
        ax.text(
            column, row, f"{counts[row, column]:,}\n{share:.0%}", ha="center", va="center",
            color="white" if share > 0.55 else DARK, fontsize=9,
        )  # fmt: skip


def predicted_vs_true(path: Path, y: np.ndarray, pred: np.ndarray, name: str) -> Path:
    """Predicted against true values: points or a density, binned means and the identity.

    Args:
        path: PNG to write.
        y: (n,) float64.
        pred: (n,) float64.
        name: of the target.
    """
    with figure(path, 6.2, 6.0) as fig:
        ax = fig.subplots()
        density = draw_values(ax, y, pred)
        if density is not None:
            bar = fig.colorbar(density, ax=ax, shrink=0.8, label="rows", format="%d")
            bar.outline.set_visible(False)
        titles(
            ax, f"{displayable(name)}: {len(y):,} rows predicted out of fold", "predicted", "true"
        )
        ax.legend(loc="upper left")
    return path


def draw_values(ax: Axes, y: np.ndarray, pred: np.ndarray) -> PolyCollection | None:
    """One panel of `predicted_vs_true`, without titles; returns the density where one is drawn.

    Args:
        ax: the panel.
        y: (n,) float64.
        pred: (n,) float64.
    """
    lo, hi = float(min(y.min(), pred.min())), float(max(y.max(), pred.max()))
    pad, density = 0.04 * (hi - lo or 1.0), None
    if len(y) > MAX_POINTS:
        density = ax.hexbin(pred, y, gridsize=45, cmap="Blues", mincnt=1, bins="log")
    else:
        ax.scatter(pred, y, s=9, color=BLUE, alpha=0.3, linewidths=0, label="row")
    ax.plot([lo, hi], [lo, hi], color=DARK, linewidth=1, linestyle="--", label="true = predicted")
    middle, mean, error = _binned_means(pred, y)
    ax.errorbar(middle, mean, yerr=1.96 * error, color=ORANGE, marker="o", markersize=5,
                linewidth=1.4, capsize=0, label="mean of true values, 95 %")  # fmt: skip
    ax.set(xlim=(lo - pad, hi + pad), ylim=(lo - pad, hi + pad), aspect="equal")
    return density


def _binned_means(x: np.ndarray, y: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Mean of x, mean of y and its standard error in up to ten quantile bins of x."""
    groups = pd.DataFrame({"x": x, "y": y}).groupby(quantile_bins(x, 10))
    middle, mean = groups.mean().to_numpy().T
    return middle, mean, groups["y"].sem().fillna(0.0).to_numpy()


def quantile_bins(values: np.ndarray, n_bins: int) -> np.ndarray:
    """Quantile bin (n,) int64 of each value, from 0 without gaps; equal values share a bin."""
    edges = np.unique(np.quantile(values, np.arange(1, n_bins) / n_bins))
    codes = np.searchsorted(edges, values, side="left")
    return np.unique(codes, return_inverse=True)[1].astype(np.int64)


def score_by_length(
    path: Path,
    task: Task,
    lengths: np.ndarray,
    y: np.ndarray,
    inputs: np.ndarray,
    groups: np.ndarray | None = None,
    n_samples: int = 1000,
    unit: str = "characters",
) -> Path:
    """The score in bins of text length, each with its 95 % bootstrap interval.

    Args:
        path: PNG to write.
        task: gives the metric.
        lengths: (n,) of each text.
        y: (n,) int64 or (n, T).
        inputs: `Decision.inputs`, out of fold.
        groups: (n,) rows that are drawn together, or None.
        n_samples: resamples of each interval.
        unit: of the lengths.
    """
    bins = quantile_bins(lengths, max(1, min(8, len(y) // ROWS_PER_BIN)))
    parts = {}
    for index in range(bins.max() + 1):
        rows = np.flatnonzero(bins == index)
        first, last = int(lengths[rows].min()), int(lengths[rows].max())
        parts[f"{first}–{last}" if last > first else f"{first}"] = rows
    about = ("length of the text", f"length of the text in {unit}")
    return score_by_part(path, task, parts, y, inputs, about, groups, n_samples)


def score_by_part(
    path: Path,
    task: Task,
    parts: dict[str, np.ndarray],
    y: np.ndarray,
    inputs: np.ndarray,
    about: tuple[str, str],
    groups: np.ndarray | None = None,
    n_samples: int = 1000,
) -> Path:
    """The score in parts of the rows, each with its 95 % bootstrap interval.

    Args:
        path: PNG to write.
        task: gives the metric.
        parts: name -> its row numbers, at least one; from left to right.
        y: (n,) or (n, T).
        inputs: `Decision.inputs`, out of fold.
        about: what the parts differ in, for the title, and for the axis.
        groups: (n,) rows that are drawn together, or None.
        n_samples: resamples of each interval.
    """
    with figure(path, 8.0, 4.0) as fig:
        ax = fig.subplots()
        for index, rows in enumerate(parts.values()):
            value = decided_score(task, y[rows], inputs[rows])
            lo, hi = interval(
                task, y[rows], inputs[rows], None if groups is None else groups[rows], n_samples
            )
            ax.plot([index, index], [lo, hi], color=BLUE, linewidth=2.2, alpha=0.55)
            ax.plot([index], [value], "o", color=BLUE, markersize=7)
        ax.axhline(decided_score(task, y, inputs), color=DARK, linewidth=1, linestyle="--",
                   label="all rows")  # fmt: skip
        names = [f"{displayable(name)}\n{len(rows):,} rows" for name, rows in parts.items()]
        ax.set_xticks(range(len(names)), names)
        ax.grid(False, axis="x")
        ax.set_xlim(-0.6, len(names) - 0.4)
        better = "higher" if get_metric(task.metric, task.kind).greater_is_better else "lower"
        titles(ax, f"OOF {task.metric} by {about[0]} ({better} is better)",
               about[1], f"{task.metric}, 95 % interval")  # fmt: skip
        ax.legend(loc="best")
    return path


def _cut(text: str, length: int) -> str:
    return text if len(text) <= length else text[: length - 1] + "…"


def row_losses(task: Task, y: np.ndarray, pred: Block) -> np.ndarray:
    """How wrong each prediction is (n,).

    Answers: -log of P(true start) * P(true end). Classes: -log probability of the true class;
    several labels: its mean over labels. Values and positions on a scale: |error|; several
    targets: its mean over targets, each in units of the target's standard deviation.
    """
    if task.truth == "answer":
        edges = true_edges(y, [pred])[0].reshape(2, -1)
        return -np.log(np.clip(edges, 1e-15, 1.0)).sum(axis=0)
    if task.truth == "values" or task.kind == "ordinal":
        truth = y.reshape(len(y), -1)
        spread = truth.std(axis=0) if task.several else np.ones(1)
        return (np.abs(pred - truth) / np.where(spread > 0, spread, 1.0)).mean(axis=1)
    true = _true_probability(task, y, pred)
    return -np.log(np.clip(true, 1e-15, 1.0)).reshape(len(y), -1).mean(axis=1)


def _true_probability(task: Task, y: np.ndarray, pred: np.ndarray) -> np.ndarray:
    """(n,), or (n, T) for several labels."""
    if task.truth == "labels":
        return np.where(y == 1, pred, 1.0 - pred)
    if task.kind == "binary":
        return np.where(y == 1, pred[:, 0], 1.0 - pred[:, 0])
    return pred[np.arange(len(y)), y]
