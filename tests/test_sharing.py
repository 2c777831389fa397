"""Folds side by side: the same results as one after the other, and every end leaves a state."""

import contextlib
import os
import re
import signal
import subprocess
import sys
from pathlib import Path

import pandas as pd
import pytest
import torch
from safetensors.torch import load_file

from oofline import crossval, sharing
from oofline.crossval import is_done, train_units
from oofline.engines import devices as devices_module
from oofline.errors import OoflineError
from oofline.sharing import train_on_devices
from oofline.storage import read_json
from oofline.training import precision as precision_module
from oofline.training.trainer import Trainer


def assert_same_folds(paths, first, second, units):
    for seed, fold in units:
        a, b = paths.fold(first, seed, fold), paths.fold(second, seed, fold)
        one, two = load_file(a / "model.safetensors"), load_file(b / "model.safetensors")
        assert one.keys() == two.keys()
        assert all(one[name].equal(two[name]) for name in one)
        for name in ("oof.parquet", "test.parquet"):
            pd.testing.assert_frame_equal(
                pd.read_parquet(a / name), pd.read_parquet(b / name), check_exact=True
            )


@pytest.fixture
def two_gpus(monkeypatch):
    """Two GPUs that compute on the CPU: what is asked for is noted, folds are really trained."""
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    monkeypatch.setattr(torch.cuda, "set_device", lambda name: print(f"took {name}", flush=True))
    monkeypatch.setattr(devices_module, "native_precision", lambda device: "fp32")
    monkeypatch.setattr(precision_module, "choose_device", lambda name: torch.device("cpu"))


def test_auto_trains_one_fold_per_gpu_side_by_side(
    write_competition, load_settings, forked, two_gpus, monkeypatch, capsys
):
    paths = write_competition(n=48)
    units = [(1, 0), (1, 1), (2, 0), (2, 1)]
    train_units(load_settings(paths, exp="plain", epochs=1), paths, [0, 1], [1, 2])
    both, train = forked.Barrier(2), crossval.train_fold

    def together(*args):
        both.wait(300)  # passes only if two folds are being trained at the same time
        return train(*args)

    monkeypatch.setattr(crossval, "train_fold", together)
    capsys.readouterr()
    cfg = load_settings(paths, exp="shared", epochs=1, device="auto")
    assert train_on_devices(cfg, paths, [0, 1], [1, 2]) == 4
    out = capsys.readouterr().out
    assert "4 folds on cuda:0, cuda:1, side by side" in out
    shown = re.findall(r"^(cuda:\d) \| seed (\d) fold (\d): f1", out, flags=re.MULTILINE)
    assert sorted((int(seed), int(fold)) for _, seed, fold in shown) == units
    assert [device for device, *_ in shown].count("cuda:0") == 2
    logs = paths.experiment("shared") / "workers"
    assert sorted(path.name for path in logs.iterdir()) == ["cuda-0.log", "cuda-1.log"]
    assert read_json(paths.experiment("shared") / "cfg.json")["device"] == "auto"
    assert_same_folds(paths, "plain", "shared", units)
    assert train_on_devices(cfg, paths, [0, 1], [1, 2]) == 0


def test_one_fold_needs_no_second_process(write_competition, load_settings, two_gpus, monkeypatch):
    paths = write_competition(n=48)
    monkeypatch.setattr("oofline.sharing.share", lambda *a: pytest.fail("started workers"))
    cfg = load_settings(paths, epochs=1, device="cpu,cpu")
    assert train_on_devices(cfg, paths, [1], [42]) == 1


def test_a_fold_computes_with_as_many_threads_however_many_are_left(
    write_competition, load_settings, monkeypatch
):
    """The bits of a result depend on them, and a fold may go on as the last one that is left."""
    paths, found, before = write_competition(n=48), [], torch.get_num_threads()

    def note(*args):
        found.append(torch.get_num_threads())
        return 1

    monkeypatch.setattr(sharing, "begin", lambda *args: None)
    monkeypatch.setattr(sharing, "share", lambda *args: found.append(args[-1]) or [])
    monkeypatch.setattr(sharing, "train_here", note)
    cfg = load_settings(paths, device="cpu,cpu,cpu")
    torch.set_num_threads(6)
    try:
        for folds in ([0, 1, 2], [0, 1], [2]):
            train_on_devices(cfg, paths, folds, [42])
        assert torch.get_num_threads() == 6
    finally:
        torch.set_num_threads(before)
    assert found == [2, 2, 2]


