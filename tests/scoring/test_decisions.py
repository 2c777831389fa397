"""Thresholds: the best one, stable, and never chosen on the rows that it labels."""

from functools import partial

import numpy as np
import pytest
from sklearn.metrics import f1_score, matthews_corrcoef

from oofline.scoring.decisions import (
    best_threshold,
    cross_fitted_decision,
    cross_fitted_labels,
    is_thresholded,
)
from oofline.scoring.metrics import METRICS, Metric, score
from oofline.scoring.thresholds import _curve

SKLEARN = {
    "f1": f1_score,
    "f1_macro": partial(f1_score, average="macro"),
    "f1_weighted": partial(f1_score, average="weighted"),
    "mcc": matthews_corrcoef,
}


@pytest.mark.parametrize("name", SKLEARN)
@pytest.mark.parametrize("decimals", [1, 2, 12])
def test_threshold_scores_within_an_error_of_brute_force(name, decimals, sample):
    y, pred = sample("binary", n=120)
    probability = pred[:, 0].round(decimals)
    threshold, value = best_threshold(METRICS[name], y, probability)
    cuts = np.append(np.unique(probability), -1.0)
    brute = np.array([SKLEARN[name](y, probability > cut) for cut in cuts])
    error = np.sqrt(brute.max() * (1 - brute.max()) / 120)
    assert value == pytest.approx(SKLEARN[name](y, probability > threshold), abs=1e-12)
    assert brute.max() - error - 1e-12 <= value <= brute.max() + 1e-12
    good = cuts[brute >= brute.max() - error]
    assert good.min() <= threshold <= good.max() + 0.1


@pytest.mark.parametrize("name", SKLEARN)
@pytest.mark.parametrize("share", [0.0, 0.03, 0.5, 1.0])
def test_formulas_in_counts_equal_sklearn_at_every_cut(name, share):
    rng = np.random.default_rng(1)
    y, probability = (rng.random(60) < share).astype(int), rng.random(60).round(1)
    for cut in [*np.unique(probability), -1.0]:
        labels = (probability > cut).astype(int)
        counts = [np.array([np.sum((y == a) & (labels == b))], dtype=np.float64)
                  for a, b in [(1, 1), (0, 1), (1, 0), (0, 0)]]  # fmt: skip
        value = _curve(METRICS[name], *counts)[0]
        assert value == pytest.approx(METRICS[name].function(y, labels), abs=1e-12)
        if set(y) | set(labels) == {0, 1}:
            assert value == pytest.approx(SKLEARN[name](y, labels), abs=1e-12)


@pytest.mark.parametrize("name", ["f1_macro", "f1_weighted"])
def test_a_miscalibrated_model_gains_by_its_threshold(name, make_task, sample):
    task, (y, pred) = make_task("binary", name), sample("binary", n=400)
    pred, fold = pred**4, np.arange(400) % 4
    decision = cross_fitted_decision(task, y, pred, fold)
    assert set(decision.thresholds) == {0, 1, 2, 3}
    assert max(decision.thresholds.values()) < 0.3
    assert SKLEARN[name](y, decision.inputs) > SKLEARN[name](y, pred[:, 0] > 0.5) + 0.02


def test_no_row_positive_is_a_choice_too():
    y = (np.arange(100) < 8).astype(int)
    threshold, value = best_threshold(METRICS["f1_weighted"], y, np.full(100, 0.3))
    assert threshold == pytest.approx(0.65)
    assert value == pytest.approx(f1_score(y, np.zeros(100), average="weighted"))
    threshold, _ = best_threshold(METRICS["f1_weighted"], y, np.ones(100))
    assert threshold == 1.0


def test_threshold_is_steadier_than_the_highest_point():
    rng, stable, highest = np.random.default_rng(0), [], []
    for _ in range(80):
        y = rng.integers(0, 2, 300)
        probability = 1 / (1 + np.exp(-(2 * y - 1 + 1.5 * rng.normal(size=300))))
        stable.append(best_threshold(METRICS["f1"], y, probability)[0])
        cuts = np.sort(probability)
        scores = [METRICS["f1"].function(y, (probability > c).astype(int)) for c in cuts]
        highest.append(cuts[np.argmax(scores)])
    assert np.std(stable) < 0.8 * np.std(highest)


def test_threshold_stands_in_the_middle_of_a_gap():
    threshold, value = best_threshold(
        METRICS["f1"], np.array([0, 0, 1, 1]), np.array([0.1, 0.2, 0.4, 0.9])
    )
    assert value == 1.0
    assert threshold == pytest.approx(0.3)


