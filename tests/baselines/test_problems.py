import numpy as np
import pytest
from sklearn.metrics import log_loss

from oofline.baselines.problems import (
    Problem,
    loss_of,
    predictions_of,
    problems_of,
    row_weights,
    sigmoid,
    softmax,
)
from oofline.results import Task


def task(kind, outputs=("t",), labels=(), ordinal="regression"):
    return Task(kind, ("t",), labels, outputs, "accuracy", "label", ordinal)


def test_several_classes_are_one_problem():
    (problem,) = problems_of(task("multiclass", *[("a", "b", "c")] * 2), np.array([0, 2, 1]))
    assert (problem.sort, problem.n_classes, problem.width) == ("classes", 3, 3)
    assert problem.onehot().tolist() == [[1, 0, 0], [0, 0, 1], [0, 1, 0]]
    assert problem.at(np.array([1])).y.tolist() == [2]


def test_two_classes_are_one_column():
    (problem,) = problems_of(task("binary"), np.array([0, 1]))
    assert (problem.sort, problem.width) == ("binary", 1)
    assert problem.onehot().tolist() == [[0], [1]]


def test_each_value_is_a_problem_of_its_own():
    problems = problems_of(task("regression"), np.array([[0.5, 2.0], [1.5, 3.0]]))
    assert [p.sort for p in problems] == ["value", "value"]
    assert problems[1].y.tolist() == [2.0, 3.0]


def test_each_label_is_a_problem_of_its_own():
    problems = problems_of(task("multilabel", ("a", "b")), np.array([[0, 1], [1, 1]]))
    assert [p.sort for p in problems] == ["binary", "binary"]
    assert problems[0].y.tolist() == [0.0, 1.0]


@pytest.mark.parametrize(("form", "sort", "n_logits"), [("regression", "value", 1),
                                                        ("classes", "scale", 4)])  # fmt: skip
def test_a_scale_is_one_prediction_in_either_form(form, sort, n_logits):
    (problem,) = problems_of(task("ordinal", labels=tuple("1234"), ordinal=form), np.arange(4))
    assert (problem.sort, problem.width, problem.n_logits) == (sort, 1, n_logits)
    assert problem.onehot().shape == (4, n_logits)


def test_a_position_on_a_scale_is_the_mean_under_the_softmax():
    raw = np.log(np.array([[0.5, 0.25, 0.25], [1e-9, 1e-9, 1.0]]))
    assert predictions_of("scale", raw)[:, 0] == pytest.approx([0.75, 2.0])
    assert predictions_of("classes", raw)[0] == pytest.approx([0.5, 0.25, 0.25])
    assert predictions_of("binary", np.zeros((1, 1))).tolist() == [[0.5]]
    assert predictions_of("value", raw) is raw
    scale = Problem("scale", np.array([0.0, 2.0]), 3)
    assert loss_of(scale, np.array([[1.0], [2.0]])) == 0.5


def test_balanced_weights_make_classes_count_the_same():
    problem = Problem("binary", np.array([0.0, 0, 0, 1]), 2)
    weights = row_weights(problem, "balanced")
    assert weights[:3].sum() == pytest.approx(weights[3])
    assert weights.mean() == pytest.approx(1.0)
    assert row_weights(problem, "none").tolist() == [1.0] * 4
    assert row_weights(Problem("value", np.arange(4.0), 0), "balanced").tolist() == [1.0] * 4


def test_losses(rng):
    y = rng.integers(0, 3, 20)
    pred = softmax(rng.normal(size=(20, 3)))
    assert loss_of(Problem("classes", y.astype(float), 3), pred) == pytest.approx(log_loss(y, pred))
    p = sigmoid(rng.normal(size=20))
    mine = loss_of(Problem("binary", (y > 1).astype(float), 2), p[:, None])
    assert mine == pytest.approx(log_loss(y > 1, p))
    assert loss_of(Problem("value", np.array([1.0, 2.0]), 0), np.array([[1.0], [4.0]])) == 2.0


def test_links_do_not_overflow():
    assert sigmoid(np.array([-1e4, 0.0, 1e4])).tolist() == [0.0, 0.5, 1.0]
    assert softmax(np.array([[1e4, 0.0]])).tolist() == [[1.0, 0.0]]
