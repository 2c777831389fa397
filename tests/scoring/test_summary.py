"""scores.json of an experiment: what is submitted is scored; optimism and spreads are shown."""

import json

import numpy as np
import pytest

from oofline.errors import OoflineError
from oofline.scoring import summary
from oofline.scoring.decisions import cross_fitted_labels
from oofline.scoring.metrics import METRICS, score
from oofline.storage import read_json

KEYS = {
    "metric", "greater_is_better", "score", "score_last", "ci95", "n_rows", "folds", "seeds",
    "minutes", "score_best", "optimism", "fold_scores", "seed_scores", "fold_std", "seed_std",
    "threshold", "samples_per_s",
}  # fmt: skip


def test_scores_json_holds_what_it_must(competition):
    comp = competition("regression", "rmse")
    comp.train("base", seeds=(1, 2))
    scores = comp.score("base")
    assert scores == read_json(comp.paths.experiment("base") / "scores.json")
    assert set(scores) >= KEYS
    assert scores["greater_is_better"] is False
    assert (scores["n_rows"], scores["folds"], scores["seeds"]) == (300, [0, 1, 2], [1, 2])
    assert scores["minutes"] == 12.0
    assert scores["samples_per_s"] == 10.0
    assert scores["ci95"][0] < scores["score"] < scores["ci95"][1]


def test_score_is_of_the_prediction_averaged_over_seeds(competition):
    comp = competition("regression", "rmse")
    comp.train("base", seeds=(1, 2, 3))
    scores, oof = comp.score("base"), comp.collect("base")
    mean = oof.blocks["pred"].mean(axis=0)
    assert scores["score"] == pytest.approx(score(comp.task, comp.y, mean))
    for seed, pred in zip(oof.seeds, oof.blocks["pred"], strict=True):
        assert scores["seed_scores"][str(seed)] == pytest.approx(score(comp.task, comp.y, pred))
    assert scores["score"] < min(scores["seed_scores"].values())
    spread = np.std(list(scores["seed_scores"].values()), ddof=1)
    assert scores["seed_std"] == pytest.approx(spread)
    assert len(scores["fold_scores"]) == 9
    first = scores["fold_scores"][0]
    inside = comp.fold == first["fold"]
    expected = score(comp.task, comp.y[inside], oof.blocks["pred"][0][inside])
    assert first["score"] == pytest.approx(expected)


def test_a_single_seed_has_no_spread(competition):
    comp = competition("regression", "rmse")
    comp.train("base")
    scores = comp.score("base")
    assert scores["seed_std"] is None
    assert scores["fold_std"] > 0


@pytest.mark.parametrize(("metric", "better"), [("rmse", "lower"), ("r2", "greater")])
def test_optimism_is_positive_where_best_looks_better(metric, better, competition):
    comp = competition("regression", metric)
    comp.train("base")
    oof = comp.collect("base")
    oof.blocks["best"][:] = 0.5 * oof.blocks["best"] + 0.5 * comp.y
    scores = summary.write_oof(comp.paths, comp.task, oof, comp.y, n_samples=50)
    assert scores["optimism"] == pytest.approx(abs(scores["score_best"] - scores["score_last"]))
    assert scores["optimism"] > 0.1
    assert (scores["score_best"] > scores["score_last"]) is (better == "greater")


def test_f1_is_cross_fitted_and_its_final_threshold_kept(competition):
    comp = competition("binary", "f1")
    comp.train("base", noise=2.0)
    scores, pred = comp.score("base"), comp.collect("base").blocks["pred"][0]
    labels, thresholds, final = cross_fitted_labels(comp.task, comp.y, pred, comp.fold)
    assert scores["score"] == METRICS["f1"].function(comp.y, labels)
    assert scores["threshold"] == final
    assert scores["thresholds"] == {str(k): v for k, v in thresholds.items()}


def test_a_score_that_is_not_defined_is_null_in_valid_json(competition):
    comp = competition("binary", "roc_auc")
    comp.y[comp.fold == 0] = 1
    comp.train("base")
    comp.score("base")
    text = (comp.paths.experiment("base") / "scores.json").read_text()
    scores = json.loads(text, parse_constant=lambda name: pytest.fail(f"{name} in scores.json"))
    assert scores["fold_scores"][0]["score"] is None
    assert scores["score"] > 0.5


def test_groups_widen_the_interval(competition):
    comp = competition("regression", "rmse")
    comp.train("base")
    oof = comp.collect("base")
    groups = np.argsort(np.argsort(np.abs(oof.blocks["pred"][0] - comp.y)[:, 0])) // 30
    plain = summary.summarise(comp.task, oof, comp.y, n_samples=200)["ci95"]
    grouped = summary.summarise(comp.task, oof, comp.y, groups, n_samples=200)["ci95"]
    assert grouped[1] - grouped[0] > 2 * (plain[1] - plain[0])


def test_a_failed_write_leaves_no_scores(competition, monkeypatch):
    comp = competition("regression", "rmse")
    comp.train("base")

    def full(self, path, **_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("pandas.DataFrame.to_parquet", full)
    with pytest.raises(OoflineError, match="No space left"):
        comp.score("base")
    assert [f.name for f in comp.paths.experiment("base").iterdir()] == ["seed42"]
