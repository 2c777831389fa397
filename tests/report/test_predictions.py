import itertools
import warnings

import numpy as np
import pytest

from oofline.report import predictions
from oofline.report.calibration import calibration, calibration_table
from oofline.report.predictions import (
    confusion,
    predicted_vs_true,
    quantile_bins,
    row_losses,
    score_by_length,
)
from oofline.scoring.metrics import score
from oofline.scoring.summary import decided_score


def test_confusion_counts_and_shares(tmp_path, drawn):
    y = np.array([0, 0, 0, 0, 1, 1])
    labels = np.array([0, 0, 0, 1, 1, 0])
    confusion(tmp_path / "m.png", y, labels, ["no", "yes", "never seen"])
    ax = drawn["m"].axes[0]
    cells = [text.get_text() for text in ax.texts]
    assert cells[:5] == ["3\n75%", "1\n25%", "0\n0%", "1\n50%", "1\n50%"]
    assert cells[6:] == ["0\n0%"] * 3
    assert "66.7% of 6 rows right" in ax.get_title("left")
    np.testing.assert_allclose(ax.images[0].get_array()[0], [0.75, 0.25, 0])


def test_class_names_are_shown_as_they_are(tmp_path, drawn):
    names = ["$x_1$", "日本語", "a" * 50]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        confusion(tmp_path / "m.png", np.arange(3), np.arange(3), names)
    ticks = drawn["m"].axes[0].get_yticklabels()
    assert ticks[0].get_text() == "$x_1$"
    assert not any(tick.get_parse_math() for tick in ticks)
    assert ticks[2].get_text() == "a" * 17 + "…"


def test_many_classes_have_no_numbers(tmp_path, drawn):
    y = np.arange(20)
    confusion(tmp_path / "m.png", y, y, [f"class {k}" for k in y])
    assert len(drawn["m"].axes[0].texts) == 0


def test_predicted_vs_true_draws_every_row_and_binned_means(tmp_path, drawn):
    rng = np.random.default_rng(0)
    pred = rng.normal(size=500)
    y = 2 * pred
    predicted_vs_true(tmp_path / "p.png", y, pred, "target")
    ax = drawn["p"].axes[0]
    np.testing.assert_allclose(ax.collections[0].get_offsets(), np.stack([pred, y], axis=1))
    means = ax.containers[0].lines[0]
    assert len(means.get_xdata()) == 10
    np.testing.assert_allclose(means.get_ydata(), 2 * means.get_xdata())


def test_many_rows_become_a_density(tmp_path, drawn, monkeypatch):
    monkeypatch.setattr(predictions, "MAX_POINTS", 50)
    y = np.random.default_rng(0).normal(size=60)
    predicted_vs_true(tmp_path / "p.png", y, y, "target")
    ax, bar = drawn["p"].axes
    assert ax.collections[0].get_array().sum() == 60
    assert "$" not in "".join(tick.get_text() for tick in bar.get_yticklabels())


def test_constant_predictions_can_be_drawn(tmp_path):
    path = predicted_vs_true(tmp_path / "p.png", np.ones(5), np.ones(5), "target")
    assert path.stat().st_size > 1000


@pytest.mark.parametrize(
    "values",
    [
        np.arange(100),
        np.full(50, 7),
        np.r_[np.full(90, 3), np.arange(10)],
        np.array([1]),
        np.random.default_rng(0).integers(0, 9, 333),
    ],
)
def test_bins_cover_every_row_once_in_order(values):
    bins = quantile_bins(values, 8)
    assert bins.shape == values.shape
    assert set(bins) == set(range(bins.max() + 1))
    assert bins.max() < 8
    ends = [(values[bins == k].min(), values[bins == k].max()) for k in range(bins.max() + 1)]
    assert all(before[1] < after[0] for before, after in itertools.pairwise(ends))


def test_quantile_bins_are_even():
    assert list(np.bincount(quantile_bins(np.arange(80), 8))) == [10] * 8