def test_separated_classes_stay_separated():
    rng = np.random.default_rng(0)
    y = rng.integers(0, 2, 400)
    probability = np.where(y == 1, 0.7, 0.1) + 0.2 * rng.random(400)
    threshold, value = best_threshold(METRICS["mcc"], y, probability)
    assert value == 1.0
    assert threshold == pytest.approx(0.5, abs=0.01)


def test_neighbouring_floats_are_still_separated():
    high = np.nextafter(0.5, 1)
    threshold, value = best_threshold(METRICS["f1"], np.array([0, 1]), np.array([0.5, high]))
    assert value == 1.0
    assert high > threshold >= 0.5


def test_degenerate_rows():
    assert best_threshold(METRICS["f1"], np.zeros(0, int), np.zeros(0))[0] == 0.5
    assert best_threshold(METRICS["f1"], np.array([0, 1]), np.zeros(2)) == (0.5, 0.0)
    assert 0 < best_threshold(METRICS["f1"], np.zeros(3, int), np.full(3, 0.4))[0] < 1
    assert best_threshold(METRICS["f1"], np.ones(3, int), np.full(3, 0.4)) == (0.2, 1.0)


def test_a_metric_without_counts_formula_is_searched_too(sample):
    y, pred = sample("binary", n=90)
    added = Metric("plain_f1", METRICS["f1"].function, True, "label", ("binary",), True)
    assert best_threshold(added, y, pred[:, 0]) == best_threshold(METRICS["f1"], y, pred[:, 0])
    error = Metric("error", lambda y, p: float(np.mean(y != p)), False, "label", ("binary",), True)
    threshold, value = best_threshold(error, y, pred[:, 0])
    assert value == np.mean(y != (pred[:, 0] > threshold))
    assert value <= np.mean(y != (pred[:, 0] > 0.5))


def test_a_folds_threshold_does_not_see_its_rows(make_task, sample):
    task, (y, pred) = make_task("binary", "f1"), sample("binary", n=300)
    pred = pred**3  # miscalibrated: 0.5 is a bad threshold
    fold = np.arange(300) % 3
    labels, thresholds, final = cross_fitted_labels(task, y, pred, fold)
    for k in range(3):
        expected, _ = best_threshold(METRICS["f1"], y[fold != k], pred[fold != k, 0])
        assert thresholds[k] == expected
        assert (labels[fold == k] == (pred[fold == k, 0] > expected)).all()
    assert final == best_threshold(METRICS["f1"], y, pred[:, 0])[0]
    changed = y.copy()
    changed[fold == 0] = 1 - changed[fold == 0]
    again = cross_fitted_labels(task, changed, pred, fold)
    assert again[1][0] == thresholds[0]
    assert (again[0][fold == 0] == labels[fold == 0]).all()
    assert f1_score(y, labels) > score(task, y, pred) + 0.05


def test_cross_fitting_removes_the_optimism_of_the_threshold(make_task):
    task, rng = make_task("binary", "mcc"), np.random.default_rng(0)
    honest, optimistic = [], []
    for _ in range(60):  # no signal at all: the true score is 0
        y, pred, fold = rng.integers(0, 2, 100), rng.random((100, 1)), np.arange(100) % 5
        decision = cross_fitted_decision(task, y, pred, fold)
        honest.append(METRICS["mcc"].function(y, decision.inputs))
        optimistic.append(best_threshold(METRICS["mcc"], y, pred[:, 0])[1])
    assert np.mean(optimistic) > 0.12
    assert abs(np.mean(honest)) < 0.06


@pytest.mark.parametrize(
    ("kind", "metric", "expected"),
    [
        ("binary", "f1", True), ("binary", "f1_macro", True), ("binary", "f1_weighted", True),
        ("binary", "accuracy", False), ("multiclass", "mcc", False),
        ("multiclass", "f1_macro", False), ("multiclass", "f1_weighted", False),
    ],
)  # fmt: skip
def test_only_binary_f1_and_mcc_are_thresholded(kind, metric, expected, make_task, sample):
    task, (y, pred) = make_task(kind, metric), sample(kind)
    assert is_thresholded(task) is expected
    decision = cross_fitted_decision(task, y, pred, np.arange(len(y)) % 4)
    assert bool(decision.thresholds) is expected
    if not expected:
        plain = pred.argmax(1) if kind == "multiclass" else pred[:, 0] > 0.5
        assert (decision.inputs == plain).all()


def test_metrics_of_predictions_are_left_alone(make_task, sample):
    y, pred = sample("binary")
    decision = cross_fitted_decision(make_task("binary", "roc_auc"), y, pred, y)
    assert decision.inputs is pred
    assert decision.threshold == 0.5


def test_a_single_fold_falls_back_to_a_half(make_task, sample):
    y, pred = sample("binary")
    decision = cross_fitted_decision(make_task("binary", "f1"), y, pred, np.zeros(len(y), int))
    assert decision.thresholds == {0: 0.5}
