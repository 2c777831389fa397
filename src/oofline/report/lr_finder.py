"""A learning-rate range test as a picture."""

from pathlib import Path

from matplotlib.ticker import FuncFormatter, NullFormatter

from oofline.report.style import BLUE, GREY, ORANGE, RED, figure, titles
from oofline.training.lr_finder import RangeTest, Suggestion


def range_picture(path: Path, test: RangeTest, suggestion: Suggestion | None, name: str) -> Path:
    """Loss against learning rate on a logarithmic axis, with the suggestions marked.

    Args:
        path: PNG to write.
        test: what was measured.
        suggestion: marked by lines; None when there is none.
        name: experiment, for the title.
    """
    with figure(path, 7.6, 4.2) as fig:
        ax = fig.subplots()
        ax.plot(test.lr, test.loss, color=GREY, linewidth=0.8, alpha=0.7, label="loss of a step")
        ax.plot(test.lr, test.smoothed, color=BLUE, linewidth=2.0, label="smoothed")
        marks = []
        if suggestion is not None:
            marks = [(suggestion.steepest, RED, "steepest fall"),
                     (suggestion.tenth, ORANGE, "a tenth of the lowest")]  # fmt: skip
        for rate, color, label in marks:
            ax.axvline(rate, color=color, linestyle="--", label=f"{label}: {rate:.1e}")
        ax.set_xscale("log")
        ax.xaxis.set_major_formatter(FuncFormatter(lambda rate, _: f"{rate:.0e}"))
        ax.xaxis.set_minor_formatter(NullFormatter())
        low, high = float(test.smoothed.min()), float(test.smoothed[: test.steps // 2].max())
        room = max(high - low, 1e-3 * abs(high))
        ax.set_ylim(low - 0.5 * room, high + 1.0 * room)
        end = ", diverged at the end" if test.diverged else ""
        titles(ax, f"Range test of {name}{end}", "learning rate", "training loss")
        fig.legend(loc="outside lower center", ncols=4)
    return path
