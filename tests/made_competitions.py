"""Two more kinds of competition from the essays of ``input/ell``: several labels, and a scale.

Usage: ``python tests/made_competitions.py`` from the project's root. It writes ``input/ell-labels``
(which of the six scores are good: 3.5 or more) and ``input/ell-scale`` (the vocabulary score, 1 to
5 in halves, as the whole numbers 1 to 9 that quadratic weighted kappa is made for).
"""

import sys
from pathlib import Path

import pandas as pd

GOOD = 3.5


def labels_of(scores: pd.DataFrame) -> pd.DataFrame:
    """1 where a score is good, column by column."""
    return scores.ge(GOOD).astype(int)


def scale_of(scores: pd.DataFrame) -> pd.DataFrame:
    """The vocabulary score as a step of its scale, 1 to 9."""
    return (scores[["vocabulary"]] * 2 - 1).astype(int)


def make(root: Path) -> list[Path]:
    """Write both competitions below ``root``/input; returns their folders."""
    source, made = root / "input" / "ell", []
    train, test = (pd.read_csv(source / f"{name}.csv") for name in ("train", "test"))
    kept, scores = train[["text_id", "full_text"]], train.drop(columns=["text_id", "full_text"])
    for name, target, placeholder, settings in (
        ("ell-labels", labels_of(scores), 0.5, ""),
        ("ell-scale", scale_of(scores), 5, 'metric = "qwk"\n'),
    ):
        folder = root / "input" / name
        folder.mkdir(parents=True, exist_ok=True)
        sample = test[["text_id"]].assign(**dict.fromkeys(target.columns, placeholder))
        tables = {"train": kept.join(target), "test": test, "sample_submission": sample}
        for stem, table in tables.items():
            table.to_csv(folder / f"{stem}.csv", index=False)
        (folder / "cfg.toml").write_text(settings, encoding="utf-8")
        made.append(folder)
    return made


if __name__ == "__main__":
    for folder in make(Path.cwd()):
        sys.stdout.write(f"wrote {folder}\n")
