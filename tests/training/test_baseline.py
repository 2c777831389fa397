"""Baselines through the whole pipeline: the same files, commands and checks as a transformer's."""

import hashlib
import os
import signal

import numpy as np
import pandas as pd
import pytest

from oofline.cli import run
from oofline.crossval import train_units
from oofline.errors import ConfigError, DataError, OoflineError, Stopped
from oofline.storage import read_json
from oofline.training import baseline as baseline_module

FAST = ["--wandb", "disabled", "--lgbm-min-rows", "3"]


@pytest.fixture
def oofline(tmp_path):
    """oofline(words, ...) runs a verb on the toy competition and wants exit code 0."""

    def call(*words, code=0):
        assert run([*words, "--comp", "toy"], tmp_path) == code

    return call


def digest(folder, *names):
    return [hashlib.sha256((folder / name).read_bytes()).hexdigest() for name in names]


def test_from_training_to_a_submission_beside_a_transformer(write_competition, oofline):
    paths = write_competition("multiclass")
    oofline("train", "--exp", "base", "--epochs", "1", *FAST)
    oofline("train", "--exp", "lgbm", "--kind", "lightgbm", "--seed", "1,2", *FAST)
    oofline("train", "--exp", "lin", "--kind", "logistic", *FAST)
    oofline("oof", "--exp", "lgbm")
    oofline("ensemble", "--exps", "base,lgbm,lin@42", "--name", "mix")
    oofline("compare", "--base", "base")
    oofline("submission", "--exp", "mix")
    table = pd.read_csv(paths.output / "compare.csv")
    assert {"base", "lgbm", "lin", "mix"} <= set(table["experiment"])
    assert paths.submission.exists()
    scores = read_json(paths.experiment("lgbm") / "scores.json")
    assert (scores["seeds"], scores["folds"]) == ([1, 2], [0, 1, 2])
    assert scores["score"] > 0.5
    pictures = {p.name for p in (paths.experiment("lgbm") / "pictures").iterdir()}
    assert pictures >= {"importance.png", "importance.csv", "learning_curves.png",
                        "confusion.png", "worst_rows.csv"}  # fmt: skip
    linear = {p.name for p in (paths.experiment("lin") / "pictures").iterdir()}
    assert "importance.png" in linear
    assert "learning_curves.png" not in linear


@pytest.mark.parametrize("kind", ["lightgbm", "ridge"])
def test_files_of_a_fold_are_those_of_any_fold(write_competition, load_settings, kind):
    paths = write_competition("regression")
    cfg = load_settings(paths, kind=kind, lgbm_min_rows=3)
    assert train_units(cfg, paths, [0, 1], [42]) == 2
    folder = paths.fold("base", 42, 0)
    names = {path.name for path in folder.iterdir()} - {".lock"}
    model = {"lightgbm": "model0.txt", "ridge": "model0.safetensors"}[kind]
    assert names == {model, "features.json", "features.safetensors", "importance.csv",
                     "oof.parquet", "test.parquet", "history.csv", "scores.json"}  # fmt: skip
    oof = pd.read_parquet(folder / "oof.parquet")
    assert list(oof.columns) == ["id", "seed", "fold", "pred_target", "last_target", "best_target"]
    assert list(pd.read_parquet(folder / "test.parquet").columns)[3:] == ["pred_target"]
    scores = read_json(folder / "scores.json")
    assert {"metric", "greater_is_better", "score", "score_last", "ci95", "n_rows", "folds",
            "seeds", "minutes", "samples_per_s"} <= set(scores)  # fmt: skip
    history = pd.read_csv(folder / "history.csv")
    assert history["score"].iloc[-1] == pytest.approx(scores["score"])
    assert read_json(paths.experiment("base") / "inputs.json")["dictionary"] == ""


@pytest.mark.parametrize("kind", ["lightgbm", "logistic"])
def test_a_killed_fold_starts_again_with_the_same_result(
    write_competition, load_settings, monkeypatch, kind
):
    paths = write_competition("binary")
    names = "oof.parquet", "test.parquet", "features.json", "importance.csv"
    for exp in ("whole", "killed"):
        cfg = load_settings(paths, kind=kind, exp=exp, lgbm_min_rows=3)
        if exp == "killed":
            with monkeypatch.context() as patch:
                patch.setattr(baseline_module, "write_results", _die)
                with pytest.raises(RuntimeError, match="killed"):
                    train_units(cfg, paths, [1], [5])
        assert train_units(cfg, paths, [1], [5]) == 1
    assert digest(paths.fold("whole", 5, 1), *names) == digest(paths.fold("killed", 5, 1), *names)


def _die(*_):
    raise RuntimeError("killed")


