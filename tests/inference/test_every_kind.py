"""Stored models of every kind of task predict what training predicted, bit for bit."""

import numpy as np
import pandas as pd
import pytest

from oofline import cli
from oofline.storage import Paths, read_json

CASES = {
    "pair": ("pair", {"pair_swap": "train+test"}, "mean"),
    "pair-swapped-in-training": ("pair", {"pair_swap": "train"}, "mean"),
    "multi-target": ("multi-target", {"max_len": 16, "epochs": 4}, "convex_per_target"),
    "multilabel": ("multilabel", {"metric": "f1_macro", "epochs": 4}, "convex_per_target"),
    "ordinal": ("ordinal", {}, "mean"),
    "ordinal-classes": ("ordinal", {"ordinal": "classes"}, "mean"),
    "ordinal-corn": ("ordinal", {"ordinal": "ordinal"}, "mean"),
    "windows": ("regression", {"windows": 3, "max_len": 8, "window_stride": 2}, "mean"),
}  # fmt: skip


@pytest.fixture(params=CASES)
def both(request, tmp_path, write_competition_at):
    """(trained project with an ensemble of two seeds, empty project with the same input)."""
    kind, settings, method = CASES[request.param]
    root, elsewhere = tmp_path / "trained", tmp_path / "elsewhere"
    settings = {"n": 48, "n_test": 11, "n_folds": 2, "epochs": 1} | settings
    paths = write_competition_at(root, kind, **settings)
    argv = ["--comp", "toy"]
    assert cli.run(["train", *argv, "--seed", "1,2", "--eval-batch-size", "5"], root) == 0
    blend = ["--exps", "base@1,base@2", "--name", "both", "--method", method]
    assert cli.run(["ensemble", *argv, *blend], root) == 0
    (elsewhere / "input").mkdir(parents=True)
    (elsewhere / "input" / "toy").symlink_to(paths.input)
    return paths, Paths("toy", elsewhere)


def predictions(path):
    return pd.read_parquet(path).sort_values(["seed", "id"]).reset_index(drop=True)


def test_predictions_and_submission_are_those_of_training(both, oofline):
    trained, paths = both
    models = ("--comp", "toy", "--exp", "both", "--weights", trained.root)
    code, _, err = oofline(paths.root, "predict", *models, "--check", "--check-rows", "12")
    assert (code, err) == (0, "")
    about = read_json(paths.output / "predict.json")
    assert set(about["max_difference"].values()) == {0.0}
    assert 4 * 5 <= about["check_rows"] < 4 * 24
    for seed in (1, 2):
        for fold in (0, 1):
            pd.testing.assert_frame_equal(
                predictions(paths.fold("base", seed, fold) / "test.parquet"),
                predictions(trained.fold("base", seed, fold) / "test.parquet"), check_exact=True,
            )  # fmt: skip
    weights = np.array(read_json(trained.ensemble("both") / "weights.json")["weights"])
    assert weights.ndim == 1 or (weights[:, 0] != weights[:, 1]).any()
    for root in (trained.root, paths.root):
        assert oofline(root, "submission", "--comp", "toy", "--exp", "both")[0] == 0
    assert paths.submission.read_bytes() == trained.submission.read_bytes()
