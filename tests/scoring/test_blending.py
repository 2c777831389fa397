"""Weights: the right ones, never negative, and scored on rows that did not choose them."""

import numpy as np
import pytest
from scipy.stats import rankdata

from oofline.errors import ConfigError, DataError
from oofline.scoring.blending import (
    blend,
    check_method,
    convex_weights,
    fitted_score,
    hill_climb,
    ranks_within,
)
from oofline.scoring.metrics import METRICS, score

METHODS = ["mean", "hill_climbing", "convex", "auto"]


@pytest.fixture
def members(sample):
    """Factory of (y, members): errors that differ between members, the last one is pure noise."""

    def make(kind, n=400, seed=0):
        rng = np.random.default_rng(seed)
        y, _ = sample(kind, n=n, seed=seed)
        centre = {
            "regression": lambda: y,
            "multi-target": lambda: y,
            "binary": lambda: (2.0 * y - 1)[:, None],
            "multiclass": lambda: 2.0 * np.eye(3)[y],
        }[kind]()
        values = [centre + s * rng.normal(size=centre.shape) for s in (0.9, 1.2)]
        values.append(3 * rng.normal(size=centre.shape))
        if kind == "binary":
            values = [1 / (1 + np.exp(-v)) for v in values]
        if kind == "multiclass":
            values = [np.exp(v) / np.exp(v).sum(axis=1, keepdims=True) for v in values]
        return y, np.stack(values)

    return make


def test_convex_weights_are_the_least_squares_ones(members, make_task):
    task = make_task("regression", "rmse")
    y, stack = members("regression", n=4000)
    weights = convex_weights(task, y, stack[:2])
    expected = 1.2**2 / (0.9**2 + 1.2**2)  # inverse variances
    assert weights[0] == pytest.approx(expected, abs=0.03)
    grid = [np.mean((w * stack[0] + (1 - w) * stack[1] - y) ** 2) for w in np.linspace(0, 1, 1001)]
    assert weights[0] == pytest.approx(np.argmin(grid) / 1000, abs=2e-3)


@pytest.mark.parametrize("kind", ["binary", "multiclass"])
def test_convex_weights_minimise_the_log_loss(kind, members, make_task):
    task = make_task(kind, "log_loss")
    y, stack = members(kind)
    weights = convex_weights(task, y, stack[:2])
    grid = [score(task, y, w * stack[0] + (1 - w) * stack[1]) for w in np.linspace(0, 1, 1001)]
    assert weights[0] == pytest.approx(np.argmin(grid) / 1000, abs=2e-3)


@pytest.mark.parametrize("fit", [convex_weights, hill_climb])
@pytest.mark.parametrize(
    ("kind", "metric"), [("regression", "rmse"), ("binary", "log_loss"), ("multiclass", "log_loss")]
)
def test_weights_are_convex_and_leave_noise_out(fit, kind, metric, members, make_task):
    y, stack = members(kind)
    weights = fit(make_task(kind, metric), y, stack)
    assert weights.sum() == pytest.approx(1)
    assert (weights >= 0).all()
    assert weights[0] > weights[1] > 0.1
    assert weights[2] < 0.12


def test_hill_climbing_beats_the_best_member_on_its_rows(members, make_task):
    task, (y, stack) = make_task("binary", "f1"), members("binary")
    weights = hill_climb(task, y, stack)
    blended = fitted_score(task, y, np.tensordot(weights, stack, axes=1))[0]
    assert blended >= max(fitted_score(task, y, member)[0] for member in stack)


def test_weights_of_a_fold_do_not_see_its_rows(members, make_task):
    task, (y, stack) = make_task("binary", "f1"), members("binary")
    fold = np.arange(len(y)) % 4
    first = blend(task, y, stack, fold, "auto")
    changed = y.copy()
    changed[fold == 2] = 1 - changed[fold == 2]
    second = blend(task, changed, stack, fold, "auto")
    np.testing.assert_array_equal(first.fold_weights[2], second.fold_weights[2])
    assert first.fold_thresholds[2] == second.fold_thresholds[2]
    assert first.fold_methods[2] == second.fold_methods[2]
    np.testing.assert_array_equal(first.inputs[fold == 2], second.inputs[fold == 2])


@pytest.mark.parametrize("method", ["hill_climbing", "auto"])
def test_cross_fitting_takes_the_optimism_out(method, make_task):
    task, rng = make_task("binary", "roc_auc"), np.random.default_rng(3)
    honest, optimistic = [], []
    for _ in range(4):  # twelve members of pure noise: the truth is 0.5
        y, stack = rng.integers(0, 2, 150), rng.random((12, 150, 1))
        result = blend(task, y, stack, np.arange(150) % 5, method)
        honest.append(result.score)
        optimistic.append(result.in_sample)
    assert np.mean(optimistic) > 0.53
    assert np.mean(honest) < np.mean(optimistic) - 0.03
    assert np.mean(honest) == pytest.approx(0.5, abs=0.045)


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize(
    ("kind", "metric"),
    [("regression", "rmse"), ("binary", "accuracy"), ("binary", "mcc"), ("multiclass", "f1_macro")],
)
def test_every_method_on_every_kind(method, kind, metric, members, make_task):
    task, (y, stack) = make_task(kind, metric), members(kind, n=200)
    fold = np.arange(len(y)) % 3
    result = blend(task, y, stack, fold, method)
    function = METRICS[metric].function
    assert result.score == function(y, result.inputs)
    assert result.pred.shape == stack.shape[1:]
    for k, weights in result.fold_weights.items():
        expected = np.tensordot(weights, stack, axes=1)[fold == k]
        np.testing.assert_allclose(result.pred[fold == k], expected)
    assert METRICS[metric].sign * (result.score - score(task, y, stack[2])) > 0


