import json
import os
import shutil
import signal

import pandas as pd
import pytest
from filelock import FileLock
from safetensors.torch import load_file, save_file

from oofline import cli, crossval
from oofline.crossval import is_done, parse_folds, parse_seeds, train_units
from oofline.data.competition import read_competition
from oofline.data.folds import ensure_folds
from oofline.errors import ConfigError, DataError, OoflineError, Stopped
from oofline.storage import read_json, write_json
from oofline.training import fold as fold_module


@pytest.mark.parametrize(("text", "folds"), [
    ("all", [0, 1, 2, 3, 4]), ("0", [0]), ("0,2", [0, 2]), ("1-3", [1, 2, 3]),
    ("4,0-1,1", [0, 1, 4]), (" 2 ", [2]),
])  # fmt: skip
def test_fold_lists(text, folds):
    assert parse_folds(text, 5) == folds


@pytest.mark.parametrize("text", ["", "a", "1-", "-1", "3-1", "0;1", "0,,1", "1.0"])
def test_what_is_not_a_fold_list(text):
    with pytest.raises(ConfigError, match=r"FOLD=.*use all, 0"):
        parse_folds(text, 5)


def test_a_fold_out_of_range_names_those_there_are():
    with pytest.raises(ConfigError, match="no fold 5, they are 0-4"):
        parse_folds("3-5", 5)


def test_seed_lists_keep_their_order():
    assert parse_seeds("43,42,43") == [43, 42]
    with pytest.raises(ConfigError, match="SEED="):
        parse_seeds("x")


def test_finished_folds_are_not_trained_again(write_competition, load_settings, monkeypatch):
    paths = write_competition()
    cfg = load_settings(paths, epochs=1)
    assert train_units(cfg, paths, [0, 2], [42]) == 2
    assert is_done(paths.fold("base", 42, 2))
    assert not is_done(paths.fold("base", 42, 1))
    trained = []
    train = crossval.train_fold
    monkeypatch.setattr(crossval, "train_fold", lambda *a: trained.append(a[2:4]) or train(*a))
    assert train_units(cfg, paths, [0, 1, 2], [42]) == 1
    assert trained == [(42, 1)]
    monkeypatch.setattr(crossval, "prepare", lambda *a: pytest.fail("nothing was left to do"))
    assert train_units(cfg, paths, [0, 1, 2], [42]) == 0


def test_a_fold_that_another_process_trains_is_passed_over(
    write_competition, load_settings, capsys
):
    paths = write_competition()
    cfg = load_settings(paths, epochs=1)
    folder = paths.fold("base", 42, 1)
    folder.mkdir(parents=True)
    with FileLock(folder / ".lock"):
        assert train_units(cfg, paths, [0, 1], [42]) == 1
    assert "fold 1: another process is training it" in capsys.readouterr().out


def test_folds_of_a_baseline_are_rows_with_their_score(write_competition, load_settings, capsys):
    paths = write_competition(kind="binary", n=48)
    cfg = load_settings(paths, kind="ridge", metric="accuracy")
    assert train_units(cfg, paths, [0, 1], [42]) == 2
    score = read_json(paths.fold("base", 42, 1) / "scores.json")["score"]
    line = next(
        x for x in capsys.readouterr().out.splitlines() if x.startswith("seed 42 fold 1 on")
    )
    assert line.startswith("seed 42 fold 1 on cpu: done in ")
    assert line.endswith(f"accuracy {score:.4g}; units: 2 done")


def test_the_last_line_names_folds_that_are_left_to_another_process(write_competition, capsys):
    paths = write_competition(kind="binary", n=48)
    words = ["train", "--comp", "toy", "--kind", "ridge", "--seed", "1,2"]
    for fold in (0, 2):
        paths.fold("base", 2, fold).mkdir(parents=True)
    with FileLock(paths.fold("base", 2, 0) / ".lock"), FileLock(paths.fold("base", 2, 2) / ".lock"):
        assert cli.run(words, paths.root) == 0
    out = capsys.readouterr().out
    assert "open " in out  # seed 1 is complete, so it is scored
    assert out.splitlines()[-1] == (
        "not trained, as another process is at it: base seed 2 fold 0, base seed 2 fold 2; run "
        "the same command again afterwards"
    )
    assert cli.run(words, paths.root) == 0
    assert "another process" not in capsys.readouterr().out


def test_changed_settings_are_refused_with_the_difference(write_competition, load_settings):
    paths = write_competition()
    train_units(load_settings(paths, epochs=1), paths, [0], [42])
    with pytest.raises(ConfigError, match=r"lr: 0.001 there, 0.002 now.*choose another EXP") as e:
        train_units(load_settings(paths, epochs=1, lr=2e-3), paths, [1], [42])
    assert "\n" not in str(e.value)
    assert read_json(paths.experiment("base") / "cfg.json")["lr"] == 1e-3


def test_runtime_settings_may_change(write_competition, load_settings):
    paths = write_competition()
    train_units(load_settings(paths, epochs=1), paths, [0], [42])
    changed = load_settings(paths, epochs=1, time_limit_hours=1.0, save_minutes=1.0)
    assert train_units(changed, paths, [1], [42]) == 1
    assert read_json(paths.experiment("base") / "cfg.json")["time_limit_hours"] == 1.0


