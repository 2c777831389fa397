from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
from matplotlib.colors import same_color

from oofline.report.comparison import (
    compare_forest,
    comparison_text,
    ensemble_weights,
    oof_vs_private,
)
from oofline.report.style import BLUE, DARK, GREY, RED


def points(ax):
    """(x, y, colour) of the values that are drawn."""
    markers = [
        line for line in ax.lines if line.get_marker() in "oD" and len(line.get_xdata()) == 1
    ]
    return [(float(m.get_xdata()[0]), float(m.get_ydata()[0]), m.get_color()) for m in markers]


def spans(ax):
    lines = [line for line in ax.lines if line.get_marker() == "None"]
    return [tuple(line.get_xdata()) for line in lines if line.get_linestyle() == "-"]


@pytest.fixture
def compared():
    nan = float("nan")
    rows = [
        ("awp", 0.82, 0.80, 0.84, 0.02, 0.01, 0.03, "better"),
        ("base", 0.80, 0.78, 0.82, nan, nan, nan, "base"),
        ("cosine", 0.795, 0.77, 0.82, -0.005, -0.01, 0.01, "no difference shown"),
        ("$frozen_x$", 0.70, 0.68, 0.72, -0.10, -0.12, -0.08, "worse"),
    ]
    columns = ["experiment", "score", "lo", "hi", "diff", "diff_lo", "diff_hi", "verdict"]
    return pd.DataFrame(rows, columns=columns)


def test_forest_shows_scores_and_differences(tmp_path, drawn, compared):
    compare_forest(compared, tmp_path / "f.png", "f1", True)
    left, right = drawn["f"].axes
    assert [tick.get_text() for tick in left.get_yticklabels()] == list(compared["experiment"])
    assert [x for x, *_ in points(left)] == list(compared["score"])
    assert [x for x, *_ in points(right)] == [0.02, 0.0, -0.005, -0.10]
    heights = [y for _, y, _ in points(left)]
    assert heights == sorted(heights, reverse=True)
    wanted = [BLUE, DARK, GREY, RED]
    assert all(same_color(c, w) for (*_, c), w in zip(points(left), wanted, strict=True))
    assert spans(left) == [(0.80, 0.84), (0.78, 0.82), (0.77, 0.82), (0.68, 0.72)]
    assert spans(right) == [(0.01, 0.03), (-0.01, 0.01), (-0.12, -0.08)]
    assert "higher is better" in left.get_xlabel()
    assert right.get_title("left") == "Difference to base, same rows"
    legend = [text.get_text() for text in drawn["f"].legends[0].get_texts()]
    assert legend == ["better", "no difference shown", "worse"]


def test_forest_of_the_base_alone(tmp_path, drawn, compared):
    compare_forest(compared.iloc[[1]], tmp_path / "f.png", "rmse", False)
    assert drawn["f"].legends == []
    assert "lower is better" in drawn["f"].axes[0].get_xlabel()


def test_forest_with_a_score_that_is_not_defined(tmp_path, compared):
    compared.loc[2, ["score", "lo", "hi", "diff", "diff_lo", "diff_hi"]] = np.nan
    assert compare_forest(compared, tmp_path / "f.png", "f1", True).exists()


def test_oof_beside_private(tmp_path, drawn):
    frame = pd.DataFrame(
        [
            ("base@42", 0.61, 0.59, 0.63, 0.60, 0.56, 0.64),
            ("base", 0.60, 0.58, 0.62, 0.59, 0.5, 0.6),
        ],
        columns=["experiment", "oof", "oof_lo", "oof_hi", "private", "private_lo", "private_hi"],
    )
    path = oof_vs_private(frame, tmp_path / "p.png", "rmse")
    ax = drawn["p"].axes[0]
    assert path == tmp_path / "p.png"
    assert [x for x, *_ in points(ax)] == [0.61, 0.60, 0.60, 0.59]
    assert spans(ax) == [(0.59, 0.63), (0.58, 0.62), (0.56, 0.64), (0.5, 0.6)]
    assert [tick.get_text() for tick in ax.get_yticklabels()] == ["base@42", "base"]
    legend = [text.get_text() for text in drawn["p"].legends[0].get_texts()]
    assert legend == ["out of fold", "private"]


def test_ensemble_weights_and_their_spread_over_folds(tmp_path, drawn):
    blend = SimpleNamespace(
        weights=np.array([0.75, 0.25]), method="convex",
        fold_weights={0: np.array([1.0, 0.0]), 1: np.array([0.5, 0.5])},
    )  # fmt: skip
    result = SimpleNamespace(
        name="best",
        folder=Path(),
        members=["base", "x" * 60],
        member_scores=[0.8, 0.79],
        blend=blend,
    )
    ensemble_weights(result, tmp_path / "w.png")
    ax = drawn["w"].axes[0]
    assert [bar.get_width() for bar in ax.patches] == [0.75, 0.25]
    assert [list(line.get_xdata()) for line in ax.lines] == [[1.0, 0.0], [0.5, 0.5]]
    names = [tick.get_text() for tick in ax.get_yticklabels()]
    assert names[0] == "base  0.8000"
    assert names[1] == "x" * 27 + "…  0.7900"
    assert "convex" in ax.get_title("left")


def test_the_terminal_table_joins_intervals_and_leaves_unknown_cells_empty():
    nan = float("nan")
    frame = pd.DataFrame(
        {
            "experiment": ["awp", "base"], "score": [0.81, 0.8], "lo": [0.8, 0.79],
            "hi": [0.82, 0.81], "diff": [0.01, nan], "diff_lo": [0.001, nan],
            "diff_hi": [0.02, nan], "verdict": ["better", "base"], "fold_std": [0.004, None],
            "seeds": ["42,43", "42"], "minutes": [12.34, 5.0], "samples_per_s": [280.4, nan],
        }
    )  # fmt: skip
    shown = comparison_text(frame)
    assert shown.iloc[0].tolist() == [
        "awp", "0.81000", "0.8000, 0.8200", "+0.01000", "+0.0010, +0.0200", "better", "0.0040",
        "42,43", "12.3", "280",
    ]  # fmt: skip
    assert shown.iloc[1][["diff", "its 95 %", "fold sd", "rows/s"]].tolist() == [""] * 4
    frame["score/tone"] = [0.51234, None]
    assert comparison_text(frame)["tone"].tolist() == ["0.5123", ""]
