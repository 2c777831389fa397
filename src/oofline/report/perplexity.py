"""How pretraining went: perplexity on held-out texts and the training loss."""

from pathlib import Path

import pandas as pd
from matplotlib.ticker import MaxNLocator, NullFormatter, ScalarFormatter

from oofline.report.style import BLUE, ORANGE, figure, titles


def perplexity_curve(path: Path, history: pd.DataFrame, name: str, note: str) -> Path:
    """Held-out perplexity and training loss over the epochs.

    Args:
        path: PNG to write.
        history: columns epoch, train_loss, score (the perplexity); the first row is the start.
        name: of the model, for the title.
        note: what is guessed, as in "hidden tokens".
    """
    trained = history[history["step"] > 0]
    with figure(path, 8.6, 4.0) as fig:
        left, right = fig.subplots(1, 2)
        left.plot(history["epoch"], history["score"], color=BLUE, marker="o", markersize=4)
        left.set_yscale("log")
        left.yaxis.set_major_formatter(ScalarFormatter())
        left.yaxis.set_minor_formatter(NullFormatter())
        for epoch, value in zip(history["epoch"], history["score"], strict=True):
            left.annotate(
                f"{value:,.4g}" if value < 1e4 else f"{value:,.0f}", (epoch, value), (0, 7),
                textcoords="offset points", ha="center", fontsize=8,
            )  # fmt: skip
        left.margins(x=0.1, y=0.12)
        titles(left, f"{name}: held-out perplexity", "epoch", f"perplexity of {note} (log scale)")
        right.plot(trained["epoch"], trained["train_loss"], color=ORANGE, marker="o", markersize=4,
                   label="training")  # fmt: skip
        right.plot(history["epoch"], history["valid_loss"], color=BLUE, marker="o", markersize=4,
                   label="held out")  # fmt: skip
        titles(right, "Loss", "epoch", "nats per guessed token")
        right.legend()
        for ax in (left, right):
            ax.xaxis.set_major_locator(MaxNLocator(nbins=6, integer=True, min_n_ticks=1))
    return path
