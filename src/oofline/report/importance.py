"""What a baseline looks at: its most important columns, n-grams in readable form."""

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from oofline.config import CFG
from oofline.errors import DataError
from oofline.report.curves import learning_curves
from oofline.report.fonts import displayable
from oofline.report.style import COLORS, DARK, figure, titles
from oofline.scoring.oof import Oof
from oofline.storage import Paths, write_text

SHOWN = 30
"""Columns in the picture."""
_SORTS = {
    "word": ("words", COLORS[0]), "char": ("characters", COLORS[1]),
    "number": ("statistics and numbers", COLORS[2]), "category": ("categories", COLORS[3]),
    "svd": ("components", COLORS[4]),
}  # fmt: skip


def readable(sort: str, name: str) -> str:
    """An n-gram as it can be read: characters in quotes, their spaces and line breaks visible."""
    if sort != "char":
        return name
    return f"“{name.replace(' ', '␣').replace(chr(10), '↵').replace(chr(9), '→')}”"


def mean_importance(paths: Paths, exp: str, oof: Oof) -> pd.DataFrame:
    """Mean over folds and seeds of importance.csv: ``sort, name, towards, importance, folds``.

    Columns: how much each counts (they sum to 1), the output it speaks for in most folds, and the
    number of trained folds that use it; the most important first.

    Raises:
        DataError: a fold's file is missing.
    """
    frames = []
    for seed in oof.seeds:
        for fold in oof.folds:
            path = paths.fold(exp, seed, fold) / "importance.csv"
            if not path.exists():
                raise DataError(f"{path} does not exist: delete {path.parent} and train it again")
            frames.append(
                pd.read_csv(path, keep_default_na=False, dtype={"name": str, "towards": str})
            )
    every = pd.concat(frames, ignore_index=True)
    grouped = every.groupby(["sort", "name"], sort=False)
    result = grouped.agg(importance=("importance", "sum"), folds=("importance", "size"))
    result["importance"] /= len(frames)
    weight = every.groupby(["sort", "name", "towards"], sort=False)["importance"].sum()
    best = weight.reset_index().sort_values("importance", kind="stable")
    towards = best.drop_duplicates(["sort", "name"], keep="last").set_index(["sort", "name"])
    result["towards"] = towards["towards"]
    result = result.sort_values("importance", ascending=False, kind="stable").reset_index()
    return result[["sort", "name", "towards", "importance", "folds"]]


def importance_picture(path: Path, frame: pd.DataFrame, title: str) -> Path:
    """Bars of the `SHOWN` most important columns, coloured by their sort.

    Args:
        path: PNG to write.
        frame: as `mean_importance` gives it.
        title: of the picture.
    """
    top = frame.head(SHOWN).iloc[::-1]
    labels = [
        displayable(readable(row["sort"], row["name"]))
        + (f"  ({displayable(str(row['towards']))})" if row["towards"] else "")
        for _, row in top.iterrows()
    ]
    with figure(path, 7.6, 1.2 + 0.23 * max(4, len(top))) as fig:
        ax = fig.subplots()
        where = np.arange(len(top))
        ax.barh(where, top["importance"], color=[_SORTS[sort][1] for sort in top["sort"]])
        ax.set_yticks(where, labels, color=DARK)
        ax.set_ylim(-0.7, len(top) - 0.3)
        ax.grid(axis="y", visible=False)
        titles(ax, title, "share of the importance of all columns, mean over folds", "")
        for sort in dict.fromkeys(top["sort"].iloc[::-1]):
            ax.barh([0], [0], color=_SORTS[sort][1], label=_SORTS[sort][0])
        fig.legend(loc="outside lower center", ncols=5)
    return path


def draw_baseline(
    cfg: CFG, paths: Paths, oof: Oof, scores: dict[str, Any], histories: list[pd.DataFrame],
    folder: Path,
) -> list[Path]:  # fmt: skip
    """Importance, and the learning curves where there are rounds; importance.csv beside them."""
    frame = mean_importance(paths, cfg.exp, oof)
    folder.mkdir(parents=True, exist_ok=True)
    write_text(folder / "importance.csv", frame.to_csv(index=False))
    title = f"{cfg.comp} {cfg.exp}: what {cfg.kind} looks at"
    pictures = [importance_picture(folder / "importance.png", frame, title)]
    if cfg.kind == "lightgbm":
        pictures.append(
            learning_curves(
                folder / "learning_curves.png", histories, scores["metric"],
                scores["greater_is_better"], "boosting round",
            )
        )  # fmt: skip
    return pictures
