"""An ensemble on disk: its files, its page, and the members it refuses."""

import json

import numpy as np
import pandas as pd
import pytest

from oofline.errors import ConfigError, DataError
from oofline.results import prediction_array
from oofline.scoring import ensemble
from oofline.scoring.blending import ranks_within
from oofline.scoring.compare import compare_experiments
from oofline.scoring.ensemble import build_ensemble
from oofline.scoring.stored import load_stored
from oofline.storage import read_json


@pytest.fixture
def trained(competition):
    """A competition with the scored experiments base and awp (two seeds each)."""

    def make(kind, metric):
        comp = competition(kind, metric)
        for exp, noise in (("base", 1.2), ("awp", 1.0)):
            comp.train(exp, noise=noise, seeds=(42, 43))
            comp.score(exp)
        return comp

    return make


def build(comp, specs=("base", "awp"), name="blend", **options):
    return build_ensemble(
        comp.paths, comp.task, name, list(specs), comp.ids, comp.y, comp.fold,
        **{"n_samples": 100, **options},
    )  # fmt: skip


@pytest.mark.parametrize(
    ("kind", "metric", "method"),
    [
        ("regression", "rmse", "auto"),
        ("binary", "f1", "hill_climbing"),
        ("multiclass", "accuracy", "convex"),
    ],
)
def test_files_of_an_ensemble(kind, metric, method, trained):
    comp = trained(kind, metric)
    result = build(comp, method=method)
    folder = comp.paths.ensemble("blend")
    assert {f.name for f in folder.iterdir()} == {
        "oof.parquet", "test.parquet", "scores.json", "weights.json", "ensemble.md",
    }  # fmt: skip
    frame = pd.read_parquet(folder / "oof.parquet")
    assert (frame["id"].to_numpy() == comp.ids).all()
    assert (frame["seed"] == -1).all()
    assert (frame["fold"].to_numpy() == comp.fold).all()
    assert (prediction_array(comp.task, frame, "last") == prediction_array(comp.task, frame)).all()
    scores = read_json(folder / "scores.json")
    assert scores["score"] == scores["score_last"] == result.blend.score
    assert scores["ci95"][0] < scores["score"] < scores["ci95"][1]
    assert (scores["seeds"], scores["folds"], scores["n_rows"]) == ([42, 43], [0, 1, 2], 300)
    assert scores["minutes"] == 24.0
    weights = read_json(folder / "weights.json")
    assert weights["members"] == ["base", "awp"]
    assert sum(weights["weights"]) == pytest.approx(1)
    assert set(weights["folds"]) == {"0", "1", "2"}


def test_test_rows_are_blended_by_id_with_the_final_weights(trained):
    comp = trained("regression", "rmse")
    path = comp.paths.experiment("awp") / "test.parquet"
    pd.read_parquet(path).sample(frac=1, random_state=0).to_parquet(path)
    result = build(comp, method="convex")
    found = pd.read_parquet(comp.paths.ensemble("blend") / "test.parquet").set_index("id")
    members = [comp.collect(exp).test.mean(axis=0) for exp in ("base", "awp")]
    expected = np.tensordot(result.blend.weights, np.stack(members), axes=1)
    np.testing.assert_allclose(found.loc[comp.test_ids, "pred_target0"], expected[:, 0])


def test_rank_mean_ranks_test_rows_like_the_others(trained):
    comp = trained("binary", "f1")
    build(comp, method="rank_mean")
    found = pd.read_parquet(comp.paths.ensemble("blend") / "test.parquet").set_index("id")
    stored = [load_stored(comp.paths, exp, comp.task, comp.ids) for exp in ("base", "awp")]
    expected = [pd.Series(ranks_within(s.pred, s.test)[:, 0], index=s.test_ids) for s in stored]
    mean = (expected[0] + expected[1]) / 2
    np.testing.assert_allclose(found.loc[mean.index, "pred_target"], mean)


def test_seeds_of_one_experiment_can_be_members(trained):
    comp = trained("regression", "rmse")
    result = build(comp, ["base@42", "base@43"], method="mean")
    expected = comp.collect("base").blocks["pred"].mean(axis=0)
    np.testing.assert_allclose(result.blend.pred, expected)
    assert result.scores["seeds"] == [42, 43]
    assert result.scores["score"] == pytest.approx(load_score(comp, "base"))


def load_score(comp, exp):
    return read_json(comp.paths.experiment(exp) / "scores.json")["score"]


def test_the_page_says_what_the_figures_say(trained):
    comp = trained("regression", "rmse")
    result = build(comp, method="convex")
    page = (comp.paths.ensemble("blend") / "ensemble.md").read_text()
    assert f"**{result.blend.score:.5f}**" in page
    assert f"{result.blend.in_sample:.5f}: that figure is optimistic" in page
    assert f"| base | {load_score(comp, 'base'):.5f} | {result.blend.weights[0]:.3f} |" in page
    assert f"| awp (best) | {load_score(comp, 'awp'):.5f} |" in page
    assert result.against_best.verdict == "better"
    assert "beats the best single member, awp, beyond noise: -" in page


