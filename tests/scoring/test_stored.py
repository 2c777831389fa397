"""Stored predictions are found by name, whole or by seed, and refused if they do not fit."""

import numpy as np
import pytest

from oofline.errors import DataError
from oofline.scoring.compare import compare_experiments
from oofline.scoring.ensemble import build_ensemble
from oofline.scoring.stored import load_stored, members_that_count, stored_folder, stored_names
from oofline.storage import read_json, write_json


def test_reads_the_mean_over_seeds_or_one_seed(competition):
    comp = competition("regression", "rmse")
    comp.train("awp", seeds=(42, 43))
    comp.score("awp")
    oof = comp.collect("awp")
    both = load_stored(comp.paths, "awp", comp.task, comp.ids)
    np.testing.assert_allclose(both.pred, oof.blocks["pred"].mean(axis=0))
    np.testing.assert_allclose(both.test, oof.test.mean(axis=0))
    assert both.seeds == [42, 43]
    one = load_stored(comp.paths, "awp@43", comp.task, comp.ids)
    np.testing.assert_array_equal(one.pred, oof.blocks["pred"][1])
    assert one.seeds == [43]
    assert (one.fold == comp.fold).all()


def test_ids_give_the_order(competition):
    comp = competition("regression", "rmse")
    comp.train("awp")
    comp.score("awp")
    order = np.random.default_rng(0).permutation(len(comp.ids))
    plain = load_stored(comp.paths, "awp", comp.task, comp.ids)
    shuffled = load_stored(comp.paths, "awp", comp.task, comp.ids[order])
    np.testing.assert_array_equal(shuffled.pred, plain.pred[order])


def test_unknown_names_list_what_is_there(competition):
    comp = competition("regression", "rmse")
    with pytest.raises(DataError, match="nothing scored yet"):
        stored_folder(comp.paths, "awp")
    comp.train("awp")
    with pytest.raises(DataError, match="make oof COMP=comp EXP=awp"):
        stored_folder(comp.paths, "awp")
    comp.score("awp")
    with pytest.raises(DataError, match="no experiment or ensemble 'apw'; there: awp"):
        stored_folder(comp.paths, "apw")
    with pytest.raises(DataError, match="no seed 7; there: 42"):
        load_stored(comp.paths, "awp@7", comp.task, comp.ids)


@pytest.fixture
def ambiguous(competition):
    """Experiments "a" and "blend", and an ensemble "blend" that was made before the second."""
    comp = competition("regression", "rmse")
    for exp in ("a", "b"):
        comp.train(exp)
        comp.score(exp)
    rows = (comp.ids, comp.y, comp.fold)
    build_ensemble(comp.paths, comp.task, "blend", ["a", "b"], *rows, method="mean", n_samples=20)
    assert stored_names(comp.paths) == ["a", "b", "blend"]
    comp.paths.experiment("b").rename(comp.paths.experiment("blend"))
    return comp


def test_a_plain_name_means_the_experiment(ambiguous):
    paths, task, ids = ambiguous.paths, ambiguous.task, ambiguous.ids
    assert stored_names(paths) == ["a", "blend", "ensembles/blend"]
    assert stored_folder(paths, "blend") == paths.experiment("blend")
    assert stored_folder(paths, "ensembles/blend") == paths.ensemble("blend")
    members = [load_stored(paths, name, task, ids) for name in stored_names(paths)]
    assert [member.name for member in members] == stored_names(paths)
    np.testing.assert_allclose(members[2].pred, (members[0].pred + members[1].pred) / 2)
    assert load_stored(paths, "blend@42", task, ids).seeds == [42]


def test_compare_takes_all_stored_names(ambiguous):
    rows = (ambiguous.ids, ambiguous.y, ambiguous.fold)
    table = compare_experiments(ambiguous.paths, ambiguous.task, *rows, base="a", n_samples=20)
    assert set(table["experiment"]) == {"a", "blend", "ensembles/blend"}
    assert table["score"].nunique() == 3


def test_an_experiment_that_is_not_scored_is_not_mistaken_for_the_ensemble(ambiguous):
    paths = ambiguous.paths
    (paths.experiment("blend") / "scores.json").unlink()
    assert stored_names(paths) == ["a", "ensembles/blend"]
    with pytest.raises(DataError, match="experiment 'blend' is not scored yet"):
        stored_folder(paths, "blend")
    assert stored_folder(paths, "ensembles/blend") == paths.ensemble("blend")


def test_an_ensemble_by_another_metric_is_made_again(ambiguous, make_task):
    task = make_task("regression", "mae")
    with pytest.raises(DataError, match="scored by rmse, not mae: make that ensemble again"):
        load_stored(ambiguous.paths, "ensembles/blend", task, ambiguous.ids)


def test_other_rows_or_another_metric_are_refused(competition):
    comp = competition("regression", "rmse")
    comp.train("awp")
    comp.score("awp")
    with pytest.raises(DataError, match="has 300 rows per seed instead of 299"):
        load_stored(comp.paths, "awp", comp.task, comp.ids[1:])
    other = comp.ids.copy()
    other[0] = "new"
    with pytest.raises(DataError, match=r"1 ids have no prediction .new"):
        load_stored(comp.paths, "awp", comp.task, other)
    path = comp.paths.experiment("awp") / "scores.json"
    write_json(path, read_json(path) | {"metric": "mae"})
    with pytest.raises(DataError, match="scored by mae, not rmse"):
        load_stored(comp.paths, "awp", comp.task, comp.ids)


def test_members_without_weight_do_not_count():
    blend = {"members": ["a", "b", "c"], "weights": [[0.0, 0.0], [0.0, 1.0], [0.5, 0.5]]}
    assert {name: w.tolist() for name, w in members_that_count(blend).items()} == {
        "b": [0.0, 1.0], "c": [0.5, 0.5],
    }  # fmt: skip
    assert list(members_that_count({"members": ["a", "b"], "weights": [0.0, 1.0]})) == ["b"]
