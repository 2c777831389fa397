"""Going on from an earlier state in another folder: bit-identical, whole, and never mixed."""

import hashlib
import shutil

import pandas as pd
import pytest
from safetensors.torch import load_file

from oofline import cli
from oofline.crossval import is_done, train_units
from oofline.errors import ConfigError, DataError, OoflineError, Stopped
from oofline.models.kept import backbone_of, kept_files
from oofline.storage import Paths, read_json, write_json
from oofline.takeup import take_up
from oofline.training import guard as guard_module

SETTINGS = {"epochs": 3, "dropout": 0.1, "evals_per_epoch": 2.0, "checkpoint": "average"}


def contents(folder):
    return {
        path.relative_to(folder): (hashlib.sha256(path.read_bytes()).digest(), path.stat().st_mtime)
        for path in folder.rglob("*")
        if path.is_file()
    }


@pytest.fixture
def versions(write_competition_at, load_settings, tmp_path, monkeypatch):
    """Two project folders of one competition; in the first, fold 1 was stopped by the clock."""
    first = write_competition_at(tmp_path / "first", n=48)
    cfg = load_settings(first, save_minutes=60.0, **SETTINGS)
    assert train_units(cfg, first, [0], [42]) == 1
    left = iter([1e6] * 8 + [0.0] * 99)
    with monkeypatch.context() as patch:
        patch.setattr(guard_module.Guard, "seconds_left", lambda self: next(left))
        with pytest.raises(Stopped, match="time_limit_hours reached"):
            train_units(load_settings(first, time_limit_hours=1.0, **SETTINGS), first, [1], [42])
    assert (first.fold("base", 42, 1) / "state.safetensors").is_file()
    second = Paths("toy", tmp_path / "second")
    shutil.copytree(first.input, second.input)
    return first, second, load_settings(second, **SETTINGS)


def test_the_next_version_goes_on_bit_identically(versions, load_settings, capsys):
    first, second, cfg = versions
    before = contents(first.output)
    assert take_up(cfg, second, str(first.root)) == 2
    assert "took up 1 finished and 1 unfinished folds" in capsys.readouterr().out
    assert train_units(cfg, second, [0, 1, 2], [42]) == 2
    assert "seed 42 fold 1: resumed at step" in capsys.readouterr().out
    assert contents(first.output) == before  # it may be read-only
    train_units(load_settings(second, exp="plain", **SETTINGS), second, [0, 1, 2], [42])
    for fold in (0, 1, 2):
        one, two = (second.fold(exp, 42, fold) for exp in ("base", "plain"))
        a, b = (load_file(folder / "model.safetensors") for folder in (one, two))
        assert all(a[name].equal(b[name]) for name in b)
        for name in ("oof.parquet", "test.parquet"):
            pd.testing.assert_frame_equal(
                *(pd.read_parquet(folder / name) for folder in (one, two)), check_exact=True
            )


def test_the_backbone_below_adapters_comes_along(write_competition_at, load_settings, tmp_path):
    first = write_competition_at(tmp_path / "first", n=48, epochs=1, lora_r=4)
    assert train_units(load_settings(first), first, [0], [42]) == 1
    second = Paths("toy", tmp_path / "second")
    shutil.copytree(first.input, second.input)
    cfg = load_settings(second)
    assert take_up(cfg, second, str(first.root)) == 1
    fold = second.fold("base", 42, 0)
    (kept,) = {path.parent for path in kept_files(fold)}
    assert kept.parent == second.output / "backbones"
    assert backbone_of(fold, "/not/there") == kept  # which checks its hash
    before = contents(kept)
    assert take_up(cfg, second, str(first.root)) == 0
    assert train_units(cfg, second, [1], [42]) == 1
    assert contents(kept) == before  # every fold adds to the same copy


def test_what_is_here_already_stays(versions):
    first, second, cfg = versions
    take_up(cfg, second, str(first.root))
    mark = second.fold("base", 42, 1) / "history.csv"
    mark.write_text("mine")
    state = second.fold("base", 42, 1) / "state.safetensors"
    state.write_bytes(b"further on")
    assert take_up(cfg, second, str(first.root)) == 0
    assert (mark.read_text(), state.read_bytes()) == ("mine", b"further on")


def test_a_copy_that_was_cut_short_is_made_again(versions, monkeypatch):
    first, second, cfg = versions
    from oofline import takeup

    copied, copy_file = [], takeup.copy_file

    def failing(source, target):
        copied.append(source.name)
        if source.name == "scores.json":
            raise OoflineError("cannot write: No space left on device")
        copy_file(source, target)

    with monkeypatch.context() as patch:
        patch.setattr(takeup, "copy_file", failing)
        with pytest.raises(OoflineError, match="No space left"):
            take_up(cfg, second, str(first.root))
    assert not is_done(second.fold("base", 42, 0))
    assert take_up(cfg, second, str(first.root)) == 2
    assert is_done(second.fold("base", 42, 0))


@pytest.mark.parametrize("state", ["", "/nowhere/at/all"])
def test_no_state_is_a_beginning(versions, capsys, state):
    _, second, cfg = versions
    assert take_up(cfg, second, state) == 0
    assert not second.output.exists()
    assert ("starting from the beginning" in capsys.readouterr().out) == bool(state)


def test_other_settings_are_refused_before_anything_is_copied(versions, load_settings):
    first, second, _ = versions
    cfg = load_settings(second, **(SETTINGS | {"epochs": 4}))
    with pytest.raises(ConfigError, match=r"--state .*first: .*epochs: 3 there, 4 now") as error:
        take_up(cfg, second, str(first.root))
    assert "\n" not in str(error.value)
    assert not second.output.exists()


@pytest.mark.parametrize("what", ["train file", "test file", "folds"])
def test_other_files_are_refused_before_anything_is_copied(versions, what):
    first, second, cfg = versions
    if what == "folds":
        shutil.copytree(first.output, second.output)
        shutil.rmtree(second.experiment("base"))
        table = pd.read_csv(second.folds)
        table.assign(fold=(table["fold"] + 1) % 3).to_csv(second.folds, index=False)
    else:
        path = second.input / f"{what.split()[0]}.csv"
        table = pd.read_csv(path)
        table.assign(text="other " + table["text"]).to_csv(path, index=False)
    says = "holds other folds" if what == "folds" else f"started there with another {what}"
    with pytest.raises(DataError, match=says) as error:
        take_up(cfg, second, str(first.root))
    assert "\n" not in str(error.value)
    assert not second.experiment("base").exists()


def test_an_experiment_begun_here_on_other_files_is_refused(versions):
    first, second, cfg = versions
    take_up(cfg, second, str(first.root))
    path = second.experiment("base") / "inputs.json"
    write_json(path, read_json(path) | {"encoder": "0" * 64})
    with pytest.raises(DataError, match="started there with another encoder"):
        take_up(cfg, second, str(first.root))


def test_the_command_takes_up_and_finishes(versions, capsys, monkeypatch):
    first, second, _ = versions
    argv = ["train", "--comp", "toy", "--state", str(first.root)]
    argv += ["--epochs", "3", "--dropout", "0.1", "--evals-per-epoch", "2"]
    assert cli.run([*argv, "--checkpoint", "average"], second.root) == 0
    out = capsys.readouterr().out
    assert "took up 1 finished and 1 unfinished folds" in out
    assert "base: OOF f1" in out
