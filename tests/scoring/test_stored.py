"""Stored predictions are found by name, whole or by seed, and refused if they do not fit."""

import numpy as np
import pytest

from oofline.errors import ConfigError, DataError
from oofline.scoring.stored import load_stored, stored_folder, stored_names
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


def test_one_name_for_two_things_must_be_told_apart(competition):
    comp = competition("regression", "rmse")
    comp.train("x")
    comp.score("x")
    write_json(comp.paths.ensemble("x") / "scores.json", {})
    assert stored_names(comp.paths) == ["x", "ensembles/x"]
    with pytest.raises(ConfigError, match="say ensembles/x"):
        stored_folder(comp.paths, "x")
    assert stored_folder(comp.paths, "ensembles/x") == comp.paths.ensemble("x")


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
