"""The ledger's table and picture, and what compare says of it."""

import dataclasses

import pandas as pd
import pytest
from matplotlib.colors import same_color

from oofline import cli
from oofline.kaggle.ledger import COLUMNS, add_row, read_ledger
from oofline.report.ledger import ledger_text, oof_vs_public
from oofline.report.style import BLUE, RED
from oofline.scoring.public import agreement


@pytest.fixture
def found():
    rows = pd.DataFrame(
        [("base", 0.80, 0.78, 0.82, 0.81), ("災害", 0.82, 0.80, 0.84, 0.83),
         ("far", 0.78, 0.76, 0.80, 0.60)],
        columns=["name", "oof_score", "oof_lo", "oof_hi", "public_score"],
    )  # fmt: skip
    return agreement(rows, 1000, 500, True)


def test_experiments_at_one_point_share_one_line_of_names(tmp_path, drawn, found):
    twin = pd.concat([found.rows, found.rows.iloc[[0]], found.rows.iloc[[0]].assign(name="awp")])
    oof_vs_public(dataclasses.replace(found, rows=twin), tmp_path / "t.png", "f1", True)
    names = {text.get_text(): text.xy for text in drawn["t"].axes[0].texts}
    assert names == {"base, awp": (0.80, 0.81), "災害": (0.82, 0.83), "far": (0.78, 0.60)}


def test_the_picture_holds_points_intervals_and_both_lines(tmp_path, drawn, found):
    assert oof_vs_public(found, tmp_path / "l.png", "f1", True).exists()
    ax = drawn["l"].axes[0]
    points = [line for line in ax.lines if line.get_marker() == "o" and len(line.get_xdata()) == 1]
    at = [(line.get_xdata()[0], line.get_ydata()[0]) for line in points]
    assert at == [(0.80, 0.81), (0.82, 0.83), (0.78, 0.60)]
    wanted = [BLUE, BLUE, RED]
    assert all(same_color(p.get_color(), w) for p, w in zip(points, wanted, strict=True))
    bars = [tuple(line.get_xdata()) for line in ax.lines if len(line.get_xdata()) == 2]
    assert {(0.78, 0.82), (0.80, 0.84), (0.76, 0.80)} <= set(bars)
    legend = [text.get_text() for text in drawn["l"].legends[0].get_texts()]
    assert legend == ["public = OOF", "line of least squares", "within noise", "beyond noise"]
    assert "higher is better" in ax.get_title("left")
    assert "500 rows" in ax.get_ylabel()


def test_one_submission_has_no_fitted_line(tmp_path, drawn, found):
    alone = agreement(found.rows.iloc[:1].copy(), 1000, 500, False)
    oof_vs_public(alone, tmp_path / "l.png", "rmse", False)
    legend = [text.get_text() for text in drawn["l"].legends[0].get_texts()]
    assert legend == ["public = OOF", "within noise"]
    assert "lower is better" in drawn["l"].axes[0].get_title("left")


def test_the_table():
    row = dict.fromkeys(COLUMNS, "") | {
        "time": "2026-11-21T15:04:05+00:00", "name": "base", "oof_score": "0.8123456",
        "oof_lo": "0.8", "oof_hi": "0.82", "public_score": "0.80907", "status": "complete",
        "manifest": "ab", "commit": "0123456789", "message": "m" * 60,
    }  # fmt: skip
    pending = dict.fromkeys(COLUMNS, "") | {"name": "awp", "status": "pending"}
    shown = ledger_text(pd.DataFrame([row, pending]))
    assert shown.iloc[0].tolist() == [
        "2026-11-21 15:04", "base", "0.81235", "0.8000, 0.8200", "0.80907", "complete", "kernel",
        "0123456", "m" * 40,
    ]  # fmt: skip
    assert shown.iloc[1].tolist() == ["", "awp", "", "", "", "pending", "file", "", ""]


def test_compare_shows_the_ledger_and_says_whether_scores_agree(experiment, capsys, tmp_path):
    _, paths, competition, _, scores = experiment("binary")
    cli.run(["compare", "--comp", "toy"], tmp_path)
    assert "submissions" not in capsys.readouterr().out
    figures = {"oof_metric": scores["metric"], "oof_score": scores["score"],
               "oof_lo": scores["ci95"][0], "oof_hi": scores["ci95"][1]}  # fmt: skip
    for name, public in (("base", scores["score"]), ("base", 0.01), ("gone", scores["score"])):
        add_row(paths, name=name, status="complete", public_score=public, **figures)
    add_row(paths, name="base", status="pending", **figures)
    code = cli.run(["compare", "--comp", "toy", "--public-rows", "90"], tmp_path)
    out = capsys.readouterr().out
    assert code == 0
    assert "toy: 4 submissions" in out
    assert "is worse than its OOF" in out
    assert "2 of 3 public scores differ from OOF within noise" in out
    assert "assumed: 90 public rows (as stated), drawn like the 90 training rows" in out
    assert "warning: one submission is left until 00:00 UTC (limit 5 a day)" in out
    assert (paths.output / "ledger.png").stat().st_size > 10_000
    assert len(read_ledger(paths)) == 4
    cli.run(["compare", "--comp", "toy"], tmp_path)
    assert f"{round(0.3 * len(competition.test_ids))} public rows (taken as 30%" in (
        capsys.readouterr().out
    )
