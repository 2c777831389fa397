"""One look for every picture, and one way to write them."""

import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import matplotlib
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from oofline.report.fonts import displayable, families
from oofline.storage import replacing

COLORS = ("#0072B2", "#E69F00", "#009E73", "#CC79A7", "#D55E00", "#56B4E9", "#8C6D1F", "#000000")
"""Okabe and Ito 2008: told apart by colour-blind readers too (yellow made darker)."""
BLUE, ORANGE, GREEN, RED = COLORS[0], COLORS[1], COLORS[2], COLORS[4]
GREY, DARK = "#8A8A8A", "#333333"
DPI = 150

_STYLE: Any = {
    "text.parse_math": False,
    "text.usetex": False,
    "font.size": 9.5,
    "axes.titlesize": 10.5,
    "axes.titleweight": "bold",
    "axes.titlelocation": "left",
    "axes.titlepad": 8.0,
    "axes.labelsize": 9.5,
    "axes.labelcolor": DARK,
    "axes.edgecolor": GREY,
    "axes.linewidth": 0.8,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.axisbelow": True,
    "axes.formatter.use_mathtext": False,
    "grid.color": "#E4E4E4",
    "grid.linewidth": 0.7,
    "xtick.color": GREY,
    "ytick.color": GREY,
    "xtick.labelcolor": DARK,
    "ytick.labelcolor": DARK,
    "xtick.labelsize": 9,
    "ytick.labelsize": 9,
    "lines.linewidth": 1.6,
    "lines.solid_capstyle": "round",
    "legend.frameon": False,
    "legend.fontsize": 9,
    "figure.constrained_layout.w_pad": 0.12,
    "figure.constrained_layout.h_pad": 0.1,
    "figure.constrained_layout.wspace": 0.03,
    "text.hinting": "none",
    "figure.titlesize": 12,
    "figure.titleweight": "bold",
    "figure.facecolor": "white",
    "savefig.facecolor": "white",
}


@contextlib.contextmanager
def figure(path: Path, width: float, height: float, arrange: bool = True) -> Iterator[Figure]:
    """A figure in the common style, written to ``path`` as a PNG when the block succeeds.

    Args:
        path: where to.
        width: inches.
        height: inches.
        arrange: matplotlib makes room for labels; off where the block places everything itself.
    """
    with matplotlib.rc_context():
        matplotlib.rcdefaults()
        matplotlib.rcParams.update(_STYLE | {"font.family": list(families())})
        result = Figure(figsize=(width, height), layout="constrained" if arrange else None)
        FigureCanvasAgg(result)
        yield result
        with replacing(path) as temporary:
            result.savefig(temporary, format="png", dpi=DPI)


def titles(ax: Axes, title: str, x: str, y: str) -> None:
    """Title and axis labels of one panel; a box stands for what no installed font can show."""
    title, x, y = ("\n".join(map(displayable, text.split("\n"))) for text in (title, x, y))
    ax.set_title(title)
    ax.set_xlabel(x)
    ax.set_ylabel(y)


def run_color(index: int) -> str:
    """Colour of the index-th of several runs; they repeat after eight."""
    return COLORS[index % len(COLORS)]
