"""Pictures of answers: parts of the rows, each drawn from its own ones."""

import numpy as np

from oofline.blocks import from_cells
from oofline.data.pairs import shown
from oofline.report.answers import by_first_word, by_length_of_answer, draw_answers
from oofline.report.predictions import row_losses
from oofline.report.worst import worst_table
from oofline.results import Answer, Task

QA = Task("qa", ("y",), (), ("start", "end"), "answer_f1", "answer", longest=20)


def rows(n):
    texts = ["one", "one two", "a b c", "a b c d", "a b c d e f", "a b c d e f g h i j k"]
    return np.array([Answer(f"so {texts[i % 6]}.", texts[i % 6], 3) for i in range(n)], object)


def test_rows_by_the_words_of_the_answer():
    parts = by_length_of_answer(rows(12))
    assert {name: part.tolist() for name, part in parts.items()} == {
        "1": [0, 6], "2": [1, 7], "3": [2, 8], "4–5": [3, 9], "6–9": [4, 10], "10 or more": [5, 11],
    }  # fmt: skip
    assert list(by_length_of_answer(rows(2))) == ["1", "2"]


def test_rows_by_the_first_word_of_the_question():
    asked = ["What is it"] * 40 + ["who"] * 31 + ["rare one", ""]
    parts = by_first_word([shown((question, "context")) for question in asked])
    assert {name: len(part) for name, part in parts.items()} == {"what": 40, "who": 31, "other": 2}


def test_every_picture_is_drawn(tmp_path):
    y = rows(80)
    texts = [shown(("what now" if i % 2 else "who is", a.context)) for i, a in enumerate(y)]
    inputs = np.array(["one"] * len(y), dtype=object)
    drawn = draw_answers(tmp_path, QA, y, texts, inputs, None, 20)
    names = {"score_by_answer", "score_by_length", "score_by_question"}
    assert {path.stem for path in drawn} == names
    assert all(path.stat().st_size > 5000 for path in drawn)


def test_the_worst_rows_are_those_with_the_least_likely_truth():
    y = np.array([Answer("red and blue", "red", 0), Answer("red and blue", "blue", 8)], object)
    starts, ends = [0, 2 * 8], [2 * 3 - 1, 2 * 12 - 1]  # "red" and "blue"
    chances = [(0.9, 0.8), (0.1, 0.2)], [(0.9, 0.9), (0.1, 0.1)]
    cells = [
        (row, column, p)
        for row in range(2)
        for pair, at in zip(chances[row], zip(starts, ends, strict=True), strict=True)
        for column, p in zip(at, pair, strict=True)
    ]
    table = np.array(cells)
    pred = from_cells(table[:, 0].astype(int), table[:, 1].astype(int), table[:, 2], 2)
    np.testing.assert_allclose(row_losses(QA, y, pred), -np.log([0.72, 0.01]), rtol=1e-5)
    worst = worst_table(QA, np.array(["a", "b"]), np.zeros(2, int), ["t", "u"], y, pred)
    assert worst["id"].tolist() == ["b", "a"]
    assert worst["true"].tolist() == ["blue", "red"]
    assert worst["predicted"].tolist() == ["red", "red"]