def test_score_by_length_scores_each_bin(tmp_path, drawn, task):
    rng = np.random.default_rng(1)
    lengths, y = rng.integers(1, 400, 240), rng.normal(size=(240, 1))
    pred = y + rng.normal(size=y.shape) * lengths[:, None] / 100
    regression = task("regression", "rmse")
    score_by_length(tmp_path / "l.png", regression, lengths, y, pred, None, 30)
    ax, bins = drawn["l"].axes[0], quantile_bins(lengths, 8)
    points = [line for line in ax.lines if line.get_marker() == "o"]
    wanted = [score(regression, y[bins == k], pred[bins == k]) for k in range(8)]
    np.testing.assert_allclose([line.get_ydata()[0] for line in points], wanted)
    bars = [line.get_ydata() for line in ax.lines if len(line.get_xdata()) == 2][:8]
    assert all(lo < value < hi for (lo, hi), value in zip(bars, wanted, strict=True))
    labels = [tick.get_text() for tick in ax.get_xticklabels()]
    rows = [int(label.split("\n")[1].split()[0]) for label in labels]
    assert sum(rows) == 240
    assert labels[0].startswith(f"{lengths.min()}–")
    assert "characters" in ax.get_xlabel()


def test_score_by_length_of_labels_and_of_scores_that_are_not_defined(tmp_path, drawn, task):
    y = np.repeat([0, 1], 60)
    inputs = np.where(np.arange(120) % 5 == 0, 1 - y, y)
    binary = task("binary", "f1")
    score_by_length(tmp_path / "f.png", binary, np.arange(120), y, inputs, None, 20)
    dashed = next(line for line in drawn["f"].axes[0].lines if line.get_linestyle() == "--")
    assert dashed.get_ydata()[0] == decided_score(binary, y, inputs)
    auc = task("binary", "roc_auc")  # one class in every bin
    score_by_length(tmp_path / "a.png", auc, np.arange(120), y, inputs[:, None] * 0.5, None, 20)
    assert (tmp_path / "a.png").exists()


def test_row_losses(task):
    pred = np.array([[0.2], [0.9]])
    np.testing.assert_allclose(
        row_losses(task("binary", "f1"), np.array([0, 1]), pred), -np.log([0.8, 0.9])
    )
    three = np.array([[0.2, 0.3, 0.5], [0.0, 1.0, 0.0]])
    losses = row_losses(task("multiclass", "accuracy"), np.array([2, 0]), three)
    assert losses[0] == pytest.approx(-np.log(0.5))
    assert np.isfinite(losses[1])
    assert losses[1] > 30
    values = row_losses(task("regression", "rmse"), np.array([[1.0], [2.0]]), pred)
    np.testing.assert_allclose(values, [0.8, 1.1])


def test_calibration_of_honest_and_of_overconfident_probabilities(task):
    rng = np.random.default_rng(0)
    p = rng.random((4000, 1))
    y = (rng.random(4000) < p[:, 0]).astype(int)
    honest = calibration_table(task("binary", "f1"), y, p)
    assert honest["rows"].sum() == 4000
    assert honest["probability"].between(honest["lo"], honest["hi"]).sum() >= 8
    boastful = calibration_table(task("binary", "f1"), y, (p > 0.5) * 0.98 + 0.01)
    assert boastful["probability"].iloc[-1] > boastful["hi"].iloc[-1]


def test_calibration_of_classes_is_of_the_most_probable_one(tmp_path, drawn, task):
    pred = np.tile([[0.6, 0.3, 0.1]], (10, 1))
    y = np.array([0] * 6 + [1] * 4)
    multiclass = task("multiclass", "accuracy")
    table = calibration_table(multiclass, y, pred)
    assert table[["probability", "share"]].round(6).values.tolist() == [[0.6, 0.6]]
    calibration(tmp_path / "c.png", multiclass, y, pred)
    assert drawn["c"].axes[0].lines[1].get_ydata()[0] == pytest.approx(0.6)