def test_auto_takes_weights_where_a_member_is_noise(members, make_task):
    y, stack = members("regression")
    result = blend(make_task("regression", "rmse"), y, stack, np.arange(len(y)) % 4, "auto")
    assert result.method in ("convex", "hill_climbing")
    assert result.weights[2] < 0.15
    two = blend(make_task("regression", "rmse"), y, stack, np.arange(len(y)) % 2, "auto")
    assert set(two.fold_weights) == {0, 1}


def test_rank_mean_equals_the_mean_of_ranks(members, make_task):
    task, (y, stack) = make_task("binary", "roc_auc"), members("binary")
    stack[1] = stack[1] ** 9  # another scale, the same order
    result = blend(task, y, stack, np.arange(len(y)) % 4, "rank_mean")
    expected = np.mean([(rankdata(m) - 0.5) / len(y) for m in stack], axis=0)
    np.testing.assert_allclose(result.pred[:, 0], expected)
    assert result.score == pytest.approx(score(task, y, expected[:, None]), abs=1e-3)


def test_test_rows_are_ranked_within_the_out_of_fold_rows():
    reference = np.array([[0.1], [0.2], [0.2], [0.9]])
    ranks = ranks_within(reference, np.array([[0.2], [0.0], [1.0], [0.5]]))
    assert ranks[:, 0].tolist() == [0.5, 0.0, 1.0, 0.75]


@pytest.mark.parametrize(
    ("kind", "metric"), [("regression", "rmse"), ("binary", "log_loss"), ("multiclass", "roc_auc")]
)
def test_rank_mean_is_refused_where_ranks_break_the_metric(kind, metric, make_task):
    with pytest.raises(ConfigError, match=f"rank_mean .* {metric} of a {kind}"):
        check_method(make_task(kind, metric), "rank_mean")


@pytest.mark.parametrize("metric", ["f1_macro", "f1_weighted"])
def test_rank_mean_fits_metrics_with_a_threshold(metric, members, make_task):
    task, (y, stack) = make_task("binary", metric), members("binary")
    result = blend(task, y, stack**3, np.arange(len(y)) % 4, "rank_mean")
    assert result.score > max(score(task, y, member**3) for member in stack)
    with pytest.raises(ConfigError, match="rank_mean"):
        check_method(make_task("multiclass", metric), "rank_mean")


def test_bad_method_and_a_single_fold(members, make_task):
    task, (y, stack) = make_task("binary", "f1"), members("binary")
    with pytest.raises(ConfigError, match="unknown ensemble method 'stack'"):
        blend(task, y, stack, np.arange(len(y)) % 4, "stack")
    with pytest.raises(DataError, match="at least two"):
        blend(task, y, stack, np.zeros(len(y), int), "mean")


def crossed(members):
    """Two members, each of them good at other targets."""
    y, _ = members("multi-target")
    rng = np.random.default_rng(3)
    noise = rng.normal(size=(2, *y.shape)) * np.array([[[0.3, 2.0, 0.3]], [[2.0, 0.3, 2.0]]])
    return y, y[None] + noise


def test_weights_of_each_target_are_taken_where_they_score_better(members, make_task):
    task, fold = make_task("multi-target", "mcrmse"), np.arange(400) % 4
    y, stack = crossed(members)
    shared = blend(task, y, stack, fold, "convex")
    own = blend(task, y, stack, fold, "convex_per_target")
    assert own.weights.shape == (2, 3)
    assert (own.weights.argmax(axis=0) == [0, 1, 0]).all()
    assert own.score < shared.score - 0.2
    assert own.score == pytest.approx(score(task, y, own.pred))
    chosen = blend(task, y, stack, fold, "auto")
    assert chosen.method.endswith("_per_target")
    assert chosen.score == pytest.approx(own.score, abs=0.01)


def test_weights_of_each_target_are_those_of_the_target_alone(members, make_task):
    task = make_task("multi-target", "mcrmse")
    y, stack = crossed(members)
    fold = np.arange(400) % 4
    own = blend(task, y, stack, fold, "convex_per_target")
    for t in range(3):
        alone = convex_weights(task.one(t), y[:, [t]], stack[:, :, [t]])
        np.testing.assert_allclose(own.weights[:, t], alone)


def test_weights_of_each_target_need_several(make_task):
    assert check_method(make_task("multi-target", "mcrmse"), "auto")[-1] == "convex_per_target"
    assert len(check_method(make_task("binary", "f1"), "auto")) == 3
    with pytest.raises(ConfigError, match="needs several targets"):
        check_method(make_task("binary", "f1"), "convex_per_target")


@pytest.mark.parametrize(
    ("kind", "metric"), [("multilabel", "f1_macro"), ("multilabel", "roc_auc"), ("ordinal", "qwk")]
)
@pytest.mark.parametrize("method", ["mean", "hill_climbing", "convex"])
def test_labels_and_scales_are_blended_and_scored_by_cross_fitting(
    kind, metric, method, sample, make_task
):
    task = make_task(kind, metric)
    y, good = sample(kind, n=150)
    stack = np.stack([good, good[::-1]])  # the second is nonsense
    found = blend(task, y, stack, np.arange(150) % 3, method)
    assert found.score == pytest.approx(METRICS[metric].function(y, found.inputs))
    if method != "mean":
        assert found.weights[0] > 0.8
