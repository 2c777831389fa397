"""Do the probabilities mean what they say?"""

from pathlib import Path

import numpy as np
import pandas as pd

from oofline.report.predictions import quantile_bins
from oofline.report.style import BLUE, DARK, figure, titles
from oofline.results import Task


def calibration_table(
    task: Task, y: np.ndarray, pred: np.ndarray, n_bins: int = 10
) -> pd.DataFrame:
    """Probability and what came true, in quantile bins of the probability.

    Binary: probability and share of the positive class. Multiclass: probability of the most
    probable class, and how often it is the true one (Guo et al. 2017). Several labels: probability
    and share of positives, over all cells of all labels.

    Args:
        task: a class task.
        y: (n,) int64, or (n, T) labels.
        pred: (n, T) float64 probabilities.
        n_bins: at most.

    Returns:
        DataFrame with columns probability, share, lo, hi (95 % Wilson interval), rows.
    """
    cells = task.kind in ("binary", "multilabel")
    probability = pred.ravel() if cells else pred.max(axis=1)
    hit = y.ravel() == 1 if cells else y == pred.argmax(axis=1)
    frame = pd.DataFrame({"probability": probability, "share": hit.astype(np.float64)})
    groups = frame.groupby(quantile_bins(probability, n_bins))
    table = groups.mean()
    n, z = groups.size().to_numpy(), 1.96
    middle = (table["share"] + z**2 / (2 * n)) / (1 + z**2 / n)
    half = (
        z / (1 + z**2 / n) * np.sqrt(table["share"] * (1 - table["share"]) / n + (z / (2 * n)) ** 2)
    )
    return table.assign(lo=middle - half, hi=middle + half, rows=n)


def calibration(path: Path, task: Task, y: np.ndarray, pred: np.ndarray) -> Path:
    """Reliability diagram of a class task; arguments as in `calibration_table`.

    Args:
        path: PNG to write.
        task: a class task.
        y: (n,) int64.
        pred: (n, T) float64 probabilities, out of fold.
    """
    table = calibration_table(task, y, pred)
    if task.kind == "binary":
        said, came = f"probability of {task.labels[1]}", f"share of {task.labels[1]}"
    elif task.kind == "multilabel":
        said, came = "probability of a label", "share of rows that have it"
    else:
        said, came = "probability of the most probable class", "how often it is right"
    with figure(path, 5.6, 5.2) as fig:
        ax = fig.subplots()
        ax.plot([0, 1], [0, 1], color=DARK, linewidth=1, linestyle="--", label="calibrated")
        ax.vlines(table["probability"], table["lo"], table["hi"], color=BLUE, alpha=0.55, lw=2.2)
        ax.plot(
            table["probability"],
            table["share"],
            "o-",
            color=BLUE,
            label="equal bins of rows",
            clip_on=False,
        )
        ax.set(xlim=(0, 1), ylim=(0, 1), aspect="equal")
        titles(ax, "Calibration, out of fold", said, f"{came}, 95 % interval")
        ax.legend(loc="upper left")
    return path
