"""Axes of the pictures of a search: where values stand, what they are called, what is shown."""

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.ticker import FuncFormatter, LogLocator, MaxNLocator, NullFormatter

LONGEST = 24
"""Characters of a choice's name; of a longer one the end is shown."""
FAR = 4.0
"""A score this many interquartile ranges below the lower quartile is off the scale."""


def positions(
    column: pd.Series, form: str, ticks: dict[str, int] | None = None
) -> tuple[np.ndarray, dict[str, int]]:
    """(n,) where values stand on an axis, and for choices text -> position; nan = nowhere."""
    if form != "choice":
        at = pd.to_numeric(column, errors="coerce").to_numpy(float)
        return np.where((form != "log") | (at > 0), at, np.nan), {}  # 0 is on no log scale
    texts = column.astype(str)
    ticks = ticks or {name: index for index, name in enumerate(sorted(texts.unique(), key=_order))}
    return np.array([ticks.get(text, np.nan) for text in texts], dtype=float), ticks


def ends(at: np.ndarray, form: str) -> tuple[float, float]:
    """Limits of an axis that shows every trial, those without a score too."""
    known = at[np.isfinite(at)]
    known = np.log(known) if form == "log" else known
    room = 0.04 * float(np.ptp(known)) or 0.1
    low, high = float(known.min()) - room, float(known.max()) + room
    return (float(np.exp(low)), float(np.exp(high))) if form == "log" else (low, high)


def scale(ax: Axes, axis: str, form: str, ticks: dict[str, int], column: pd.Series) -> None:
    """Ticks as the setting is searched: powers with 2 and 5, whole numbers, or names."""
    side = ax.xaxis if axis == "x" else ax.yaxis
    if form == "log":
        (ax.set_xscale if axis == "x" else ax.set_yscale)("log")
        at, _ = positions(column, form)
        wide = np.nanmax(at) / np.nanmin(at) > 200  # there powers of ten are enough
        between = (2.0, 5.0) if axis == "x" else (3.0,)
        side.set_major_locator(LogLocator(subs=(1.0,) if wide else (1.0, *between)))
        side.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
        side.set_minor_formatter(NullFormatter())
    elif ticks:
        side.set_ticks(list(ticks.values()), labels=shortened(list(ticks)))
        if axis == "x" and sum(map(len, shortened(list(ticks)))) > 2 * LONGEST:
            ax.tick_params("x", rotation=20)
        (ax.set_xlim if axis == "x" else ax.set_ylim)(-0.5, len(ticks) - 0.5)
    elif pd.api.types.is_integer_dtype(column.infer_objects()):
        side.set_major_locator(MaxNLocator(nbins=6, integer=True))


def _order(text: str) -> tuple[int, float, str]:
    """Numbers by their size, then names."""
    try:
        return 0, float(text), text
    except ValueError:
        return 1, 0.0, text


def shortened(names: list[str]) -> list[str]:
    """Names that fit beside each other: of folders the last part, where that tells them apart."""
    last = [name.rstrip("/").rsplit("/", 1)[-1] for name in names]
    names = last if len(set(last)) == len(names) else names
    return [name if len(name) <= LONGEST else "…" + name[1 - LONGEST :] for name in names]


def far_below(score: np.ndarray, greater: bool) -> np.ndarray:
    """(n,) bool: scores so much worse than most that they would squeeze these to a line."""
    good = score if greater else -score
    known = good[np.isfinite(good)]
    if len(known) < 5:
        return np.zeros(len(score), dtype=bool)
    lower, upper = np.percentile(known, [25, 75])
    return good < lower - FAR * (upper - lower)
