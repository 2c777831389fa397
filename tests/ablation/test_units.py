"""Units as training left them: read back, and compared with chance."""

import numpy as np
import pytest

from oofline.ablation.contrast import decided
from oofline.ablation.units import at_chance, chance_score, read_runs
from oofline.blocks import blank
from oofline.errors import DataError
from oofline.results import Answer, Task
from oofline.scoring.decisions import cross_fitted_decision


def test_predictions_are_joined_by_id(fabricate):
    paths, _, competition, fold = fabricate({"base": (0.5, {})}, seeds=(4, 2), folds=(0, 2))
    ids, task = competition.train_ids, competition.task
    runs = read_runs(paths, "ablation-base", task, ids, fold, [(4, 0), (4, 1), (4, 2), (2, 0)])
    assert runs.pred.shape == (2, 90, 1)
    np.testing.assert_array_equal(runs.there, [fold != 1, fold == 0])
    error = np.abs(runs.pred - competition.y)[runs.there]
    assert error.max() < 3  # the files' rows are shuffled: a join by position would miss by far
    assert 0.3 < error.std() < 0.6
    moved = np.where(np.arange(90) == np.flatnonzero(fold == 0)[0], 2, fold)
    with pytest.raises(DataError, match=r"folds.csv changed since"):
        read_runs(paths, "ablation-base", task, ids, moved, [(4, 0)])


def test_the_best_constant_is_found_on_the_training_rows(task):
    y, valid = np.array([0, 0, 0, 1, 1]), np.array([0, 1, 1, 1])
    assert chance_score(task("binary", "accuracy"), y, valid) == 0.25
    assert chance_score(task("binary", "f1"), y, valid) == pytest.approx(2 * 3 / 7)  # all positive
    assert chance_score(task("binary", "mcc"), y, valid) == 0.0
    assert chance_score(task("binary", "roc_auc"), y, valid) == 0.5
    wanted = -(np.log(0.6) + 3 * np.log(0.4)) / 4
    assert chance_score(task("binary", "log_loss"), y, valid) == pytest.approx(wanted)
    classes = np.array([2, 2, 1, 0])
    assert chance_score(task("multiclass", "accuracy"), classes, np.array([2, 0, 1])) == 1 / 3
    values, held = np.array([[1.0], [3.0]]), np.array([[0.0], [4.0]])
    assert chance_score(task("regression", "rmse"), values, held) == 2.0
    assert chance_score(task("regression", "spearman"), values, held) == 0.0


def test_chance_of_several_targets_and_of_scales(task):
    y, valid = np.array([[1, 0], [1, 0], [0, 1]]), np.array([[1, 1], [0, 0]])
    assert chance_score(task("multilabel", "roc_auc"), y, valid) == 0.5
    assert chance_score(task("multilabel", "f1_macro"), y, valid) == pytest.approx(2 / 3)
    shares = np.array([[2 / 3, 1 / 3]] * 2)
    wanted = -np.log(np.where(valid == 1, shares, 1 - shares)).mean()
    assert chance_score(task("multilabel", "log_loss"), y, valid) == pytest.approx(wanted)
    values, held = np.array([[1.0, 0.0], [3.0, 2.0]]), np.array([[0.0, 1.0], [4.0, 1.0]])
    assert chance_score(task("multi-target", "mcrmse"), values, held) == 1.0
    steps = np.array([0, 2, 2, 1])
    assert chance_score(task("ordinal", "accuracy"), steps, np.array([2, 0, 2])) == 2 / 3
    assert chance_score(task("ordinal", "qwk"), steps, np.array([2, 0, 2])) == 0.0


def test_a_model_that_learnt_nothing_is_at_chance(task):
    rng, kind = np.random.default_rng(0), task("binary", "f1")
    y = rng.integers(0, 2, 300)
    train, valid = y[:200], y[200:]
    for p in (0.1, 0.9):  # whichever side of 0.5 it fell on
        inputs = cross_fitted_decision(kind, y, np.full((300, 1), p), np.arange(300) % 3).inputs
        assert at_chance(kind, train, valid, inputs[200:])
    assert not at_chance(kind, train, valid, valid)
    assert at_chance(task("regression", "rmse"), train[:, None], valid[:, None],
                     np.full((100, 1), train.mean()))  # fmt: skip
    undefined = np.zeros(50, dtype=np.int64)  # ROC AUC with one class says nothing
    assert not at_chance(task("binary", "roc_auc"), train, undefined, np.full((50, 1), 0.5))


def test_chance_of_answers_is_the_whole_context():
    y = np.array([Answer("red and blue", "red", 0), Answer("one two", "two", 4)], dtype=object)
    task = Task("qa", ("y",), (), ("start", "end"), "answer_f1", "answer", longest=9)
    chance = chance_score(task, y, y)
    assert chance == pytest.approx((2 / 4 + 2 / 3) / 2)
    assert at_chance(task, y, y, np.array(["blue", "one"], dtype=object))
    assert not at_chance(task, y, y, np.array(["red", "two"], dtype=object))
    seed = decided(task, y, blank(2, 2, sparse=True), np.array([True, False]), np.zeros(2, int))
    assert seed.tolist() == ["", 0]
