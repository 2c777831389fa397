"""Collecting folds: joined by id, complete, each row once, and every inconsistency refused."""

import numpy as np
import pandas as pd
import pytest

from oofline.errors import DataError
from oofline.results import prediction_array
from oofline.scoring.oof import complete_seeds


def edit(path, change):
    """Rewrite a parquet file as ``change(frame)``."""
    change(pd.read_parquet(path)).to_parquet(path)


@pytest.mark.parametrize("kind", ["binary", "multiclass", "regression"])
def test_predictions_come_back_joined_by_id(kind, competition):
    comp = competition(kind, {"regression": "rmse"}.get(kind, "accuracy"))
    preds = {seed: comp.noisy(1.0, seed) for seed in (42, 7)}
    for seed, pred in preds.items():
        for k in range(3):
            comp.write_fold("base", seed, k, pred)
    oof = comp.collect("base")
    assert oof.seeds == (7, 42)
    assert oof.folds == [0, 1, 2]
    assert (oof.ids == comp.ids).all()
    np.testing.assert_array_equal(oof.blocks["pred"][1], preds[42])
    np.testing.assert_array_equal(oof.blocks["best"][0], preds[7])
    expected = np.mean([comp.noisy(0.1, 42 + k, comp.test_truth) for k in range(3)], axis=0)
    np.testing.assert_allclose(oof.test[1], expected)
    assert (oof.test_ids == comp.test_ids).all()


def test_seeds_can_be_chosen(competition):
    comp = competition("regression", "rmse")
    comp.train("base", seeds=(1, 2, 3))
    assert comp.collect("base", [3, 1]).seeds == (3, 1)


def test_rows_without_a_fold_are_left_out(competition):
    comp = competition("regression", "rmse")
    comp.fold[:50] = -1
    comp.train("base")
    oof = comp.collect("base")
    assert (oof.rows == np.arange(50, 300)).all()
    assert oof.blocks["pred"].shape == (1, 250, 1)


def test_missing_folds_are_listed_with_the_command(competition):
    comp = competition("regression", "rmse", n_folds=5)
    comp.train("base", seeds=(42, 43))
    (comp.paths.fold("base", 42, 3) / "scores.json").unlink()
    (comp.paths.fold("base", 42, 4) / "scores.json").unlink()
    (comp.paths.fold("base", 43, 0) / "scores.json").unlink()
    message = (
        r"seed 42: folds 3, 4 missing: run `make train COMP=comp EXP=base FOLD=3,4 SEED=42`; "
        r"seed 43: fold 0 missing"
    )
    with pytest.raises(DataError, match=message):
        comp.collect("base")


def test_complete_seeds_can_be_told_from_the_others(competition):
    comp = competition("regression", "rmse", n_folds=5)
    comp.fold[:10] = -1
    comp.train("base", seeds=(42, 43, 7))
    assert complete_seeds(comp.paths, "base", comp.fold) == ([7, 42, 43], {})
    for k in (4, 1):
        (comp.paths.fold("base", 42, k) / "scores.json").unlink()
    comp.paths.fold("base", 50, 0).mkdir(parents=True)
    complete, missing = complete_seeds(comp.paths, "base", comp.fold)
    assert complete == [7, 43]
    assert missing == {42: [1, 4], 50: [0, 1, 2, 3, 4]}
    assert comp.collect("base", complete).seeds == (7, 43)
    with pytest.raises(DataError, match="seed 42: folds 1, 4 missing"):
        comp.collect("base")
    with pytest.raises(DataError, match="holds no trained seed"):
        complete_seeds(comp.paths, "never", comp.fold)


def test_an_experiment_that_was_never_trained(competition):
    with pytest.raises(DataError, match="make train COMP=comp EXP=base FOLD=all"):
        competition("regression", "rmse").collect("base")


def repeat_first(frame):
    return pd.concat([frame, frame[:1]])


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (repeat_first, "ids stand twice"),
        (lambda f: f[1:], "folds.csv changed since training"),
        (lambda f: f.assign(id=["new", *f["id"][1:]]), "1 ids are not in train.csv .new."),
        (lambda f: f.assign(pred_target0=np.nan), "not finite"),
        (lambda f: f.assign(last_target0=np.inf), "not finite"),
        (lambda f: f.drop(columns="pred_target0"), "no column pred_target0"),
    ],
)
def test_inconsistent_fold_files_are_refused(change, message, competition):
    comp = competition("regression", "rmse")
    comp.train("base")
    edit(comp.paths.fold("base", 42, 1) / "oof.parquet", change)
    with pytest.raises(DataError, match=message):
        comp.collect("base")


def test_rows_of_another_fold_are_refused(competition):
    comp = competition("regression", "rmse")
    comp.train("base")
    a, b = np.flatnonzero(comp.fold == 0)[0], np.flatnonzero(comp.fold == 1)[0]
    comp.fold[[a, b]] = comp.fold[[b, a]]
    with pytest.raises(DataError, match=r"1 of its 100 rows are not in fold 0.*folds.csv changed"):
        comp.collect("base")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda f: f[2:], "2 ids have no prediction"),
        (repeat_first, "ids stand twice"),
        (lambda f: f.assign(pred_target0=np.nan), "not finite"),
    ],
)
def test_inconsistent_test_files_are_refused(change, message, competition):
    comp = competition("regression", "rmse")
    comp.train("base")
    edit(comp.paths.fold("base", 42, 2) / "test.parquet", change)
    with pytest.raises(DataError, match=message):
        comp.collect("base")


def test_a_damaged_file_is_named(competition):
    comp = competition("regression", "rmse")
    comp.train("base")
    (comp.paths.fold("base", 42, 2) / "oof.parquet").write_bytes(b"half")
    with pytest.raises(DataError, match=r"fold2.oof.parquet cannot be read"):
        comp.collect("base")
    (comp.paths.fold("base", 42, 2) / "oof.parquet").unlink()
    with pytest.raises(DataError, match=r"fold2.oof.parquet does not exist"):
        comp.collect("base")


def test_written_files_hold_every_id_once_per_seed(competition):
    comp = competition("multiclass", "accuracy")
    comp.train("base", seeds=(1, 2))
    comp.score("base")
    folder = comp.paths.experiment("base")
    frame = pd.read_parquet(folder / "oof.parquet")
    assert list(frame.columns[:4]) == ["id", "seed", "fold", "pred_class0"]
    assert {"last_class2", "best_class1"} <= set(frame.columns)
    for seed in (1, 2):
        part = frame[frame["seed"] == seed]
        assert (part["id"].to_numpy() == comp.ids).all()
        assert (part["fold"].to_numpy() == comp.fold).all()
        stored = prediction_array(comp.task, part)
        assert (stored == comp.collect("base", [seed]).blocks["pred"][0]).all()
    test = pd.read_parquet(folder / "test.parquet")
    assert (test["fold"] == -1).all()
    assert len(test) == 2 * len(comp.test_ids)
