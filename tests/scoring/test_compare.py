"""Comparison says "better" when it is, "no difference shown" when it is not, and how sure."""

import numpy as np
import pytest

from oofline.errors import ConfigError, DataError
from oofline.scoring.compare import compare_experiments, corrected_p, paired, rows_needed
from oofline.scoring.ensemble import build_ensemble
from oofline.scoring.metrics import score


def predictions(kind, y, noise, seed):
    values = np.random.default_rng(seed).normal(size=(len(y), 1)) * noise
    if kind == "regression":
        return y + values
    return 1 / (1 + np.exp(-(2.0 * y[:, None] - 1 + values)))


@pytest.mark.parametrize(
    ("kind", "metric"),
    [("regression", "rmse"), ("regression", "r2"), ("binary", "f1"), ("binary", "log_loss")],
)
def test_verdict_in_the_metrics_own_direction(kind, metric, make_task, sample):
    task, (y, _) = make_task(kind, metric), sample(kind, n=600)
    fold = np.arange(600) % 5
    good, bad = predictions(kind, y, 0.5, 1), predictions(kind, y, 2.5, 2)
    result = paired(task, y, good, bad, fold, n_samples=200)
    assert result.verdict == "better"
    assert paired(task, y, bad, good, fold, n_samples=200).verdict == "worse"
    assert result.ci95[0] < result.difference < result.ci95[1]
    assert result.p < 0.05
    assert result.rows_needed < 600
    if metric != "f1":
        plain = score(task, y, good) - score(task, y, bad)
        assert result.difference == pytest.approx(plain)


def test_two_trainings_of_one_model_are_rarely_told_apart(make_task):
    task, rng, verdicts = make_task("regression", "rmse"), np.random.default_rng(0), []
    for _ in range(150):
        y, a, b = rng.normal(size=(3, 150, 1))
        verdicts.append(paired(task, y, y + a, y + b, np.arange(150) % 5, n_samples=200).verdict)
    assert 1 <= 150 - verdicts.count("no difference shown") <= 15  # about 5 in 100


def test_pairing_shows_what_two_single_intervals_cannot(make_task, sample):
    task, (y, _) = make_task("regression", "rmse"), sample("regression", n=400)
    base = predictions("regression", y, 1.0, 0)
    a = y + 0.97 * (base - y)  # the same errors, three per cent smaller
    result = paired(task, y, a, base, np.arange(400) % 5, n_samples=200)
    assert result.verdict == "better"
    assert abs(result.difference) < 0.05


def test_equal_predictions_show_no_difference(make_task, sample):
    y, pred = sample("binary")
    result = paired(make_task("binary", "f1"), y, pred, pred, np.arange(200) % 4, n_samples=50)
    assert (result.difference, result.verdict, result.p) == (0.0, "no difference shown", 1.0)
    assert result.rows_needed is None


def test_corrected_p_follows_nadeau_and_bengio():
    differences, sizes = np.array([0.01, 0.02, 0.015, 0.03, 0.0]), np.full(5, 100)
    corrected = corrected_p(differences, sizes)
    deviation = np.sqrt((1 / 5 + 1 / 4) * differences.var(ddof=1))
    t = differences.mean() / deviation
    draws = np.random.default_rng(0).standard_t(4, 400_000)
    assert corrected == pytest.approx(np.mean(np.abs(draws) > t), abs=0.004)
    assert corrected_p(differences[:1], sizes[:1]) is None
    assert corrected_p(np.array([np.nan, 1.0]), sizes[:2]) is None


def test_some_folds_of_many_keep_the_training_share_of_all():
    differences, sizes = np.array([0.01, 0.02, 0.03]), np.full(3, 100)
    t = differences.mean() / np.sqrt((1 / 3 + 1 / 4) * differences.var(ddof=1))
    draws = np.abs(np.random.default_rng(0).standard_t(2, 400_000))
    wanted = np.mean(draws > t)
    assert corrected_p(differences, sizes, n_rows=500) == pytest.approx(wanted, abs=0.004)
    assert corrected_p(differences, sizes) > wanted + 0.02  # as if two folds had been trained on


def test_rows_needed_follow_the_standard_error():
    assert rows_needed(0.01, (-0.0096, 0.0296), 1000) == pytest.approx(7840, abs=2)
    assert rows_needed(0.02, (0.0004, 0.0396), 1000) == pytest.approx(1960, abs=2)
    assert rows_needed(0.0, (0.0, 0.0), 10) is None


def test_table_holds_every_experiment_and_ensemble(competition):
    comp = competition("regression", "rmse")
    comp.train("base", noise=1.0, seeds=(1, 2))
    comp.train("good", noise=0.4)
    comp.train("like", noise=1.0, seeds=(3, 4))
    for exp in ("base", "good", "like"):
        comp.score(exp)
    pieces = (comp.paths, comp.task)
    rows = (comp.ids, comp.y, comp.fold)
    build_ensemble(*pieces, "blend", ["base", "good"], *rows, method="convex", n_samples=50)
    table = compare_experiments(*pieces, *rows, base="base", n_samples=200)
    assert set(table.columns) >= {
        "experiment", "score", "lo", "hi", "diff", "diff_lo", "diff_hi", "verdict", "fold_std",
        "seeds", "minutes", "samples_per_s",
    }  # fmt: skip
    assert table["score"].is_monotonic_increasing
    by_name = table.set_index("experiment")
    assert set(by_name.index) == {"base", "good", "like", "blend"}
    assert by_name.loc["base", "verdict"] == "base"
    assert np.isnan(by_name.loc["base", "diff"])
    assert by_name.loc["good", "verdict"] == "better"
    assert by_name.loc["blend", "verdict"] == "better"
    assert by_name.loc["like", "verdict"] == "no difference shown"
    assert by_name.loc["base", "seeds"] == "1,2"
    chosen = compare_experiments(*pieces, *rows, base="good", exps=["base"], n_samples=50)
    assert chosen["experiment"].tolist() == ["good", "base"]
    assert chosen["verdict"].tolist() == ["base", "worse"]


def test_greater_is_better_sorts_downwards(competition):
    comp = competition("binary", "roc_auc")
    comp.train("a", noise=5.0)
    comp.train("b", noise=0.5)
    comp.score("a")
    comp.score("b")
    table = compare_experiments(
        comp.paths, comp.task, comp.ids, comp.y, comp.fold, base="a", n_samples=50
    )
    assert table["experiment"].tolist() == ["b", "a"]


def test_other_folds_and_single_seeds_are_refused(competition):
    comp = competition("regression", "rmse")
    comp.train("base")
    comp.score("base")
    moved = comp.fold.copy()
    moved[:2] = (moved[:2] + 1) % 3
    arguments = (comp.paths, comp.task, comp.ids, comp.y)
    with pytest.raises(DataError, match=r"other folds .2 of 300 rows"):
        compare_experiments(*arguments, moved, base="base")
    with pytest.raises(ConfigError, match="give 'base'"):
        compare_experiments(*arguments, comp.fold, base="base", exps=["base@42"])
