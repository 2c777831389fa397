"""Cuts of scales and of several labels: good ones, not chosen on the rows they are scored on."""

import numpy as np
import pytest
from sklearn.metrics import f1_score

from oofline.scoring.cut_points import label_thresholds, scale_cuts
from oofline.scoring.decisions import cross_fitted_decision, fit_cut, is_thresholded
from oofline.scoring.metrics import METRICS, hard_labels, score


def squeezed(n=600, seed=0):
    """Steps 0..4, and positions that a model has drawn towards the middle."""
    rng = np.random.default_rng(seed)
    y = rng.choice(5, n, p=[0.05, 0.15, 0.4, 0.3, 0.1])
    return y, (2 + 0.4 * (y - 2) + 0.3 * rng.normal(size=n))[:, None]


def test_cut_points_of_a_scale_beat_rounding(make_task):
    y, pred = squeezed()
    task = make_task("ordinal", "qwk")
    cuts, value = scale_cuts(METRICS["qwk"], y, pred[:, 0], 5)
    assert (np.diff(cuts) >= 0).all()
    assert value == pytest.approx(score(task, y, pred, cuts))
    assert value > score(task, y, pred) + 0.05
    quick = scale_cuts(METRICS["qwk"], y, pred[:, 0], 5, quick=True)[1]
    assert score(task, y, pred) < quick <= value


def test_cut_points_are_near_the_best_of_a_grid():
    y, pred = squeezed()
    y = np.minimum(y, 2)  # two cuts can be searched exhaustively
    grid = np.linspace(pred.min(), pred.max(), 60)
    qwk = METRICS["qwk"].function
    best = max(qwk(y, np.searchsorted([a, b], pred[:, 0])) for a in grid for b in grid[grid >= a])
    assert scale_cuts(METRICS["qwk"], y, pred[:, 0], 3)[1] > best - 0.005


def test_each_fold_is_cut_without_its_own_rows(make_task):
    y, pred = squeezed()
    fold = np.arange(len(y)) % 3
    task = make_task("ordinal", "qwk")
    decision = cross_fitted_decision(task, y, pred, fold)
    for held in range(3):
        expected = fit_cut(task, y[fold != held], pred[fold != held])
        np.testing.assert_array_equal(decision.thresholds[held], expected)
        inside = hard_labels("ordinal", pred[fold == held], expected)
        np.testing.assert_array_equal(decision.inputs[fold == held], inside)
    changed = y.copy()
    changed[fold == 1] = 0  # what fold 1 truly is must not move its own cuts
    again = cross_fitted_decision(task, changed, pred, fold)
    np.testing.assert_array_equal(again.thresholds[1], decision.thresholds[1])
    assert (again.thresholds[0] != decision.thresholds[0]).any()


def test_cross_fitting_takes_the_luck_out_of_noise(make_task):
    task, in_sample, honest = make_task("ordinal", "qwk"), [], []
    for seed in range(8):
        rng = np.random.default_rng(seed)
        y, pred = rng.integers(0, 5, 90), rng.normal(size=(90, 1))
        in_sample.append(scale_cuts(METRICS["qwk"], y, pred[:, 0], 5)[1])
        decision = cross_fitted_decision(task, y, pred, np.arange(90) % 5)
        honest.append(METRICS["qwk"].function(y, decision.inputs))
    assert np.mean(in_sample) > 0.08
    assert abs(np.mean(honest)) < 0.08


def test_macro_f1_gets_the_best_threshold_of_each_label(sample):
    y, pred = sample("multilabel", n=500)
    cuts = label_thresholds(METRICS["f1_macro"], y, pred)
    tuned = f1_score(y, pred > cuts, average="macro")
    assert tuned > f1_score(y, pred > 0.5, average="macro")
    best = np.mean([max(f1_score(t, p > c) for c in p) for t, p in zip(y.T, pred.T, strict=True)])
    assert tuned > best - 0.03


def test_micro_f1_counts_all_cells_together(sample):
    y, pred = sample("multilabel", n=300)
    cuts = label_thresholds(METRICS["f1_micro"], y, pred)
    tuned = f1_score(y, pred > cuts, average="micro")
    common = max(f1_score(y, pred > c, average="micro") for c in np.linspace(0, 1, 101))
    assert tuned >= common - 1e-9


def test_a_label_without_positives_keeps_the_middle(sample):
    y, pred = sample("multilabel")
    y[:, 2] = 0
    assert label_thresholds(METRICS["f1_macro"], y, pred)[2] == 0.5
    assert label_thresholds(METRICS["f1_macro"], y[:0], pred[:0]).tolist() == [0.5] * 3


@pytest.mark.parametrize(
    ("kind", "metric", "tuned"),
    [("multilabel", "f1_macro", True), ("multilabel", "roc_auc", False),
     ("ordinal", "qwk", True), ("ordinal", "accuracy", True), ("regression", "qwk", False),
     ("binary", "accuracy", False)],
)  # fmt: skip
def test_what_is_tuned(make_task, kind, metric, tuned):
    assert is_thresholded(make_task(kind, metric)) == tuned