def test_a_fold_that_fails_is_named_with_its_device_and_the_others_go_on_later(
    write_competition, load_settings, forked, monkeypatch
):
    paths = write_competition(n=48)
    cfg = load_settings(paths, epochs=1, device="cpu,cpu")
    train = crossval.train_fold

    def failing(cfg, material, seed, fold, guard):
        if fold == 1:
            raise OoflineError("the loss is nan at optimizer step 3")
        return train(cfg, material, seed, fold, guard)

    with monkeypatch.context() as patch:
        patch.setattr(crossval, "train_fold", failing)
        with pytest.raises(OoflineError, match=r"seed 42 fold 1 on cpu/\d failed: the loss is nan"):
            train_on_devices(cfg, paths, [0, 1, 2], [42])
    assert not is_done(paths.fold("base", 42, 1))
    train_on_devices(cfg, paths, [0, 1, 2], [42])
    train_units(load_settings(paths, exp="plain", epochs=1), paths, [0, 1, 2], [42])
    assert_same_folds(paths, "plain", "base", [(42, 0), (42, 1), (42, 2)])


def test_sigterm_saves_every_fold_and_the_same_command_goes_on(
    write_competition, load_settings, forked, monkeypatch
):
    paths = write_competition(n=48)
    settings = {"epochs": 2, "save_minutes": 60.0}
    parent, step, reached = os.getpid(), Trainer._optimizer_step, forked.Barrier(2)

    def interrupted(self):
        step(self)
        if self.progress.step == 3:  # both folds are inside an epoch now
            if reached.wait(300) == 0:
                os.kill(parent, signal.SIGTERM)
            self.keeper.guard.interrupted or _until(lambda: self.keeper.guard.interrupted)

    cfg = load_settings(paths, device="cpu,cpu", **settings)
    with monkeypatch.context() as patch:
        patch.setattr(Trainer, "_optimizer_step", interrupted)
        with pytest.raises(BaseException, match="interrupted") as stop:
            train_on_devices(cfg, paths, [0, 1, 2], [42])
    assert stop.value.exit_code == 130
    for fold in (0, 1):
        assert (paths.fold("base", 42, fold) / "state.safetensors").is_file()
    assert train_on_devices(cfg, paths, [0, 1, 2], [42]) == 3
    train_units(load_settings(paths, exp="plain", **settings), paths, [0, 1, 2], [42])
    assert_same_folds(paths, "plain", "base", [(42, 0), (42, 1), (42, 2)])


def _until(condition):
    import threading

    step = threading.Event()
    while not condition():
        step.wait(0.01)


@pytest.mark.timeout(900)  # three interpreters that import torch, on a machine that may be busy
@pytest.mark.skipif(sys.platform == "win32", reason="sends a signal to a process group")
def test_ctrl_c_in_a_terminal_ends_the_command_and_all_its_workers(write_competition):
    """The real thing: started processes, a signal to the whole group, and no traceback."""
    paths = write_competition(n=90, epochs=500)
    command = [sys.executable, "-m", "oofline", "train", "--comp", "toy", "--device", "cpu,cpu"]
    with subprocess.Popen(
        command, cwd=paths.root, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
        start_new_session=True,
    ) as process:  # fmt: skip
        lines = []
        for line in process.stdout:
            lines.append(line)
            if {"cpu/1", "cpu/2"} <= {word.split(" | ")[0] for word in lines if " epoch " in word}:
                break
        os.killpg(process.pid, signal.SIGINT)
        lines += process.stdout.readlines()
        assert process.wait(600) == 130
    assert "Traceback" not in "".join(lines)
    assert "interrupted with 3 of 3 left: run the same command again" in lines[-1]
    states = [p.parent.name for p in paths.output.glob("base/seed42/fold*/state.safetensors")]
    assert sorted(states) == ["fold0", "fold1"]
    for log in paths.output.glob("base/workers/*.log"):
        assert "Traceback" not in Path(log).read_text()


def test_a_fold_that_a_given_up_node_still_finished_counts(
    write_competition, load_settings, monkeypatch
):
    """The unit that was queued again finds it done, and says that it trained nothing."""
    paths = write_competition()
    cfg = load_settings(paths, exp="cluster", engine="ray")

    def finish_one(cfg, paths, work, guard):
        folder = paths.fold(cfg.exp, *work.jobs[0])
        folder.mkdir(parents=True)
        (folder / "scores.json").write_text("{}")
        return [False, False]

    monkeypatch.setattr(sharing, "engine_ready", lambda *args: contextlib.nullcontext())
    monkeypatch.setattr(sharing, "begin", lambda *args: None)
    monkeypatch.setattr(sharing, "do_on_cluster", finish_one)
    assert train_on_devices(cfg, paths, [0, 1], [42]) == 1


def test_a_storage_without_a_cluster_is_said_to_be_unused(
    write_competition, load_settings, monkeypatch, capsys
):
    paths = write_competition()
    monkeypatch.setattr(sharing, "train_here", lambda *args: 0)
    for store, said in (("", 0), ("s3://bucket/x", 1)):
        train_on_devices(load_settings(paths, shared_storage=store), paths, [0], [42])
        assert capsys.readouterr().out.count("shared_storage is for engine") == said
