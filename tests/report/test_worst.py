import warnings

import matplotlib
import numpy as np

from oofline.report.style import DPI
from oofline.report.worst import LINES, worst_rows, worst_table

HARD = [
    "costs $5 or $6_x^{2}", "\\frac{1}{2", "日本語のレビュー、とても良い。" * 20,
    "emoji \U0001f600 \U0001f9ff", "", "line\nbreak\ttab", "x" * 3000, "عربي 한국어",
]  # fmt: skip


def table_of(task, kind, y, pred, n=20):
    ids = np.array([f"{i:03d}" for i in range(len(y))])
    texts = [HARD[i % len(HARD)] for i in range(len(y))]
    return worst_table(task, ids, np.arange(len(y)) % 3, texts, y, pred, n)


def test_worst_of_a_binary_task(task):
    y, p = np.array([0, 1, 1, 0, 1]), np.array([[0.9], [0.2], [0.99], [0.1], [0.0]])
    table = table_of(task("binary", "f1"), "binary", y, p, n=3)
    assert list(table["id"]) == ["004", "000", "001"]
    assert list(table["fold"]) == [1, 0, 1]
    assert list(table["true"]) == ["yes", "no", "yes"]
    assert list(table["predicted"]) == ["no", "yes", "no"]
    np.testing.assert_allclose(table["p(true)"], [0.0, 0.1, 0.2])
    assert list(table["text"]) == [HARD[4], HARD[0], HARD[1]]


def test_worst_of_classes_and_of_values(task):
    p = np.array([[0.5, 0.3, 0.2], [0.1, 0.1, 0.8], [0.3, 0.6, 0.1]])
    classes = table_of(task("multiclass", "accuracy"), "multiclass", np.array([0, 0, 2]), p, n=2)
    assert list(classes["id"]) == ["001", "002"]
    assert list(classes["predicted"]) == ["c", "b"]
    y = np.array([[1.0], [2.0], [3.0]])
    values = table_of(task("regression", "rmse"), "regression", y, np.array([[1.1], [0.0], [3.5]]))
    assert list(values["id"]) == ["001", "002", "000"]
    np.testing.assert_allclose(values["error"], [-2.0, 0.5, 0.1])


def test_rows_equally_wrong_keep_their_order(task):
    y, pred = np.zeros((30, 1)), np.ones((30, 1))
    table = table_of(task("regression", "rmse"), "regression", y, pred)
    assert list(table["id"]) == [f"{i:03d}" for i in range(20)]


def test_picture_shows_every_row_without_mathtext_or_warnings(tmp_path, drawn, task):
    rng = np.random.default_rng(0)
    y = rng.integers(0, 2, 40)
    table = table_of(task("binary", "f1"), "binary", y, rng.random((40, 1)), n=40)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        worst_rows(tmp_path / "w.png", table, "comp_$1$ base")
    texts = drawn["w"].texts
    shown = [text.get_text() for text in texts]
    assert not any(text.get_parse_math() for text in texts)
    assert "comp_$1$ base" in shown
    assert set(table["id"]) <= set(shown)
    assert "costs $5 or $6_x^{2}" in shown
    assert "line break tab" in shown
    assert shown.count("x" * 40) == 0
    assert sum(line.endswith("…") for line in shown) == 10
    per_text = sum(line.startswith("xxxx") for line in shown) / sum(table["text"] == "x" * 3000)
    assert per_text == LINES


def test_nothing_overlaps_or_leaves_the_picture(tmp_path, drawn, task):
    rng = np.random.default_rng(0)
    y = rng.normal(size=(40, 1)) * 1e4
    table = table_of(task("regression", "rmse"), "regression", y, rng.normal(size=(40, 1)))
    table["id"] = table["id"] + "-a-very-long-identifier-indeed"
    worst_rows(tmp_path / "w.png", table, "title")
    figure = drawn["w"]
    figure.set_dpi(DPI)
    with matplotlib.rc_context({"text.hinting": "none"}):  # as it was drawn
        renderer = figure.canvas.get_renderer()
        boxes = [text.get_window_extent(renderer) for text in figure.texts]
    assert all(box.x0 >= 0 and box.y0 >= 0 for box in boxes)
    assert max(box.x1 for box in boxes) <= figure.bbox.x1
    assert not any(
        a.overlaps(b) for i, a in enumerate(boxes) for b in boxes[i + 1 :] if min(a.width, b.width)
    )
