"""Bootstrap intervals cover the truth as often as they say, and keep classes and groups whole."""

import numpy as np
import pytest

from oofline.scoring.intervals import (
    Resampler,
    bootstrap_ci,
    bootstrap_scores,
    percentile_interval,
    strata_of,
)
from oofline.scoring.metrics import METRICS


def coverage(draw, truth, **options) -> float:
    """Share of 200 simulated data sets whose interval holds the truth."""
    hits = 0
    for seed in range(200):
        right = draw(np.random.default_rng(seed))
        lo, hi = bootstrap_ci(
            lambda rows, right=right: right[rows].mean(), len(right), n_samples=300, seed=seed,
            **options,
        )  # fmt: skip
        hits += lo <= truth <= hi
    return hits / 200


def test_interval_covers_the_truth_95_times_in_100():
    share = coverage(lambda rng: (rng.random(200) < 0.8).astype(float), 0.8)
    assert 0.90 <= share <= 0.99


def test_interval_of_correlated_rows_covers_only_when_groups_are_drawn():
    groups = np.repeat(np.arange(40), 10)

    def draw(rng):
        return np.repeat(rng.normal(size=40), 10) + 0.1 * rng.normal(size=400)

    assert coverage(draw, 0.0) < 0.7
    assert 0.88 <= coverage(draw, 0.0, groups=groups) <= 0.99


def test_interval_agrees_with_the_normal_one():
    values = np.random.default_rng(1).normal(size=2000)
    lo, hi = bootstrap_ci(lambda rows: values[rows].mean(), 2000)
    error = values.std() / np.sqrt(2000)
    assert (hi - lo) / 3.92 == pytest.approx(error, rel=0.1)
    assert (lo + hi) / 2 == pytest.approx(values.mean(), abs=0.2 * error)


def test_strata_keep_their_size_and_rows():
    strata = np.random.default_rng(0).permutation([0] * 90 + [1] * 8 + [2] * 2)
    resampler = Resampler(100, strata=strata)
    seen = set()
    for _ in range(50):
        rows = resampler.draw()
        assert np.bincount(strata[rows]).tolist() == [90, 8, 2]
        seen |= set(rows.tolist())
    assert seen == set(range(100))


def test_groups_are_drawn_whole():
    groups = np.array([5, 1, 5, 2, 1, 5])
    resampler = Resampler(6, groups=groups)
    sizes = {5: 3, 1: 2, 2: 1}
    for _ in range(30):
        rows = resampler.draw()
        counts = np.bincount(rows, minlength=6)
        for group in sizes:
            assert len(set(counts[groups == group])) == 1
        drawn = sum(counts[groups == g][0] for g in sizes)
        assert drawn == 3


def test_groups_of_one_row_leave_strata_in_force():
    strata = np.array([0, 0, 0, 1])
    rows = Resampler(4, strata=strata, groups=np.arange(4)).draw()
    assert np.bincount(strata[rows]).tolist() == [3, 1]


def test_the_same_seed_gives_the_same_interval():
    values = np.random.default_rng(0).random(50)

    def ci(seed):
        return bootstrap_ci(lambda rows: values[rows].mean(), 50, n_samples=50, seed=seed)

    assert ci(3) == ci(3)
    assert ci(3) != ci(4)


def test_undefined_resamples_are_left_out():
    assert percentile_interval(np.array([np.nan, 1.0, 1.0])) == (1.0, 1.0)
    assert np.isnan(percentile_interval(np.array([np.nan]))).all()


def test_very_many_rows_get_fewer_resamples(monkeypatch):
    monkeypatch.setattr("oofline.scoring.intervals.WORK", 50_000)
    draws = bootstrap_scores(lambda rows: 0.0, 100, n_samples=202)
    assert len(draws) == 202
    assert len(bootstrap_scores(lambda rows: 0.0, 100, n_samples=600)) == 500
    assert len(bootstrap_scores(lambda rows: 0.0, 10_000, n_samples=600)) == 200


@pytest.mark.parametrize("name", ["accuracy", "f1", "f1_macro", "mcc", "roc_auc", "qwk"])
def test_a_thousand_resamples_surround_the_score(name, sample):
    y, pred = sample("binary", n=7613)
    inputs = (pred[:, 0] > 0.5).astype(int) if METRICS[name].needs == "label" else pred
    function = METRICS[name].function
    lo, hi = bootstrap_ci(lambda rows: function(y[rows], inputs[rows]), 7613, strata=y)
    assert lo < function(y, inputs) < hi


def test_classes_are_strata_only_where_one_could_vanish():
    common, rare = np.repeat([0, 1], 50), np.repeat([0, 1], [95, 5])
    assert strata_of("binary", common) is None
    assert strata_of("binary", rare) is rare
    assert strata_of("multiclass", np.repeat([0, 1, 2], [50, 50, 9])) is not None
    assert strata_of("regression", rare[:, None].astype(float)) is None


def test_fixed_class_shares_would_hide_the_noise_of_a_constant_guess():
    """Accuracy of a constant guess is the share of a class, which is not known exactly."""
    y = np.repeat([0, 1], [52, 48])

    def accuracy(rows):
        return float((y[rows] == 0).mean())

    lo, hi = bootstrap_ci(accuracy, 100, strata_of("binary", y))
    assert hi - lo > 0.15
    assert bootstrap_ci(accuracy, 100, y) == (0.52, 0.52)  # the faulty form
