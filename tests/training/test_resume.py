"""kill -9 at any moment: the same command goes on, and ends bit-identical on a CPU."""

import json
import multiprocessing
import os
import random
import signal
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file

from oofline.crossval import train_units
from oofline.errors import OoflineError, Stopped
from oofline.models import weights as weights_module
from oofline.pseudo_labels import run_pseudo
from oofline.storage import PSEUDO_LABELS, read_json
from oofline.training import fold as fold_module
from oofline.training import guard as guard_module
from oofline.training import state as state_module
from oofline.training.step import Step
from oofline.training.trainer import Trainer

SETTINGS = {
    "epochs": 4, "dropout": 0.1, "accumulation": 2, "evals_per_epoch": 2, "save_minutes": 0,
}  # fmt: skip


@pytest.fixture
def setup(write_competition, load_settings):
    paths = write_competition("binary", n=66)

    def cfg(exp, **changes):
        return load_settings(paths, exp=exp, **(SETTINGS | changes))

    return paths, cfg


def assert_identical(paths, first, second):
    a, b = paths.fold(first, 42, 0), paths.fold(second, 42, 0)
    one, two = load_file(a / "model.safetensors"), load_file(b / "model.safetensors")
    assert one.keys() == two.keys()
    assert all(one[name].equal(two[name]) for name in one)
    for name in ("oof.parquet", "test.parquet"):
        pd.testing.assert_frame_equal(
            pd.read_parquet(a / name), pd.read_parquet(b / name), check_exact=True
        )
    columns = ["step", "epoch", "train_loss", "valid_loss", "score"]
    histories = [pd.read_csv(folder / "history.csv")[columns] for folder in (a, b)]
    pd.testing.assert_frame_equal(*histories, check_exact=True)


def run_and_die(cfg, paths, moment, count):
    """In a child process: train, and SIGKILL oneself the ``count``-th time at that moment."""
    left = [count]

    def dying(function):
        def wrapped(*args, **kwargs):
            left[0] -= 1
            if left[0] <= 0 and moment != "after step":
                if moment == "half-written state":
                    args[1].write_bytes(b"half")
                os.kill(os.getpid(), signal.SIGKILL)
            result = function(*args, **kwargs)
            if left[0] <= 0:
                os.kill(os.getpid(), signal.SIGKILL)
            return result

        return wrapped

    if moment == "after step":
        Trainer._optimizer_step = dying(Trainer._optimizer_step)
    elif moment == "inside backward":
        Step.backward = dying(Step.backward)
    elif moment == "half-written state":
        weights_module.save_file = dying(weights_module.save_file)
    elif moment == "between files":
        fold_module.write_fold = dying(fold_module.write_fold)
    train_units(cfg, paths, [0], [42])


def killed(cfg, paths, moment, count):
    process = multiprocessing.get_context("fork").Process(
        target=run_and_die, args=(cfg, paths, moment, count)
    )
    process.start()
    process.join(300)
    return process.exitcode == -signal.SIGKILL


def saved_step(folder):
    path = folder / "state.safetensors"
    if not path.exists():
        return 0
    with safe_open(path, framework="pt") as handle:
        return json.loads(handle.metadata()["progress"])["step"]


@pytest.mark.parametrize("checkpoint", ["last", "best", "average"])
def test_killed_at_random_moments_ends_bit_identical(setup, checkpoint):
    paths, cfg = setup
    plain, struck = cfg("plain", checkpoint=checkpoint), cfg("struck", checkpoint=checkpoint)
    train_units(plain, paths, [0], [42])
    rng, steps = random.Random(checkpoint), []
    counts = {
        "after step": (2, 4), "inside backward": (3, 6), "half-written state": (2, 4),
        "between files": (1, 1),
    }  # fmt: skip
    for moment in [*counts][:3] * 2 + ["between files"]:
        count = rng.randint(*counts[moment])
        assert killed(struck, paths, moment, count), moment
        steps.append(saved_step(paths.fold("struck", 42, 0)))
    assert len(set(steps)) >= 4  # it moved on between the deaths
    assert any(step % 3 for step in steps)  # and died inside an epoch (3 steps each)
    assert train_units(struck, paths, [0], [42]) == 1
    assert_identical(paths, "plain", "struck")
    leftovers = [p.name for p in paths.fold("struck", 42, 0).iterdir() if "state" in p.name]
    assert leftovers == []


