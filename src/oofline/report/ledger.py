"""The ledger as a table, and OOF against public score as a picture."""

from pathlib import Path

import numpy as np
import pandas as pd

from oofline.report.fonts import displayable
from oofline.report.style import BLUE, GREY, ORANGE, RED, figure, titles
from oofline.scoring.public import Agreement

_NAMED = 12
"""So many of the newest submissions carry their names in the picture."""


def ledger_text(frame: pd.DataFrame) -> pd.DataFrame:
    """The ledger as a terminal shows it, the newest submission last.

    Args:
        frame: the ledger, every cell as text.
    """
    return pd.DataFrame(
        {
            "time (UTC)": frame["time"].str.slice(0, 16).str.replace("T", " "),
            "experiment": frame["name"],
            "OOF": frame["oof_score"].map(_digits),
            "95 %": [
                f"{_digits(lo, 4)}, {_digits(hi, 4)}" if lo and hi else ""
                for lo, hi in zip(frame["oof_lo"], frame["oof_hi"], strict=True)
            ],
            "public": frame["public_score"].map(_digits),
            "status": frame["status"],
            "by": np.where(frame["manifest"] != "", "kernel", "file"),
            "commit": frame["commit"].str.slice(0, 7),
            "message": frame["message"].str.slice(0, 40),
        }
    )


def _digits(text: str, digits: int = 5) -> str:
    try:
        return f"{float(text):.{digits}f}"
    except ValueError:
        return text


def oof_vs_public(found: Agreement, path: Path, metric: str, greater_is_better: bool) -> Path:
    """A point per submission with its OOF interval and the noise of the public score.

    Args:
        found: from `oofline.scoring.public.agreement`; at least one row.
        path: PNG to write.
        metric: name of the score.
        greater_is_better: its direction.
    """
    rows, better = found.rows, "higher" if greater_is_better else "lower"
    with figure(path, 7.6, 6.2) as fig:
        ax = fig.subplots()
        for row in rows.to_dict("records"):
            color = RED if row["beyond"] else BLUE
            x, y, reach = row["oof_score"], row["public_score"], 1.96 * row["public_error"]
            ax.plot([row["oof_lo"], row["oof_hi"]], [y, y], color=color, linewidth=2.2, alpha=0.55)
            ax.plot([x, x], [y - reach, y + reach], color=color, linewidth=1.0, alpha=0.4)
            ax.plot([x], [y], "o", color=color, markersize=7)
        for at, text in names_at_points(rows.tail(_NAMED)).items():
            ax.annotate(text, at, xytext=(5, 5), textcoords="offset points", fontsize=8)
        ends = np.array([*ax.get_xlim(), *ax.get_ylim()])
        both = np.array([ends.min(), ends.max()])
        ax.plot(both, both, color=GREY, linewidth=1.0, linestyle=":", label="public = OOF")
        fitted = _line(rows)
        if fitted is not None:
            span = np.array([rows["oof_score"].min(), rows["oof_score"].max()])
            label = "line of least squares"
            ax.plot(span, np.polyval(fitted, span), color=ORANGE, linestyle="--", label=label)
        ax.set_xlim(ends[0], ends[1])
        ax.set_ylim(ends[2], ends[3])
        for color, label in ((BLUE, "within noise"), (RED, "beyond noise")):
            if (rows["beyond"] == (color == RED)).any():
                ax.plot([], [], marker="o", color=color, linewidth=2.2, label=label)
        titles(
            ax,
            f"Out-of-fold and public score ({better} is better)",
            f"OOF {metric} (line: 95 % interval)",
            f"public {metric} (line: 95 % noise of {found.n_public:,} rows)",
        )
        fig.legend(loc="outside lower center", ncols=4)
    return path


def names_at_points(rows: pd.DataFrame) -> dict[tuple[float, float], str]:
    """(OOF, public score) -> what stands beside that point: each experiment there, once.

    Args:
        rows: columns name, oof_score and public_score.
    """
    found: dict[tuple[float, float], list[str]] = {}
    for row in rows.to_dict("records"):
        found.setdefault((row["oof_score"], row["public_score"]), []).append(row["name"])
    return {
        at: ", ".join(displayable(name)[:28] for name in dict.fromkeys(names))
        for at, names in found.items()
    }


def _line(rows: pd.DataFrame) -> np.ndarray | None:
    """Slope and intercept (2,) of public on OOF score; None for fewer than three different ones."""
    if rows["oof_score"].nunique() < 3:
        return None
    x, y = (rows[name].to_numpy(dtype=np.float64) for name in ("oof_score", "public_score"))
    return np.polyfit(x, y, 1)