def test_a_blend_with_its_own_copy_shows_no_difference(trained):
    comp = trained("regression", "rmse")
    comp.train("copy", noise=0.9, seeds=(1,))
    comp.score("copy")
    for name in ("oof.parquet", "test.parquet"):
        source = comp.paths.experiment("awp") / name
        (comp.paths.experiment("copy") / name).write_bytes(source.read_bytes())
    build(comp, ["awp", "copy"], method="mean")
    page = (comp.paths.ensemble("blend") / "ensemble.md").read_text()
    assert "No difference shown between the blend and its best member, awp" in page


def test_a_blend_with_noise_is_called_worse(trained):
    comp = trained("regression", "rmse")
    comp.train("noise", noise=6.0)
    comp.score("noise")
    build(comp, ["awp", "noise"], method="mean")
    page = (comp.paths.ensemble("blend") / "ensemble.md").read_text()
    assert "Blending is worse than the best single member, awp" in page


@pytest.mark.parametrize(
    ("specs", "message"),
    [
        (["base"], "at least two members, got base"),
        ([], "got none"),
        (["base", "base"], "given twice"),
    ],
)
def test_too_few_members(specs, message, trained):
    comp = trained("regression", "rmse")
    with pytest.raises(ConfigError, match=message):
        build(comp, specs)
    assert not comp.paths.ensemble("blend").exists()


def test_members_must_share_ids_folds_and_test_rows(trained):
    comp = trained("regression", "rmse")
    with pytest.raises(DataError, match="no experiment or ensemble 'lgbm'; there: awp, base"):
        build(comp, ["base", "lgbm"])
    folder = comp.paths.experiment("awp")
    frame, test = (pd.read_parquet(folder / name) for name in ("oof.parquet", "test.parquet"))
    frame.assign(id=frame["id"].replace("id0001", "new")).to_parquet(folder / "oof.parquet")
    with pytest.raises(DataError, match=r"awp.oof.parquet: 1 ids have no prediction .id0001"):
        build(comp)
    frame.assign(fold=(frame["fold"] + 1) % 3).to_parquet(folder / "oof.parquet")
    with pytest.raises(DataError, match="'awp' was trained with other folds"):
        build(comp)
    frame.to_parquet(folder / "oof.parquet")
    test[test["id"] != "test001"].to_parquet(folder / "test.parquet")
    with pytest.raises(DataError, match="have other test ids"):
        build(comp)
    assert not comp.paths.ensemble("blend").exists()


def test_names_that_cannot_be(trained):
    comp = trained("regression", "rmse")
    with pytest.raises(ConfigError, match="name of an experiment"):
        build(comp, name="awp")
    with pytest.raises(ConfigError, match="plain folder name"):
        build(comp, name="../x")


def test_rows_without_a_fold_stay_out(competition):
    comp = competition("binary", "accuracy")
    comp.fold[:60] = -1
    for exp in ("base", "awp"):
        comp.train(exp)
        comp.score(exp)
    result = build(comp, method="mean")
    assert result.scores["n_rows"] == 240
    assert len(pd.read_parquet(result.folder / "oof.parquet")) == 240


def test_a_score_that_no_member_has_is_refused(competition):
    comp = competition("binary", "roc_auc")
    comp.y[:] = 1
    for exp in ("base", "awp"):
        comp.train(exp)
        comp.score(exp)
    with pytest.raises(DataError, match="roc_auc is not defined"):
        build(comp)


def test_figures_that_are_not_defined_are_null_in_valid_json(competition, monkeypatch):
    comp = competition("binary", "roc_auc")
    comp.y[comp.fold == 0] = 1
    for exp in ("base", "awp"):
        comp.train(exp)
        comp.score(exp)
    monkeypatch.setattr(ensemble, "interval", lambda *_: (float("nan"), float("nan")))
    folder = build(comp, method="convex").folder
    for name in ("scores.json", "weights.json"):
        json.loads((folder / name).read_text(), parse_constant=lambda text: pytest.fail(text))
    scores = read_json(folder / "scores.json")
    assert scores["ci95"] == [None, None]
    assert [f["score"] is None for f in scores["fold_scores"]] == [True, False, False]
    assert "[nan, nan]" in (folder / "ensemble.md").read_text()
    rows = (comp.ids, comp.y, comp.fold)
    table = compare_experiments(comp.paths, comp.task, *rows, base="base", n_samples=20)
    assert table.set_index("experiment").loc["blend", ["lo", "hi"]].isna().all()


def test_the_page_says_where_weights_are_means_over_targets(trained):
    comp = trained("multi-target", "mcrmse")
    pages = {}
    for method in ("convex", "convex_per_target"):
        name = method.replace("_", "-")
        result = build(comp, name=name, method=method)
        pages[method] = (comp.paths.ensemble(name) / "ensemble.md").read_text()
        for target, value in result.scores["target_scores"].items():
            assert f"| {target} | {value:.5f}" in pages[method]
    means = "Weights of single targets stand above as their means."
    assert (means in pages["convex"], means in pages["convex_per_target"]) == (False, True)
    assert "| target | mcrmse | base | awp |" in pages["convex_per_target"]