def test_an_interrupt_leaves_no_half_fold(write_competition, load_settings, monkeypatch):
    paths = write_competition("binary")
    cfg = load_settings(paths, kind="lightgbm", lgbm_min_rows=3)
    fit = baseline_module.fit_baseline

    def interrupted(*args):
        os.kill(os.getpid(), signal.SIGINT)
        return fit(*args)

    with monkeypatch.context() as patch:
        patch.setattr(baseline_module, "fit_baseline", interrupted)
        with pytest.raises(Stopped, match="interrupted in seed 42 fold 0") as stop:
            train_units(cfg, paths, [0], [42])
    assert stop.value.exit_code == 130
    assert not (paths.fold("base", 42, 0) / "scores.json").exists()
    assert train_units(cfg, paths, [0], [42]) == 1


@pytest.mark.parametrize("settings", [
    {"tfidf_words": "0-2"}, {"tfidf_normalize": "upper"}, {"extra_cols": "nothing"},
    {"metric": "f2"}, {"tfidf_min_rows": 500}, {"kind": "logistic", "task": "regression"},
    {"tfidf_words": "", "tfidf_chars": ""}, {"awp_last_epochs": 1}, {"lgbm_lr": 0.0},
    {"lora_r": 4}, {"pseudo": "soft"},
])  # fmt: skip
def test_a_wrong_setting_claims_nothing(write_competition, load_settings, settings):
    paths = write_competition("binary")
    with pytest.raises(OoflineError) as error:
        train_units(load_settings(paths, **({"kind": "ridge"} | settings)), paths, [0], [42])
    assert "\n" not in str(error.value)
    assert not paths.output.exists()


@pytest.mark.parametrize("kind", ["ridge", "logistic", "lightgbm"])
def test_answers_are_refused_before_anything_is_written(
    write_competition, load_settings, oofline, capsys, kind
):
    paths = write_competition("qa")
    oofline("train", "--kind", kind, code=2)
    err = capsys.readouterr().err
    assert err.count("\n") == 1
    assert f'kind = "{kind}" finds no answers in a context (qa): use "transformer"' in err
    assert not paths.experiment("base").exists()


def test_no_backbone_is_looked_for(write_competition, load_settings):
    paths = write_competition("binary", model="no/such/model")
    assert train_units(load_settings(paths, kind="ridge"), paths, [0], [42]) == 1


def test_another_kind_is_another_experiment(write_competition, load_settings):
    paths = write_competition("binary")
    train_units(load_settings(paths, kind="ridge"), paths, [0], [42])
    with pytest.raises(ConfigError, match="kind: 'ridge' there, 'logistic' now"):
        train_units(load_settings(paths, kind="logistic"), paths, [1], [42])


def test_folds_of_another_dictionary_are_never_mixed(write_competition, load_settings, monkeypatch):
    pytest.importorskip("fugashi", reason="fugashi is not installed")
    pytest.importorskip("ipadic", reason="ipadic is not installed")
    paths = write_competition("binary")
    cfg = load_settings(paths, kind="ridge", word_splitter="mecab")
    train_units(cfg, paths, [0], [42])
    assert read_json(paths.experiment("base") / "inputs.json")["dictionary"].startswith("ipadic ")
    monkeypatch.setattr("oofline.claim.dictionary_version", lambda _: "ipadic 9")
    with pytest.raises(DataError, match="was started with another dictionary"):
        train_units(cfg, paths, [1], [42])


def test_predictions_that_are_not_finite_end_the_fold(
    write_competition, load_settings, monkeypatch
):
    paths = write_competition("regression")
    cfg = load_settings(paths, kind="ridge")
    undefined = lambda self, x: np.full((x.shape[0], 1), np.nan)  # noqa: E731
    monkeypatch.setattr("oofline.baselines.fitting.Baseline.predict", undefined)
    with pytest.raises(OoflineError, match="predictions are not finite"):
        train_units(cfg, paths, [0], [42])
    assert not (paths.fold("base", 42, 0) / "scores.json").exists()


def test_lr_find_is_for_transformers(write_competition, oofline, capsys):
    write_competition("binary")
    oofline("lr-find", "--kind", "ridge", code=2)
    assert 'lr-find is for kind "transformer"' in capsys.readouterr().err


def test_a_missing_importance_file_says_which_fold_to_train_again(
    write_competition, oofline, capsys
):
    paths = write_competition("binary")
    oofline("train", "--kind", "ridge", *FAST)
    (paths.fold("base", 42, 1) / "importance.csv").unlink()
    oofline("oof", code=2)
    assert "importance.csv does not exist: delete" in capsys.readouterr().err
