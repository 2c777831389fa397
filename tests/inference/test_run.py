"""`oofline predict`: stored models alone give what training gave, for any test file."""

import hashlib

import numpy as np
import pandas as pd
import pytest

from oofline import cli
from oofline.errors import DataError
from oofline.inference import fold as fold_module
from oofline.inference import run as run_module
from oofline.storage import read_json, write_json

TOY = ("--comp", "toy")


def contents(folder):
    return {
        path: hashlib.sha256(path.read_bytes()).digest()
        for path in folder.rglob("*")
        if path.is_file()
    }


def strip_backbone(paths, *exps):
    """The pretrained encoder is not where it was: fold folders must be enough."""
    for exp in exps:
        path = paths.experiment(exp) / "cfg.json"
        write_json(path, read_json(path) | {"model": "/not/there/any/more"})


def as_dataset(paths):
    """Leave of a project what a dataset of weights holds, and no more."""
    keep = {
        "cfg.json", "scores.json", "weights.json", "folds.csv", "folds.json", "folds_groups.csv",
        "model.safetensors", "config.json", "tokenizer.json", "tokenizer_config.json",
    }  # fmt: skip
    for path in [p for p in paths.root.rglob("*") if p.is_file()]:
        in_fold = path.parent.name.startswith("fold")
        of_blend = path.parent.parent.name == "ensembles"
        if path.name not in keep and not (path.name == "oof.parquet" and (in_fold or of_blend)):
            path.unlink()


def predictions(path):
    frame = pd.read_parquet(path)
    return frame.sort_values(["seed", "id"]).reset_index(drop=True)


def test_the_same_test_file_gives_the_very_same_predictions(project, kernel, oofline):
    strip_backbone(project, "base")
    before, paths = contents(project.root), kernel()
    code, out, _ = oofline(paths.root, "predict", *TOY, "--weights", project.root, "--check")
    assert code == 0
    assert contents(project.root) == before  # a dataset is read-only
    for name in ("seed1/fold0", "seed1/fold1", "seed2/fold0", "seed2/fold1", "."):
        pd.testing.assert_frame_equal(
            predictions(paths.experiment("base") / name / "test.parquet"),
            predictions(project.experiment("base") / name / "test.parquet"), check_exact=True,
        )  # fmt: skip
    about = read_json(paths.output / "predict.json")
    assert (about["exp"], about["rows"], about["folds"], about["precision"]) == (
        "base", 12, 4, ["fp32"],
    )  # fmt: skip
    assert set(about["max_difference"]) == {
        f"base/seed{seed}/fold{fold}" for seed in (1, 2) for fold in (0, 1)
    }
    assert set(about["max_difference"].values()) == {0.0}
    assert about["check_rows"] == 4 * 24
    assert 0 < about["forward_seconds"] < about["seconds"]
    assert "predict.json" in out.splitlines()[-1]
    for root in (project.root, paths.root):
        assert oofline(root, "submission", *TOY)[0] == 0
    assert paths.submission.read_bytes() == project.submission.read_bytes()
    hashes = read_json(paths.experiment("base") / "inputs.json")
    assert hashes == read_json(project.experiment("base") / "inputs.json")


@pytest.mark.parametrize("name", ["blend", "ranks", "both"])
def test_ensembles_blend_as_they_did(project, kernel, oofline, name):
    strip_backbone(project, "base", "other")
    assert oofline(project.root, "submission", *TOY, "--exp", name)[0] == 0
    submission = project.submission.read_bytes()
    stored = predictions(project.ensemble(name) / "test.parquet")
    as_dataset(project)
    paths = kernel()
    code, _, _ = oofline(paths.root, "predict", *TOY, "--exp", name, "--weights", project.root)
    assert code == 0
    found = predictions(paths.ensemble(name) / "test.parquet")
    pd.testing.assert_frame_equal(found, stored, rtol=1e-12)
    folds = {"blend": 4, "ranks": 6, "both": 6}[name]  # shared members predict once
    assert read_json(paths.output / "predict.json")["folds"] == folds
    assert oofline(paths.root, "submission", *TOY, "--exp", name)[0] == 0
    assert paths.submission.read_bytes() == submission
    whole = (paths.experiment("base") / "scores.json").is_file()
    assert whole == (name != "blend")  # of one seed alone, nothing claims to be the experiment