TECHNIQUES = {
    "awp": {"awp_last_epochs": 3},
    "awp from a score": {"awp_start_score": 0.0, "awp_mode": "replace"},
    "fgm": {"fgm_eps": 0.5},
    "sift": {"sift_lambda": 1.0},
    "rdrop": {"rdrop_alpha": 1.0},
    "mixout": {"mixout_p": 0.3, "dropout": None},
    "mixconnect": {"mixout_p": 0.3, "mixout_mask": "element", "dropout": None},
    "multi-sample": {"dropout_samples": 3, "dropout_sample_p": 0.3},
    "ema": {"ema_decay": 0.9},
    "ema, best": {"ema_decay": 0.9, "checkpoint": "best"},
    "reinit and freeze": {"reinit_layers": 1, "freeze_layers": 1},
    "lora": {"lora_r": 4, "lora_dropout": 0.1},
    "lora, awp, ema, best": {
        "lora_r": 4,
        "awp_last_epochs": 3,
        "ema_decay": 0.9,
        "checkpoint": "best",
    },
}


@pytest.mark.parametrize("name", TECHNIQUES)
def test_killed_with_a_technique_on_ends_bit_identical(setup, name):
    paths, cfg = setup
    plain, struck = cfg("plain", **TECHNIQUES[name]), cfg("struck", **TECHNIQUES[name])
    train_units(plain, paths, [0], [42])
    for moment, count in (("after step", 5), ("inside backward", 4), ("half-written state", 2)):
        assert killed(struck, paths, moment, count), moment
    assert train_units(struck, paths, [0], [42]) == 1
    assert_identical(paths, "plain", "struck")
    one, two = (read_json(paths.fold(exp, 42, 0) / "scores.json") for exp in ("plain", "struck"))
    assert one["techniques"] == {
        technique: pytest.approx(figures) for technique, figures in two["techniques"].items()
    }


INPUTS = {
    "pairs": ("pair", {"pair_swap": "train+test"}),
    "answers": ("qa", {"max_len": 20, "doc_stride": 4, "checkpoint": "best"}),
    "windows": ("multi-target", {"windows": 3, "max_len": 8, "window_stride": 2}),
}


@pytest.mark.parametrize("name", INPUTS)
def test_killed_with_pairs_or_windows_ends_bit_identical(write_competition, load_settings, name):
    kind, settings = INPUTS[name]
    paths = write_competition(kind, n=66, **settings)
    plain, struck = (load_settings(paths, exp=exp, **SETTINGS) for exp in ("plain", "struck"))
    train_units(plain, paths, [0], [42])
    for moment, count in (("after step", 5), ("inside backward", 4), ("half-written state", 2)):
        assert killed(struck, paths, moment, count), moment
    assert train_units(struck, paths, [0], [42]) == 1
    assert_identical(paths, "plain", "struck")


def test_a_student_killed_ends_bit_identical(setup):
    paths, cfg = setup
    train_units(cfg("teacher", epochs=1), paths, [0, 1, 2], [42])
    run_pseudo(SimpleNamespace(cfg=cfg("x"), teacher="teacher", name="soft", file=""), paths)
    learning = {"pseudo": "soft", "pseudo_weight": 0.5, "epochs": 2}
    plain, struck = cfg("plain", **learning), cfg("struck", **learning)
    train_units(plain, paths, [0], [42])
    for moment, count in (("after step", 3), ("inside backward", 4)):
        assert killed(struck, paths, moment, count), moment
    assert train_units(struck, paths, [0], [42]) == 1
    assert_identical(paths, "plain", "struck")
    labels = paths.pseudo("soft") / PSEUDO_LABELS
    frame = pd.read_parquet(labels)
    frame.assign(pred_target=1 - frame["pred_target"]).to_parquet(labels)
    with pytest.raises(OoflineError, match="made with other labels"):
        train_units(struck, paths, [1], [42])


def test_a_resume_that_forgets_the_random_state_is_caught(setup, monkeypatch):
    paths, cfg = setup
    train_units(cfg("plain"), paths, [0], [42])
    assert killed(cfg("struck"), paths, "after step", 3)
    monkeypatch.setattr(state_module.torch, "set_rng_state", lambda state: None)
    train_units(cfg("struck"), paths, [0], [42])
    with pytest.raises(AssertionError):
        assert_identical(paths, "plain", "struck")


