"""An arm against the base: every figure against one computed here, and honest about seeds."""

import numpy as np
import pytest
from scipy import stats

from oofline.ablation.contrast import (
    Rows,
    Runs,
    _over_seeds,
    contrast,
    seed_interval,
    seeds_needed,
)
from oofline.scoring.intervals import bootstrap_scores, percentile_interval


@pytest.fixture
def regression(task):
    """regression(S, noise, base_noise) -> rows, arm, base with rows of different difficulty."""

    def make(n_seeds=3, noise=0.8, base_noise=1.0, n=200, n_samples=300, groups=None, seed=0):
        rng = np.random.default_rng(seed)
        y, hard = rng.normal(size=(n, 1)), rng.normal(size=(n, 1))
        fold = np.arange(n) % 5
        there = np.ones((n_seeds, n), dtype=bool)
        runs = [
            Runs(y + size * (hard + 0.5 * rng.normal(size=(n_seeds, n, 1))), there)
            for size in (noise, base_noise)
        ]
        return Rows(task("regression", "rmse"), y, fold, groups, n_samples), *runs

    return make


def rmse(y, pred):
    return float(np.sqrt(np.mean((y - pred) ** 2)))


def test_every_figure_equals_an_independent_one(regression):
    rows, arm, base = regression(n_seeds=3, n_samples=3000)
    found = contrast(rows, arm, base)
    y, n = rows.y, len(rows.y)
    a, b = ([rmse(y, pred) for pred in runs.pred] for runs in (arm, base))
    np.testing.assert_allclose(found.seed_scores, a)
    np.testing.assert_allclose(found.seed_differences, np.subtract(a, b))
    assert found.score == pytest.approx(np.mean(a))
    assert found.difference == pytest.approx(np.mean(a) - np.mean(b))
    assert (found.n_rows, found.verdict) == (n, "better")

    rng, drawn, own = np.random.default_rng(99), [], []
    for _ in range(3000):
        at = rng.integers(0, n, n)
        scores = [[rmse(y[at], pred[at]) for pred in runs.pred] for runs in (arm, base)]
        drawn.append(np.mean(scores[0]) - np.mean(scores[1]))
        own.append(np.mean(scores[0]))
    for interval, draws in ((found.difference_ci95, drawn), (found.ci95, own)):
        lo, hi = np.quantile(draws, [0.025, 0.975])
        assert interval == pytest.approx((lo, hi), abs=0.06 * (hi - lo))

    by_fold = [
        np.mean([rmse(y[m], arm.pred[s][m]) - rmse(y[m], base.pred[s][m]) for s in range(3)])
        for m in (rows.fold == k for k in range(5))
    ]
    t = np.mean(by_fold) / np.sqrt((1 / 5 + 1 / 4) * np.var(by_fold, ddof=1))
    assert found.p == pytest.approx(2 * stats.t.sf(abs(t), 4))
    error = (found.difference_ci95[1] - found.difference_ci95[0]) / 3.92
    assert found.rows_needed == pytest.approx(n * (2.8 * error / found.difference) ** 2, abs=1)


@pytest.mark.parametrize("metric", ["f1", "accuracy", "roc_auc", "log_loss"])
def test_thresholds_are_cross_fitted_seed_by_seed(task, metric):
    from oofline.scoring.decisions import cross_fitted_decision
    from oofline.scoring.metrics import get_metric

    rng, kind = np.random.default_rng(0), task("binary", metric)
    y, fold = rng.integers(0, 2, 150), np.arange(150) % 3
    shift = np.array([-2.0, 0.0, 2.0])[:, None, None]  # seeds that differ in calibration
    pred = 1 / (1 + np.exp(-(2.0 * y[:, None] - 1 + shift + rng.normal(size=(3, 150, 1)))))
    runs = Runs(pred, np.ones((3, 150), dtype=bool))
    found = contrast(Rows(kind, y, fold, None, 50), runs, runs)
    function = get_metric(metric, "binary").function
    wanted = [function(y, cross_fitted_decision(kind, y, p, fold).inputs) for p in pred]
    np.testing.assert_allclose(found.seed_scores, wanted)
    averaged = function(y, cross_fitted_decision(kind, y, pred.mean(axis=0), fold).inputs)
    if metric != "accuracy":
        assert abs(averaged - found.score) > 1e-3  # the faulty form: scoring the averaged seeds


def test_the_same_rows_are_drawn_for_both_arms(regression):
    rows, arm, _ = regression()
    same = contrast(rows, arm, arm)
    assert (same.difference, same.difference_ci95) == (0.0, (0.0, 0.0))
    assert (same.verdict, same.rows_needed, same.seeds_needed) == (
        "no difference shown",
        None,
        None,
    )

    def draws(seed):
        return bootstrap_scores(
            lambda at: rmse(rows.y[at], arm.pred[0][at]), len(rows.y), n_samples=300, seed=seed
        )

    lo, hi = percentile_interval(draws(0) - draws(1))  # the faulty form: rows drawn apart
    assert lo < -0.01 < 0.01 < hi