def test_a_hidden_test_with_more_rows(project, kernel, hidden, write_test, oofline):
    paths = kernel()
    write_test(paths, hidden)
    code, out, _ = oofline(paths.root, "predict", *TOY, "--weights", project.root)
    assert code == 0
    assert "empty texts: 0 in train, 1 in test" in out
    assert oofline(paths.root, "submission", *TOY)[0] == 0
    assert pd.read_csv(paths.submission)["id"].tolist() == hidden["id"].tolist()
    found = pd.read_parquet(paths.experiment("base") / "test.parquet").groupby("id")
    found = found["pred_target"].mean()[hidden["id"]].to_numpy()
    stored = pd.read_parquet(project.experiment("base") / "test.parquet").groupby("id")
    ids = pd.read_csv(project.input / "test.csv")["id"]
    stored = stored["pred_target"].mean()[ids].to_numpy()
    np.testing.assert_allclose(found[:24], np.tile(stored, 2), rtol=0, atol=1e-6)
    assert np.isfinite(found).all()


def test_predicting_again_for_another_test_file(project, kernel, hidden, write_test, oofline):
    paths = kernel()
    argv = ("predict", *TOY, "--exp", "ranks", "--weights", project.root)
    assert oofline(paths.root, *argv)[0] == 0
    write_test(paths, hidden)
    assert oofline(paths.root, *argv)[0] == 0
    assert oofline(paths.root, "submission", *TOY, "--exp", "ranks")[0] == 0
    assert len(pd.read_csv(paths.submission)) == len(hidden)


def test_one_process_per_device_gives_the_same(project, kernel, oofline, forked):
    alone, shared = kernel("alone"), kernel("shared")
    argv = ("predict", *TOY, "--weights", project.root, "--check")
    assert oofline(alone.root, *argv)[0] == 0
    code, _, err = oofline(shared.root, *argv, "--device", "cpu,cpu")
    assert (code, err) == (0, "")
    about = read_json(shared.output / "predict.json")
    assert about["devices"] == ["cpu/1", "cpu/2"]
    assert set(about["max_difference"].values()) == {0.0}
    pd.testing.assert_frame_equal(
        *(predictions(p.experiment("base") / "test.parquet") for p in (alone, shared)),
        check_exact=True,
    )


def test_a_worker_that_fails_names_the_fold(project, kernel, oofline, forked):
    (project.fold("base", 2, 1) / "config.json").write_text("{}")
    code, _, err = oofline(
        kernel().root, "predict", *TOY, "--weights", project.root, "--device", "cpu,cpu"
    )
    assert code == 2
    assert "base seed 2 fold 1 on cpu/" in err
    assert "config.json is not the file that this fold was trained with" in err
    assert len(err.splitlines()) == 1


# ---- models that were trained in this project


def test_here_an_unchanged_test_file_is_left_alone(project, oofline, monkeypatch):
    before = contents(project.output)
    monkeypatch.setattr(run_module, "_predict", lambda *a: pytest.fail("predicted again"))
    code, out, _ = oofline(project.root, "predict", *TOY)
    assert code == 0
    assert "nothing to do" in out
    before.pop(project.output / "oofline.log")
    after = contents(project.output)
    after.pop(project.output / "oofline.log")
    assert after == before


