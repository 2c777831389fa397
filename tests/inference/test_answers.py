"""Question answering from training to a submission with other tokenizers, and by stored models."""

import shutil

import numpy as np
import pandas as pd
import pytest

from oofline import cli
from oofline.blocks import largest_difference, weighted_sum
from oofline.data.competition import read_competition
from oofline.results import prediction_array
from oofline.scoring.answers import answers_from
from oofline.scoring.oof import read_parquet
from oofline.storage import Paths, read_json

TOY = ("--comp", "toy")


@pytest.fixture
def project(write_competition, tiny_model):
    """Word pieces and bytes: two experiments on the same folds, and their blend."""
    paths = write_competition(
        "qa", n=40, n_test=9, epochs=1, n_folds=2, lr=3e-3, max_len=64, eval_batch_size=4
    )
    test = pd.read_csv(paths.input / "test.csv", dtype=str, na_filter=False)
    test.loc[0, "context"] = 'the "good red" 1,\nfire\n'
    test.to_csv(paths.input / "test.csv", index=False)

    def run(*argv):
        assert cli.run([argv[0], *TOY, *argv[1:]], paths.root) == 0

    run("train", "--seed", "1,2")
    run("train", "--exp", "bytes", "--model", str(tiny_model("modernbert")), "--seed", "1")
    run("ensemble", "--exps", "base,bytes", "--name", "both", "--method", "mean")
    return paths, run


def stored(paths, task, name):
    frame = read_parquet(paths.output / name / "test.parquet")
    parts = [prediction_array(task, frame[frame["seed"] == s]) for s in frame["seed"].unique()]
    return weighted_sum(np.full(len(parts), 1 / len(parts)), parts)


def test_other_tokenizers_blend_by_characters(project, load_settings):
    paths, run = project
    competition = read_competition(load_settings(paths), paths)
    task, contexts = competition.task, [context for _, context in competition.test_pairs]
    members = [stored(paths, task, name) for name in ("base", "bytes")]
    pieces, bytes_ = ({*block.indices.tolist()} for block in members)
    assert bytes_ - pieces  # single letters inside words: no word piece starts or ends there
    weights = read_json(paths.ensemble("both") / "weights.json")["weights"]
    blended = stored(paths, task, "ensembles/both")
    assert largest_difference(blended, weighted_sum(np.array(weights), members)) < 1e-6
    totals = blended[:, ::2].sum(axis=1), blended[:, 1::2].sum(axis=1)
    np.testing.assert_allclose(totals, 1, atol=1e-3)  # each side is one distribution
    run("submission", "--exp", "both")
    found = pd.read_csv(paths.submission, dtype=str, na_filter=False)
    assert (
        found["PredictionString"].tolist() == answers_from(contexts, blended, task.longest).tolist()
    )
    assert all(
        text and text in whole for text, whole in zip(found.iloc[:, 1], contexts, strict=True)
    )
    scores = read_json(paths.ensemble("both") / "scores.json")
    assert 0 <= scores["beside"]["exact_match"] <= scores["score"] <= 1
    run("compare")
    assert set(pd.read_csv(paths.output / "compare.csv")["experiment"]) == {"base", "bytes", "both"}


def test_stored_models_predict_what_training_did(project, tmp_path, load_settings):
    paths, run = project
    kernel = Paths("toy", tmp_path / "kernel")
    shutil.copytree(paths.input, kernel.input, ignore=shutil.ignore_patterns("cfg.toml"))
    argv = ["predict", *TOY, "--exp", "both", "--weights", str(paths.root), "--check"]
    assert cli.run(argv, kernel.root) == 0
    about = read_json(kernel.output / "predict.json")
    assert about["check_rows"] > 0
    assert max(about["max_difference"].values()) < 1e-5
    task = read_competition(load_settings(paths), paths).task
    for name in ("base", "bytes", "ensembles/both"):
        there, here = (stored(p, task, name) for p in (paths, kernel))
        assert largest_difference(there, here) < 1e-5
    assert cli.run(["submission", *TOY, "--exp", "both"], kernel.root) == 0
    run("submission", "--exp", "both")
    assert kernel.submission.read_bytes() == paths.submission.read_bytes()