def test_time_limit_stops_with_a_state_and_goes_on(setup, monkeypatch):
    paths, cfg = setup
    train_units(cfg("plain"), paths, [0], [42])
    limited = cfg("limited", time_limit_hours=1.0, save_minutes=60)
    left = iter([1e6] * 10 + [0.0] * 99)
    monkeypatch.setattr(guard_module.Guard, "seconds_left", lambda self: next(left))
    with pytest.raises(Stopped, match="time_limit_hours reached") as stop:
        train_units(limited, paths, [0], [42])
    assert stop.value.exit_code == 0
    assert 0 < saved_step(paths.fold("limited", 42, 0)) < 12
    monkeypatch.undo()
    train_units(cfg("limited"), paths, [0], [42])
    assert_identical(paths, "plain", "limited")


def test_ctrl_c_saves_and_goes_on(setup, monkeypatch):
    paths, cfg = setup
    train_units(cfg("plain"), paths, [0], [42])
    step = Trainer._optimizer_step

    def interrupted(self):
        step(self)
        if self.progress.step == 4:
            os.kill(os.getpid(), signal.SIGINT)

    before = signal.getsignal(signal.SIGINT)
    with monkeypatch.context() as patch:
        patch.setattr(Trainer, "_optimizer_step", interrupted)
        with pytest.raises(Stopped, match="interrupted") as stop:
            train_units(cfg("stopped", save_minutes=60), paths, [0], [42])
    assert stop.value.exit_code == 130
    assert signal.getsignal(signal.SIGINT) is before
    assert saved_step(paths.fold("stopped", 42, 0)) == 4
    train_units(cfg("stopped"), paths, [0], [42])
    assert_identical(paths, "plain", "stopped")


@pytest.mark.parametrize("victim", ["state", "model", "scores"])
def test_a_full_disk_loses_nothing(setup, monkeypatch, victim):
    paths, cfg = setup
    train_units(cfg("plain"), paths, [0], [42])
    real = os.fsync
    calls = {"n": 0}

    def full(descriptor):
        name = str(Path(f"/proc/self/fd/{descriptor}").readlink())
        if f".{victim}." in name:
            calls["n"] += 1
            if victim != "state" or calls["n"] == 3:
                raise OSError(28, "No space left on device")
        real(descriptor)

    folder = paths.fold("full", 42, 0)
    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", full)
        with pytest.raises(OoflineError, match=f"cannot write .*{victim}.*No space left"):
            train_units(cfg("full"), paths, [0], [42])
    assert not (folder / "scores.json").exists()
    assert saved_step(folder) > 0
    assert [p for p in folder.iterdir() if p.name.endswith(".tmp")] == []
    train_units(cfg("full"), paths, [0], [42])
    assert_identical(paths, "plain", "full")


def test_what_safetensors_says_of_a_full_disk_becomes_one_clear_line(tmp_path, monkeypatch):
    def full(tensors, path, metadata):
        raise SafetensorError("Error while serializing: I/O error: No space left (os error 28)")

    monkeypatch.setattr(weights_module, "save_file", full)
    with pytest.raises(OoflineError, match=r"cannot write .*x.safetensors: No space left"):
        weights_module.write_tensors(tmp_path / "x.safetensors", {"a": torch.zeros(3)}, {})


def test_damaged_state_is_named(setup):
    paths, cfg = setup
    assert killed(cfg("struck"), paths, "after step", 3)
    state = paths.fold("struck", 42, 0) / "state.safetensors"
    state.write_bytes(state.read_bytes()[:1000])
    with pytest.raises(OoflineError, match=r"state.safetensors cannot be read"):
        train_units(cfg("struck"), paths, [0], [42])


def test_fold_alone_equals_fold_among_all(setup):
    paths, cfg = setup
    train_units(cfg("all"), paths, [0, 1, 2], [41, 42])
    train_units(cfg("one"), paths, [0], [42])
    assert_identical(paths, "all", "one")
    first = pd.read_parquet(paths.fold("all", 41, 0) / "oof.parquet")["pred_target"]
    second = pd.read_parquet(paths.fold("all", 42, 0) / "oof.parquet")["pred_target"]
    assert not np.allclose(first, second)  # another seed is another model
