import dataclasses

import numpy as np
import pytest

from oofline.report.lr_finder import range_picture
from oofline.training.lr_finder import HIGHEST, LOWEST, RangeTest, suggest


@pytest.fixture
def curve():
    rates = np.geomspace(LOWEST, HIGHEST, 100)
    smoothed = 0.7 - 0.3 / (1 + (2e-4 / rates) ** 2) + (rates / 6e-3) ** 4
    loss = smoothed + np.random.default_rng(0).normal(0, 0.03, 100)
    return RangeTest(rates, loss, smoothed, True, 100)


def test_loss_against_rate_on_a_log_axis_with_the_suggestions(tmp_path, drawn, curve):
    suggestion = suggest(curve)
    path = range_picture(tmp_path / "a.png", curve, suggestion, "base")
    assert path.stat().st_size > 10_000
    (ax,) = drawn["a"].axes
    assert ax.get_xscale() == "log"
    assert ax.get_title("left") == "Range test of base, diverged at the end"
    np.testing.assert_array_equal(ax.lines[0].get_ydata(), curve.loss)
    np.testing.assert_array_equal(ax.lines[1].get_ydata(), curve.smoothed)
    dashed = [line.get_xdata()[0] for line in ax.lines if line.get_linestyle() == "--"]
    assert dashed == [suggestion.steepest, suggestion.tenth]
    drawn["a"].canvas.draw()
    assert "1e-05" in [label.get_text() for label in ax.get_xticklabels()]
    low, high = ax.get_ylim()
    assert low < curve.smoothed.min() < 0.7 < high < curve.smoothed.max()  # the end is cut off


def test_no_suggestion_and_a_flat_loss_are_drawn_too(tmp_path, drawn, curve):
    flat = dataclasses.replace(curve, smoothed=np.full(100, 0.5), diverged=False)
    range_picture(tmp_path / "b.png", flat, None, "base")
    assert len(drawn["b"].axes[0].lines) == 2
    low, high = drawn["b"].axes[0].get_ylim()
    assert low < 0.5 < high
