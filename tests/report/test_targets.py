"""Pictures and rows of several targets, labels and scales."""

import numpy as np
import pytest

from oofline.report.calibration import calibration_table
from oofline.report.predictions import row_losses
from oofline.report.targets import target_scores, values_by_target
from oofline.report.worst import worst_table
from oofline.results import Task
from oofline.scoring.metrics import scores_by_target

VALUES = Task("multi-target", ("tone", "length"), (), ("tone", "length"), "mcrmse", "value")
LABELS = Task("multilabel", ("a", "b"), ("0", "1"), ("a", "b"), "roc_auc", "probability")
SCALE = Task("ordinal", ("stars",), ("1", "2", "3"), ("stars",), "qwk", "label")
RNG = np.random.default_rng(0)
Y = RNG.normal(size=(80, 2)) * (1.0, 100.0)
NEAR = Y + RNG.normal(size=Y.shape) * (0.5, 50.0)


def test_every_target_has_a_panel_and_a_line(drawn, history, tmp_path):
    runs = [history(k).assign(**{"score/tone": 0.4, "score/length": 9.0}) for k in range(2)]
    target_scores(tmp_path / "target_scores.png", VALUES, Y, NEAR, runs, None, 50)
    left, right = drawn["target_scores"].axes
    assert [tick.get_text() for tick in left.get_yticklabels()] == ["tone", "length"]
    points = [line.get_xdata()[0] for line in left.lines if line.get_marker() == "o"]
    assert points == pytest.approx(list(scores_by_target(VALUES, Y, NEAR).values()))
    assert len(right.lines) == 2
    assert (tmp_path / "target_scores.png").stat().st_size > 1000


def test_values_have_a_panel_for_each_target(drawn, tmp_path):
    values_by_target(tmp_path / "values.png", Y, NEAR, VALUES.targets)
    named = [ax.get_title(loc="left") for ax in drawn["values"].axes if ax.axison]
    assert named == ["tone", "length"]


def test_losses_of_values_count_each_target_alike():
    pred = Y.copy()
    pred[3, 0] += 3 * Y[:, 0].std()
    pred[5, 1] += 2 * Y[:, 1].std()  # a hundred times larger, and yet the smaller error
    losses = row_losses(VALUES, Y, pred)
    assert losses.argsort()[::-1][:2].tolist() == [3, 5]
    assert losses[3] == pytest.approx(1.5)
    table = worst_table(VALUES, np.arange(80), np.zeros(80, int), ["t"] * 80, Y, pred, 1)
    assert table["id"].tolist() == ["3"]
    assert table["error"][0] == pytest.approx(1.5)
    assert table["true"][0].count(",") == 1


def test_losses_of_labels_and_what_the_rows_say():
    y, pred = np.array([[1, 0], [1, 1]]), np.array([[0.9, 0.2], [0.1, 0.8]])
    expected = [-np.log([0.9, 0.8]).mean(), -np.log([0.1, 0.8]).mean()]
    np.testing.assert_allclose(row_losses(LABELS, y, pred), expected)
    table = worst_table(LABELS, np.array(["x", "y"]), np.zeros(2, int), ["t", "u"], y, pred)
    assert table["id"].tolist() == ["y", "x"]
    assert table["true"].tolist() == ["a, b", "a"]
    assert table["predicted"].tolist() == ["b", "a"]


def test_rows_of_a_scale_show_labels_and_steps():
    y, pred = np.array([0, 2, 1]), np.array([[1.8], [1.9], [1.2]])
    table = worst_table(SCALE, np.array(["x", "y", "z"]), np.zeros(3, int), ["t"] * 3, y, pred)
    assert table["id"].tolist() == ["x", "z", "y"]
    assert table["true"].tolist() == ["1", "2", "3"]
    assert table["predicted"].tolist() == ["3", "2", "3"]
    assert table["error"].tolist() == pytest.approx([1.8, 0.2, -0.1])


def test_calibration_of_labels_is_over_all_cells():
    y, pred = np.array([[1, 0], [0, 0]]), np.array([[0.9, 0.1], [0.1, 0.1]])
    table = calibration_table(LABELS, y, pred, 2)
    assert table["rows"].sum() == 4
    assert table["share"].tolist() == [0.0, 1.0]