def test_here_a_check_writes_no_predictions(project, oofline):
    test = project.experiment("base") / "test.parquet"
    before = test.stat().st_mtime_ns
    code, _, _ = oofline(project.root, "predict", *TOY, "--check", "--check-rows", "8")
    assert code == 0
    assert test.stat().st_mtime_ns == before
    about = read_json(project.output / "predict.json")
    assert set(about["max_difference"].values()) == {0.0}


def test_here_another_test_file_replaces_every_prediction(project, hidden, write_test, oofline):
    write_test(project, hidden)
    assert oofline(project.root, "oof", *TOY)[0] == 2
    code, _, _ = oofline(project.root, "predict", *TOY, "--exp", "blend")  # needs base@2 only
    assert code == 0
    for exp in ("base", "other"):
        assert oofline(project.root, "oof", *TOY, "--exp", exp)[0] == 0
        assert oofline(project.root, "submission", *TOY, "--exp", exp)[0] == 0
    assert oofline(project.root, "train", *TOY, "--from", "base", "--seed", "1")[0] == 0


def test_here_an_interrupted_prediction_mixes_nothing(
    project, hidden, write_test, oofline, monkeypatch
):
    ids = pd.read_csv(project.input / "test.csv")["id"]  # the same ids, other texts
    write_test(project, hidden.iloc[:12].assign(id=ids, text="other " + hidden["text"].iloc[:12]))
    real, calls = fold_module.predict, []

    def failing(*args, **kwargs):
        calls.append(1)
        if len(calls) == 2:
            raise DataError("cannot write: No space left on device")
        return real(*args, **kwargs)

    with monkeypatch.context() as patch:
        patch.setattr(fold_module, "predict", failing)
        assert oofline(project.root, "predict", *TOY)[0] == 2
    assert oofline(project.root, "submission", *TOY)[0] == 2
    assert read_json(project.experiment("base") / "inputs.json")["test file"] == ""
    assert oofline(project.root, "predict", *TOY)[0] == 0
    assert oofline(project.root, "submission", *TOY)[0] == 0


# ---- what is refused, in one line, with nothing written


@pytest.mark.parametrize(("argv", "says"), [
    (["--weights", "{project}", "--max-len", "16"], "leave out --max-len"),
    (["--weights", "{project}", "--exp", "nothing"], "no experiment or ensemble 'nothing'; there:"),
    (["--weights", "/nowhere"], "no experiment or ensemble"),
    (["--weights", "{project}", "--device", "cuda:7"], "CUDA GPUs"),
    ([], "no experiment or ensemble"),
])  # fmt: skip
def test_bad_input(project, kernel, oofline, argv, says):
    paths = kernel()
    argv = [word.format(project=project.root) for word in argv]
    code, _, err = oofline(paths.root, "predict", *TOY, *argv)
    assert code == 2
    assert says in err
    assert len(err.splitlines()) == 1
    assert not (paths.output / "base").exists()


def test_what_was_trained_here_is_not_replaced(trained, project, oofline):
    before = contents(project.experiment("base"))
    code, _, err = oofline(project.root, "predict", *TOY, "--weights", trained.root)
    assert code == 2
    assert "is trained here: leave out --weights" in err
    assert contents(project.experiment("base")) == before


def test_other_folds_here_are_refused(project, kernel, oofline):
    paths = kernel()
    assert cli.run(["folds", *TOY, "--n-folds", "3"], paths.root) == 0
    code, _, err = oofline(paths.root, "predict", *TOY, "--weights", project.root)
    assert code == 2
    assert "holds other folds" in err


def test_other_classes_are_refused(project, kernel, oofline):
    paths = kernel()
    train = pd.read_csv(paths.input / "train.csv")
    path = project.fold("base", 1, 0) / "oof.parquet"
    frame = pd.read_parquet(path).rename(columns={"pred_target": "pred_goal"})
    frame.to_parquet(path)
    code, _, err = oofline(paths.root, "predict", *TOY, "--weights", project.root)
    assert code == 2
    assert "holds pred_goal, but train.csv gives target" in err
    assert len(train) == 48