@pytest.mark.parametrize("settings", [
    {"metric": "f2"}, {"metric": "rmse", "task": "binary"}, {"loss": "mse"},
    {"pooling": "last-k", "pooling_layers": 9},
    {"max_len": 5000}, {"lr": 0.0}, {"model": "no/such/model"}, {"text_col": "txt"},
    {"n_folds": 80}, {"device": "cuda:7"},
])  # fmt: skip
def test_a_wrong_setting_claims_nothing(write_competition, load_settings, settings):
    paths = write_competition()
    with pytest.raises(OoflineError) as error:
        train_units(load_settings(paths, epochs=1, **settings), paths, [0], [42])
    assert "\n" not in str(error.value)
    assert not paths.output.exists()
    assert train_units(load_settings(paths, epochs=1), paths, [0], [42]) == 1


@pytest.mark.parametrize("what", ["train file", "test file", "folds.csv", "encoder"])
def test_folds_of_other_inputs_are_never_mixed(
    write_competition, load_settings, tmp_path, tiny_model, what
):
    model = shutil.copytree(tiny_model("bert"), tmp_path / "encoder")
    paths = write_competition(model=str(model), fold_scheme="kfold")
    cfg = load_settings(paths, epochs=1)
    train_units(cfg, paths, [0], [42])
    if what == "train file":  # the same ids in the same folds, other labels
        train = pd.read_csv(paths.input / "train.csv")
        train.assign(target=1 - train["target"]).to_csv(paths.input / "train.csv", index=False)
        for path in paths.output.glob("folds*"):
            path.unlink()
    elif what == "test file":
        test = pd.read_csv(paths.input / "test.csv")
        test.assign(text="other").to_csv(paths.input / "test.csv", index=False)
    elif what == "folds.csv":
        for path in paths.output.glob("folds*"):
            path.unlink()
        ensure_folds(load_settings(paths, fold_seed=7), paths, read_competition(cfg, paths))
        made = read_json(paths.folds.with_suffix(".json"))
        made["settings"]["fold_seed"] = cfg.fold_seed
        write_json(paths.folds.with_suffix(".json"), made)
    else:
        weights = load_file(model / "model.safetensors")
        save_file({k: v + 1 for k, v in weights.items()}, model / "model.safetensors")
    with pytest.raises(DataError, match=f"was started with another (train file and )?{what}"):
        train_units(cfg, paths, [1], [42])


def test_an_ensembles_name_is_taken(write_competition, load_settings):
    paths = write_competition()
    write_json(paths.ensemble("blend") / "scores.json", {})
    with pytest.raises(ConfigError, match="name of an ensemble"):
        train_units(load_settings(paths, exp="blend"), paths, [0], [42])


def test_a_first_training_says_what_it_found_and_that_it_made_folds(
    write_competition, load_settings, capsys
):
    paths = write_competition()
    train_units(load_settings(paths, epochs=1), paths, [0], [42])
    first = capsys.readouterr().out
    for part in ("task: binary", "metric f1", 'column "text"', "scheme stratified", "leak audit"):
        assert part in first
    train_units(load_settings(paths, epochs=1), paths, [1], [42])
    assert "leak audit" not in capsys.readouterr().out


def test_ctrl_c_during_the_last_prediction_is_not_swallowed(
    write_competition, load_settings, monkeypatch
):
    paths = write_competition()
    result = fold_module._FoldRun.result

    def interrupted(self):
        os.kill(os.getpid(), signal.SIGINT)
        return result(self)

    with monkeypatch.context() as patch:
        patch.setattr(fold_module._FoldRun, "result", interrupted)
        with pytest.raises(Stopped, match="while predicting seed 42 fold 2") as stop:
            train_units(load_settings(paths, epochs=1, save_minutes=0), paths, [2], [42])
    assert stop.value.exit_code == 130
    assert train_units(load_settings(paths, epochs=1), paths, [2], [42]) == 1


def test_a_changed_train_file_is_refused(write_competition, load_settings):
    paths = write_competition()
    cfg = load_settings(paths, epochs=1)
    train_units(cfg, paths, [0], [42])
    train = paths.input / "train.csv"
    train.write_text(train.read_text().replace("r0001", "r9999"))
    with pytest.raises(DataError, match=r"train file changed since"):
        train_units(cfg, paths, [1], [42])


def test_an_absent_gpu_is_refused_before_anything_is_written(write_competition, load_settings):
    paths = write_competition()
    with pytest.raises(ConfigError, match="CUDA GPUs"):
        train_units(load_settings(paths, device="cuda:7"), paths, [0], [42])
    assert not paths.output.exists()


def test_no_time_left_between_folds(write_competition, load_settings, monkeypatch):
    paths = write_competition()
    cfg = load_settings(paths, epochs=1, time_limit_hours=1e-6)
    with pytest.raises(Stopped, match="seed 42 fold 0 and what follows is left"):
        train_units(cfg, paths, [0], [42])


def test_files_of_a_fold(write_competition, load_settings):
    paths = write_competition("multiclass")
    train_units(load_settings(paths, epochs=1), paths, [0], [42])
    folder = paths.fold("base", 42, 0)
    names = {p.name for p in folder.iterdir()}
    assert names >= {
        "model.safetensors", "config.json", "tokenizer.json", "tokenizer_config.json",
        "oof.parquet", "test.parquet", "scores.json", "history.csv",
    }  # fmt: skip
    scores = read_json(folder / "scores.json")
    assert {"metric", "greater_is_better", "score", "score_last", "ci95", "n_rows", "folds",
            "seeds", "minutes"} <= set(scores)  # fmt: skip
    assert (scores["folds"], scores["seeds"], scores["metric"]) == ([0], [42], "accuracy")
    assert json.loads((paths.experiment("base") / "cfg.json").read_text())["epochs"] == 1
