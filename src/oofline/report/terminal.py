"""Tables in the terminal and in logs."""

from typing import Any

import numpy as np
import pandas as pd
from rich import box
from rich.table import Table

from oofline.progress import console

WRAPPING = ("experiment", "arm", "verdict", "case", "tasks", "scores")
"""Columns whose text may go over several lines."""
NARROWEST = 10
"""Width that they keep."""
UNLIMITED = 10_000


def print_frame(frame: pd.DataFrame, title: str) -> None:
    """Print a table; floats with five digits, or fewer where they are large.

    In a terminal too narrow for it the last columns are left out and named; a log gets them all.
    """
    screen, names = console(), [str(name) for name in frame.columns]
    options = screen.options.update(max_width=UNLIMITED)
    while screen.is_terminal and len(names) > 2:
        if screen.measure(text_table(frame[names], title), options=options).minimum <= screen.width:
            break
        names.pop()
    table = text_table(frame[names], title)
    if not screen.is_terminal:
        screen.width = max(screen.width, screen.measure(table, options=options).maximum)
    screen.print(table)
    hidden = [str(name) for name in frame.columns[len(names) :]]
    if hidden:
        screen.print(f"a wider terminal also shows: {', '.join(hidden)}", highlight=False)


def text_table(frame: pd.DataFrame, title: str) -> Table:
    """The table for rich; columns other than `WRAPPING` are never cut."""
    table = Table(title=title, title_justify="left", box=box.SIMPLE, padding=(0, 1, 0, 0))
    for name in frame.columns:
        cells = [_cell(value) for value in frame[name]]
        widest = max(len(line) for text in (str(name), *cells) for line in text.split("\n"))
        wraps, numeric = name in WRAPPING, pd.api.types.is_numeric_dtype(frame[name])
        table.add_column(
            str(name), justify="right" if numeric else "left", overflow="fold", no_wrap=not wraps,
            min_width=min(NARROWEST, widest) if wraps else widest,
        )  # fmt: skip
    for row in frame.itertuples(index=False):
        table.add_row(*[_cell(value) for value in row])
    return table


def _cell(value: Any) -> str:
    if isinstance(value, float):
        if np.isnan(value):
            return ""
        return f"{value:.5f}" if abs(value) < 10 else f"{value:.0f}"
    return "" if value is None else str(value)