def test_only_units_that_both_finished_are_compared(regression):
    rows, arm, base = regression(n_seeds=3)
    arm.there[0, rows.fold == 1] = False  # this arm failed there
    base_there = base.there.copy()
    base_there[2] = False  # the base has not finished a fold of the third seed
    arm.pred[0, rows.fold == 1] = arm.pred[2] = 1e6 * np.ones((1, 1))[0]
    found = contrast(rows, Runs(arm.pred, arm.there.copy()), Runs(base.pred, base_there))
    left = rows.fold != 1
    wanted = [
        rmse(rows.y[left], arm.pred[0][left]) - rmse(rows.y[left], base.pred[0][left]),
        rmse(rows.y, arm.pred[1]) - rmse(rows.y, base.pred[1]),
    ]
    np.testing.assert_allclose(found.seed_differences, wanted)
    assert np.abs(found.difference_ci95).max() < 10
    assert found.n_rows == len(rows.y)
    nothing = Runs(base.pred, np.zeros_like(base.there))
    assert contrast(rows, arm, nothing) is None


def test_partial_folds_know_how_many_rows_trained_them(regression):
    rows, arm, base = regression()
    there = np.tile(rows.fold < 3, (3, 1))
    found = contrast(rows, Runs(arm.pred, there), Runs(base.pred, there))
    assert found.n_rows == 120
    by_fold = [
        np.mean([rmse(rows.y[m], arm.pred[s][m]) - rmse(rows.y[m], base.pred[s][m])
                 for s in range(3)])
        for m in (rows.fold == k for k in range(3))
    ]  # fmt: skip

    def p(test_share):
        t = np.mean(by_fold) / np.sqrt((1 / 3 + test_share) * np.var(by_fold, ddof=1))
        return 2 * stats.t.sf(abs(t), 2)

    assert found.p == pytest.approx(p(1 / 4))
    assert found.p != pytest.approx(p(1 / 2), rel=0.01)  # as if two folds had been trained on


def test_groups_are_drawn_whole(regression):
    groups = np.arange(200) // 20
    rows, arm, base = regression(groups=groups)
    alone, arm_alone, base_alone = regression()

    def width(*parts):
        lo, hi = contrast(*parts).ci95
        return hi - lo

    assert width(rows, arm, base) != width(alone, arm_alone, base_alone)


def test_drawing_seeds_has_the_variance_of_a_mean():
    values = np.array([0.1, 0.4, 0.2, 0.9, 0.6])
    draws = np.tile(values, (40000, 1))  # rows that say nothing: only seeds move
    stretch = stats.t.ppf(0.975, 4) / 1.96
    wanted = values.var(ddof=1) / 5
    assert _over_seeds(draws).var() / stretch**2 == pytest.approx(wanted, rel=0.03)
    faulty = values[np.random.default_rng(0).integers(0, 5, (40000, 5))].mean(axis=1)
    assert faulty.var() == pytest.approx(0.8 * wanted, rel=0.03)
    few = np.tile(values[:4], (10, 1))
    np.testing.assert_allclose(_over_seeds(few), values[:4].mean())


def test_two_equal_arms_with_noisy_seeds_are_rarely_told_apart(task):
    rng, kind = np.random.default_rng(0), task("regression", "rmse")

    def told_apart(n_seeds):
        y, hard = rng.normal(size=(2, 100, 1))
        there = np.ones((n_seeds, 100), dtype=bool)
        arms = [
            Runs(y + (hard + 0.5 * rng.normal(size=(n_seeds, 100, 1)))
                 * (1 + 0.08 * rng.normal(size=(n_seeds, 1, 1))), there)
            for _ in range(2)
        ]  # fmt: skip
        rows = Rows(kind, y, np.arange(100) % 5, None, 100)
        return contrast(rows, *arms).verdict != "no difference shown"

    assert np.mean([told_apart(5) for _ in range(60)]) < 0.12
    assert np.mean([told_apart(3) for _ in range(40)]) > 0.2  # what rows alone cannot know


def test_seeds_needed_have_the_power_that_they_promise():
    for deviation in (0.5, 1.0, 2.0, 4.0):
        rng = np.random.default_rng(0)
        values = rng.normal(size=30)
        values = (values - values.mean()) / values.std(ddof=1) * deviation + 1.0
        n = seeds_needed(values)

        def power(n, deviation=deviation):
            limit, shift = stats.t.ppf(0.975, n - 1), np.sqrt(n) / deviation
            return stats.nct.sf(limit, n - 1, shift) + stats.nct.cdf(-limit, n - 1, shift)

        assert power(n) >= (0.79 if n > 4 else 0.75)
        assert n <= 4 or power(n - 2) < 0.8
    assert seeds_needed(np.array([0.1])) is None
    assert seeds_needed(np.array([0.1, -0.1])) is None
    assert seeds_needed(np.array([0.1, 0.1])) == 2


def test_the_seeds_interval_is_students():
    values = np.array([0.1, 0.3, 0.2])
    wanted = stats.t.interval(0.95, 2, loc=0.2, scale=stats.sem(values))
    assert seed_interval(values) == pytest.approx(wanted)
    assert seed_interval(values[:1]) is None
