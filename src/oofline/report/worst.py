"""The rows that were predicted worst, with their texts."""

import math
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from oofline.blocks import Block
from oofline.report.fonts import displayable, text_width, wrap
from oofline.report.predictions import row_losses
from oofline.report.style import DARK, figure
from oofline.results import Task
from oofline.scoring.answers import answers_from
from oofline.scoring.metrics import default_cut, hard_labels

SIZE = 9.0
"""Points of the texts; the measures below are multiples of it."""
EM = SIZE / 72
"""The same in inches."""
LINES = 3
"""Lines of a text that are shown."""
TEXT_WIDTH, MAX_CELL, GAP, MARGIN, LEADING = 62.0, 11.0, 1.8, 1.5, 1.35
RULE = "#D5D5D5"


def worst_table(
    task: Task,
    ids: np.ndarray,
    fold: np.ndarray,
    texts: list[str],
    y: np.ndarray,
    pred: Block,
    n: int = 20,
) -> pd.DataFrame:
    """The n rows with the highest `row_losses`, worst first.

    Args:
        task: gives kind and labels.
        ids: (m,).
        fold: (m,).
        texts: m texts.
        y: (m,) int64 or (m, T), or (m,) answers.
        pred: (m, T) float64, or of characters, out of fold.
        n: rows wanted.

    Returns:
        DataFrame with columns id, fold, true, predicted, then "p(true)" (classes), "error"
        (predicted minus true; several targets: mean size in standard deviations) or "loss"
        (several labels, answers), and text, uncut.
    """
    losses = row_losses(task, y, pred)
    order = np.argsort(-losses, kind="stable")[:n]
    table = pd.DataFrame({"id": ids[order].astype(str), "fold": fold[order]})
    if task.truth == "answer":
        table["true"] = [answer.text for answer in y[order]]
        contexts = [answer.context for answer in y[order]]
        table["predicted"] = answers_from(contexts, pred[order], task.longest)
        table["loss"] = losses[order]
    elif task.several:
        table["true"] = [_listed(task, row) for row in y[order]]
        table["predicted"] = [_listed(task, row) for row in pred[order]]
        table["loss" if task.truth == "labels" else "error"] = losses[order]
    elif task.kind == "ordinal":
        names = np.array(task.labels, dtype=object)
        table["true"] = names[y[order]]
        table["predicted"] = names[hard_labels(task.kind, pred[order], default_cut(task))]
        table["error"] = pred[order, 0] - y[order]
    elif task.truth == "values":
        truth = y.reshape(len(y))[order]
        table["true"], table["predicted"] = truth, pred[order, 0]
        table["error"] = pred[order, 0] - truth
    else:
        p = np.column_stack([1 - pred[:, 0], pred[:, 0]]) if task.kind == "binary" else pred
        names = np.array(task.labels, dtype=object)
        table["true"], table["predicted"] = names[y[order]], names[p[order].argmax(axis=1)]
        table["p(true)"] = p[order, y[order]]
    table["text"] = [texts[index] for index in order]
    return table


def _listed(task: Task, row: np.ndarray) -> str:
    """Labels that are there (above 0.5), or the values."""
    if task.truth == "labels":
        there = [name for name, p in zip(task.outputs, row, strict=True) if p > 0.5]
        return ", ".join(there) or "none"
    return ", ".join(f"{value:.3g}" for value in row)


def worst_rows(path: Path, table: pd.DataFrame, title: str) -> Path:
    """The table as a picture, texts wrapped and cut after `LINES` lines.

    Args:
        path: PNG to write.
        table: from `worst_table`.
        title: above it.
    """
    columns = {name: _cells(table[name]) for name in table.columns if name != "text"}
    widths = [
        min(MAX_CELL, max(1.2 * text_width(name), *map(text_width, cells)))
        for name, cells in columns.items()
    ]
    left = MARGIN + np.cumsum([0.0, *(width + GAP for width in widths)])
    texts = [wrap(displayable(text), TEXT_WIDTH, LINES) for text in table["text"]]
    tops = np.cumsum([6.0, *(LEADING * len(lines) + 1.0 for lines in texts)])
    width, height = left[-1] + TEXT_WIDTH + MARGIN, tops[-1] + 0.4
    with figure(path, width * EM, height * EM, arrange=False) as fig:
        _put(fig, MARGIN, 1.2, displayable(title), weight="bold", size=12)
        for (name, cells), x, room in zip(columns.items(), left, widths, strict=False):
            is_number = pd.api.types.is_numeric_dtype(table[name])
            at, side = (x + room, "right") if is_number else (x, "left")
            _put(fig, at, 4.0, name, weight="bold", ha=side)
            for cell, top in zip(cells, tops, strict=False):
                _put(fig, at, top, wrap(cell, MAX_CELL, 1)[0], ha=side)
        _put(fig, left[-1], 4.0, "text", weight="bold")
        for lines, top in zip(texts, tops, strict=False):
            _rule(fig, top - 0.45)
            for index, line in enumerate(lines):
                _put(fig, left[-1], top + index * LEADING, line)
    return path


def _cells(column: pd.Series) -> list[str]:
    """A column as text: real numbers with the same decimals, three digits for the largest."""
    if not pd.api.types.is_float_dtype(column):
        return [displayable(str(value)) for value in column]
    largest = float(column.abs().max())
    decimals = min(6, max(0, 2 - math.floor(math.log10(largest)))) if largest > 0 else 2
    return [f"{value:.{decimals}f}".replace("-", "−") for value in column]


def _put(fig: Figure, x: float, y: float, text: str, **look: Any) -> None:
    """Write text with its baseline 1 em below y; x, y in ems from the top left corner."""
    width, height = fig.get_size_inches() / EM
    look = {"va": "baseline", "size": SIZE, "color": DARK, **look}
    fig.text(x / width, 1 - (y + 1.0) / height, text, **look)


def _rule(fig: Figure, y: float) -> None:
    """A thin horizontal line, y ems from the top."""
    width, height = fig.get_size_inches() / EM
    ends = [MARGIN / width, 1 - MARGIN / width]
    fig.add_artist(Line2D(ends, [1 - y / height] * 2, color=RULE, linewidth=0.7))
