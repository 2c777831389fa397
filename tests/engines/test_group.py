"""One fold on several devices: the same training as on one, and every way in which it can end.

The processes are forked (but in one test), so that they know what a test patched; ``rank`` tells
them apart.
"""

import dataclasses
import hashlib
import os
import signal
import subprocess
import sys
import tempfile
import threading
import time
import zlib
from datetime import timedelta

import numpy as np
import pandas as pd
import psutil
import pytest
import torch
from filelock import FileLock, Timeout
from safetensors.torch import load_file
from torch.distributed import distributed_c10d

from oofline import crossval
from oofline.crossval import begin, train_units, trainer_of
from oofline.engines import group as group_module
from oofline.errors import ConfigError, OoflineError, Stopped
from oofline.sharing import train_on_devices
from oofline.storage import read_json
from oofline.techniques.attack import Attack
from oofline.training import fold as fold_module
from oofline.training.evaluation import Evaluator
from oofline.training.guard import Guard
from oofline.training.step import Step
from oofline.training.trainer import Trainer

WAIT = 300
"""Seconds after which a test that hangs fails."""
CURVE = ["step", "epoch", "train_loss", "valid_loss", "score"]


@pytest.fixture
def setup(write_competition, load_settings, forked, tmp_path, monkeypatch):
    """Paths, and cfg(exp, **changes): three evaluations an epoch, windows of two batches."""
    (tmp_path / "a place 場所").mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "a place 場所"))
    paths = write_competition("binary", n=66)
    settings = {"accumulation": 2, "evals_per_epoch": 3.0, "save_minutes": 60.0, "dropout": 0.0}

    def cfg(exp, n=1, **changes):
        device = "+".join(["cpu"] * n)
        return load_settings(paths, exp=exp, device=device, **(settings | changes))

    return paths, cfg


def curve(paths, exp):
    return pd.read_csv(paths.fold(exp, 42, 0) / "history.csv")[CURVE]


def scores(paths, exp):
    return read_json(paths.fold(exp, 42, 0) / "scores.json")


def predictions(paths, exp, name="oof"):
    return pd.read_parquet(paths.fold(exp, 42, 0) / f"{name}.parquet")


def assert_close(paths, exps, atol):
    """The same curve, and the same rows with close predictions, each once and in order."""
    first, second = (curve(paths, exp) for exp in exps)
    pd.testing.assert_frame_equal(first, second, check_exact=False, rtol=0, atol=atol)
    folds = pd.read_csv(paths.folds)
    valid = folds.loc[folds["fold"] == 0, "id"].tolist()
    test = pd.read_csv(paths.input / "test.csv")["id"].tolist()
    for name, ids in (("oof", valid), ("test", test)):
        one, two = (predictions(paths, exp, name) for exp in exps)
        assert one["id"].tolist() == two["id"].tolist() == ids
        assert two["pred_target"].to_numpy() == pytest.approx(one["pred_target"], abs=atol)
        assert two["pred_target"].nunique() > len(ids) // 2


def assert_identical(paths, first, second):
    one, two = (load_file(paths.fold(exp, 42, 0) / "model.safetensors") for exp in (first, second))
    assert all(one[name].equal(two[name]) for name in one)
    for name in ("oof", "test"):
        pd.testing.assert_frame_equal(
            predictions(paths, first, name), predictions(paths, second, name), check_exact=True
        )
    pd.testing.assert_frame_equal(curve(paths, first), curve(paths, second), check_exact=True)


def rank_of(trainer):
    return trainer.steps.team.rank


SAME = {
    "plain": {"eval_batch_size": 5},
    "awp": {"awp_last_epochs": 2},
    "awp, replace": {"awp_last_epochs": 1, "awp_mode": "replace"},
    "fgm": {"fgm_eps": 0.5, "checkpoint": "best"},
    "a short last window": {"accumulation": 4, "ema_decay": 0.9, "checkpoint": "last"},
}


@pytest.mark.parametrize("name", SAME)
def test_two_processes_train_as_one_does(setup, name):
    paths, cfg = setup
    train_units(cfg("one", **SAME[name]), paths, [0], [42])
    train_units(cfg("two", n=2, **SAME[name]), paths, [0], [42])
    assert len(curve(paths, "two")) == (4 if "accumulation" in SAME[name] else 6)
    assert_close(paths, ("one", "two"), atol=2e-6)
    assert scores(paths, "two")["processes"] == 2
    assert scores(paths, "two")["score"] == scores(paths, "one")["score"]


def test_three_processes_with_cut_batches_and_an_odd_number_of_rows(setup):
    paths, cfg = setup
    changes = {"accumulation": 1, "batch_size": 7, "eval_batch_size": 9, "checkpoint": "average"}
    changes |= {"awp_last_epochs": 1}  # the last of 44 rows are 2: one process has none
    train_units(cfg("one", **changes), paths, [0], [42])
    train_units(cfg("three", n=3, **changes), paths, [0], [42])
    assert len(predictions(paths, "three")) % 3
    assert_close(paths, ("one", "three"), atol=2e-5)


MASKED = {
    "r-drop, multi-sample, sift, reinit, ema": {
        "rdrop_alpha": 1.0, "dropout": 0.2, "dropout_samples": 2, "dropout_sample_p": 0.3,
        "sift_lambda": 1.0, "reinit_layers": 1, "ema_decay": 0.9,
    },
    "mixout, fgm, layer-wise rates, fp16": {
        "mixout_p": 0.3, "fgm_eps": 0.5, "layer_decay": 0.8, "head_lr": 5e-3, "precision": "fp16",
        "clip_norm": 0.1, "schedule": "cosine",
    },
    "lora, awp, average": {
        "lora_r": 4, "lora_dropout": 0.2, "awp_last_epochs": 1, "checkpoint": "average",
    },
}  # fmt: skip


@pytest.mark.parametrize("name", MASKED)
def test_with_the_same_masks_every_technique_trains_as_in_one(
    write_competition, load_settings, forked, monkeypatch, name
):
    """Masks and noise follow from the rows here; 48 rows are three windows of whole batches."""
    paths, go_through = write_competition("binary", n=72), Step.__iter__

    def seeded(self):
        self.passes = getattr(self, "passes", 0) + 1
        for part, _ in zip(self.parts, go_through(self), strict=False):
            torch.manual_seed(zlib.crc32(part.tobytes()) + 1000 * self.index + self.passes)
            yield
        self._inputs = None

    monkeypatch.setattr(Step, "__iter__", seeded)
    for exp, device in (("one", "cpu"), ("two", "cpu+cpu")):
        settings = {"accumulation": 2, "evals_per_epoch": 3.0, "device": device} | MASKED[name]
        train_units(load_settings(paths, exp=exp, **settings), paths, [0], [42])
    assert_close(paths, ("one", "two"), atol=2e-6)
    assert scores(paths, "one")["techniques"].keys() == scores(paths, "two")["techniques"].keys()


INPUTS = {
    "pair": {"pair_swap": "train+test"},
    "qa": {"max_len": 20, "doc_stride": 4, "checkpoint": "best"},
}


@pytest.mark.parametrize("kind", INPUTS)
def test_pairs_and_answers_are_predicted_as_by_one(write_competition, load_settings, forked, kind):
    paths = write_competition(kind, n=66, dropout=0.0, accumulation=2, **INPUTS[kind])
    train_units(load_settings(paths, exp="one"), paths, [0], [42])
    train_units(load_settings(paths, exp="two", device="cpu+cpu"), paths, [0], [42])
    for found in (curve, predictions):
        pd.testing.assert_frame_equal(
            found(paths, "one"), found(paths, "two"), check_exact=False, rtol=0, atol=2e-6
        )


def test_the_gradient_of_a_technique_counted_twice_would_be_caught(setup, monkeypatch):
    """The faulty form: what stood in .grad before the attack is added up again."""
    paths, cfg = setup
    train_units(cfg("one", fgm_eps=0.5), paths, [0], [42])
    monkeypatch.setattr(torch, "_foreach_div_", lambda tensors, size: None)
    train_units(cfg("two", n=2, fgm_eps=0.5), paths, [0], [42])
    with pytest.raises(AssertionError):
        assert_close(paths, ("one", "two"), atol=2e-6)


RANDOM = {
    "dropout, awp, ema": {"awp_last_epochs": 2, "ema_decay": 0.9, "dropout": 0.2},
    "mixout, r-drop": {
        "mixout_p": 0.3, "rdrop_alpha": 1.0, "dropout": None, "dropout_sample_p": 0.2,
    },
    "sift, reinit, freeze": {
        "sift_lambda": 1.0, "reinit_layers": 1, "freeze_layers": 1, "dropout": 0.1,
    },
    "lora": {"lora_r": 4, "lora_dropout": 0.2, "dropout": 0.1},
}  # fmt: skip


@pytest.mark.parametrize("name", RANDOM)
def test_weights_are_the_same_and_masks_differ(setup, tmp_path, monkeypatch, name):
    paths, cfg = setup
    result = fold_module._FoldRun.result

    def noting(self):
        digest = hashlib.sha256()
        for parameter in self.model.parameters():
            digest.update(parameter.detach().numpy().tobytes())
        note = tmp_path / f"rank{self.team.rank}"
        note.write_text(f"{digest.hexdigest()} {torch.rand(1).item()}")
        assert self.cfg.device == "cpu"  # its own, not "cpu+cpu"
        return result(self)

    monkeypatch.setattr(fold_module._FoldRun, "result", noting)
    train_units(cfg("two", n=2, **RANDOM[name]), paths, [0], [42])
    (one, first), (two, second) = ((tmp_path / f"rank{r}").read_text().split() for r in (0, 1))
    assert one == two
    assert first != second


def test_weights_that_drift_apart_end_the_fold(setup, monkeypatch):
    paths, cfg = setup
    step = Trainer._optimizer_step

    def tampering(self):
        step(self)
        if self.progress.step == 2 and rank_of(self) == 1:
            weight = self.evaluator.model.output.weight.data
            weight[0, 0] = torch.nextafter(weight[0, 0], torch.tensor(9.0))  # the least there is

    monkeypatch.setattr(Trainer, "_optimizer_step", tampering)
    with pytest.raises(RuntimeError, match=r"the same weights: output\.weight of rank 1 differs"):
        train_units(cfg("two", n=2), paths, [0], [42])
    assert len(list(paths.fold("two", 42, 0).glob("scores.json"))) == 0


def test_an_overflow_in_one_process_skips_the_step_in_all(setup, tmp_path, monkeypatch):
    paths, cfg = setup
    backward, step = Step.backward, Trainer._optimizer_step

    def overflowing(self, loss):
        backward(self, loss * (float("inf") if self.index == 1 and self.team.rank == 1 else 1.0))

    def noting(self):
        before = self.evaluator.model.output.weight.detach().clone()
        step(self)
        kept = before.equal(self.evaluator.model.output.weight)
        with (tmp_path / f"rank{rank_of(self)}").open("a") as file:
            file.write(f"{self.progress.step} {kept} {self.scaler.get_scale()}\n")

    monkeypatch.setattr(Step, "backward", overflowing)
    monkeypatch.setattr(Trainer, "_optimizer_step", noting)
    train_units(cfg("two", n=2, precision="fp16"), paths, [0], [42])
    lines = [(tmp_path / f"rank{rank}").read_text().splitlines() for rank in (0, 1)]
    assert lines[0] == lines[1]
    assert [line.split()[1] for line in lines[0]] == ["False", "True", *["False"] * 4]
    assert float(lines[0][1].split()[2]) == float(lines[0][0].split()[2]) / 2


def test_out_of_memory_in_one_process_halves_in_all(setup, monkeypatch):
    """In the clean pass, on the way to the attack, and inside it."""
    paths, cfg = setup
    forward, left = Step.forward, {1: 1, 3: 2}  # step -> forward pass in which memory runs out
    attack = Attack.after_backward
    crowded = [2]  # step

    def short(self, step):
        if step.team.rank == 1 and step.index in crowded:
            crowded.clear()
            raise torch.OutOfMemoryError("CUDA out of memory")
        attack(self, step)

    def scarce(self):
        if self.team.rank == 1 and self.index in left:
            left[self.index] -= 1
            if left[self.index] == 0:
                del left[self.index]
                raise torch.OutOfMemoryError("CUDA out of memory")
        return forward(self)

    train_units(cfg("one", awp_last_epochs=2), paths, [0], [42])
    with monkeypatch.context() as patch:
        patch.setattr(Step, "forward", scarce)
        patch.setattr(Attack, "after_backward", short)
        train_units(cfg("two", n=2, awp_last_epochs=2), paths, [0], [42])
    assert scores(paths, "two")["micro_batch"] == 1  # 8, 4, 2, 1
    for rank in (0, 1):
        log = paths.experiment("two") / "workers" / f"seed42-fold0-rank{rank}.log"
        text = log.read_text()
        assert "out of memory at step 1: 4 rows" in text
        assert "out of memory at step 2: 2 rows" in text
        assert "out of memory at step 3: 1 rows" in text
    assert_close(paths, ("one", "two"), atol=2e-5)


def test_out_of_memory_while_clipping_in_one_process_halves_in_all(setup, monkeypatch):
    paths, cfg = setup
    clip, left = torch.nn.utils.clip_grad_norm_, [2]

    def short(parameters, norm):
        if torch.distributed.is_initialized() and torch.distributed.get_rank() == 1:
            left[0] -= 1
            if left[0] == 0:
                raise torch.OutOfMemoryError("CUDA out of memory")
        return clip(parameters, norm)

    train_units(cfg("one"), paths, [0], [42])
    monkeypatch.setattr(torch.nn.utils, "clip_grad_norm_", short)
    train_units(cfg("two", n=2), paths, [0], [42])
    assert scores(paths, "two")["micro_batch"] == 4
    assert_close(paths, ("one", "two"), atol=2e-5)


RESUMED = {"dropout": 0.2, "awp_last_epochs": 1, "save_minutes": 0.0}


def test_a_killed_process_ends_the_fold_and_the_same_command_goes_on_bit_identically(
    setup, monkeypatch
):
    paths, cfg = setup
    step = Trainer._optimizer_step

    def dying(self):
        step(self)
        if self.progress.step == 4 and rank_of(self) == 1:
            os.kill(os.getpid(), signal.SIGKILL)

    train_units(cfg("whole", n=2, **RESUMED), paths, [0], [42])
    before = psutil.Process().children()
    with monkeypatch.context() as patch:
        patch.setattr(Trainer, "_optimizer_step", dying)
        with pytest.raises(OoflineError) as error:
            train_units(cfg("killed", n=2, **RESUMED), paths, [0], [42])
    message = str(error.value)
    assert message.startswith("rank 1 on cpu was killed by signal 9 (out of memory?) (log: ")
    assert "seed42-fold0-rank1.log)" in message
    assert "\n" not in message
    left = [p for p in psutil.Process().children() if p not in before]
    assert [p for p in left if p.status() != psutil.STATUS_ZOMBIE] == []
    state = load_file(paths.fold("killed", 42, 0) / "state.safetensors")
    assert not state["rng.cpu"].equal(state["rng.cpu.1"])
    train_units(cfg("killed", n=2, **RESUMED), paths, [0], [42])
    assert_identical(paths, "whole", "killed")


def test_a_stop_saves_and_the_fold_goes_on_with_fewer_or_more_processes(setup, monkeypatch):
    paths, cfg = setup
    parent, step, stop_at = os.getpid(), Trainer._optimizer_step, [3]

    def interrupted(self):
        step(self)
        if self.progress.step == stop_at[0] and rank_of(self) == 1:
            # to the command the first time, to this very process the second
            os.kill(parent if stop_at[0] == 3 else os.getpid(), signal.SIGTERM)
        if self.progress.step == stop_at[0] and (stop_at[0] == 3 or rank_of(self) == 1):
            until(lambda: self.keeper.guard.interrupted)

    train_units(cfg("one"), paths, [0], [42])
    with monkeypatch.context() as patch:
        patch.setattr(Trainer, "_optimizer_step", interrupted)
        for at, n in ((3, 2), (5, 3)):
            stop_at[0] = at
            with pytest.raises(Stopped, match="interrupted: seed 42 fold 0 is saved") as stop:
                train_units(cfg("other", n=n), paths, [0], [42])
            assert stop.value.exit_code == 130
    train_units(cfg("other"), paths, [0], [42])
    assert_close(paths, ("one", "other"), atol=2e-5)


def until(condition):
    pause, end = threading.Event(), time.monotonic() + WAIT
    while not condition():
        assert time.monotonic() < end
        pause.wait(0.01)


def test_processes_save_and_end_when_the_command_is_killed(setup, tmp_path, forked, monkeypatch):
    paths, cfg = setup
    step, reached = Trainer._optimizer_step, forked.Semaphore(0)

    def waiting(self):
        step(self)
        if self.progress.step == 2:
            (tmp_path / f"rank{rank_of(self)}.pid").write_text(str(os.getpid()))
            reached.release()
            if rank_of(self) == 1:  # being forked last, it alone sees at once that the command died
                until(lambda: self.keeper.guard.interrupted)

    with monkeypatch.context() as patch:
        patch.setattr(Trainer, "_optimizer_step", waiting)
        command = forked.Process(
            target=train_units, args=(cfg("two", n=2), paths, [0], [42]), daemon=False
        )
        command.start()
        for _ in range(2):
            assert reached.acquire(timeout=WAIT)
        lock = FileLock(paths.fold("two", 42, 0) / ".group.lock", timeout=0)
        with pytest.raises(Timeout):  # held by the processes, not by the command alone
            lock.acquire()
        command.kill()
        command.join(WAIT)
    pids = [int((tmp_path / f"rank{rank}.pid").read_text()) for rank in (0, 1)]
    train_units(cfg("two", n=2), paths, [0], [42])  # it waits until those have saved
    log = (paths.experiment("two") / "workers" / "seed42-fold0-rank0.log").read_text()
    assert "resumed at step 2 of 6" in log
    until(lambda: not any(psutil.pid_exists(pid) for pid in pids))
    train_units(cfg("one"), paths, [0], [42])
    assert_close(paths, ("one", "two"), atol=2e-6)


def test_a_failure_in_one_process_is_the_reason_that_is_told(setup, monkeypatch):
    paths, cfg = setup
    evaluate = Evaluator.evaluate

    def failing(self):
        if self.team.rank == 1:
            raise ConfigError("awp had no effect: raise awp_lr")
        evaluate(self)  # waits for the other

    monkeypatch.setattr(Evaluator, "evaluate", failing)
    says = r"^rank 1 on cpu failed: awp had no effect: raise awp_lr \(log: .*rank1.log\)$"
    with pytest.raises(OoflineError, match=says):
        train_units(cfg("two", n=2), paths, [0], [42])


def test_a_process_that_is_cut_off_from_the_others_does_not_keep_them(setup, monkeypatch):
    paths, cfg = setup
    evaluate = Evaluator.evaluate

    def vanishing(self):
        if self.team.rank == 1:
            torch.distributed.destroy_process_group()
            threading.Event().wait(WAIT)
        evaluate(self)

    monkeypatch.setattr(Evaluator, "evaluate", vanishing)
    monkeypatch.setattr(group_module, "CAUSE_SECONDS", 0.5)
    with pytest.raises(OoflineError, match=r"rank 0 on cpu failed: another process .* has ended"):
        train_units(cfg("two", n=2), paths, [0], [42])


def test_a_process_that_hangs_is_not_waited_for_without_end(setup, monkeypatch):
    paths, cfg = setup
    evaluate = Evaluator.evaluate

    def hanging(self):
        if self.team.rank == 1:
            os.kill(os.getpid(), signal.SIGSTOP)
        distributed_c10d._set_pg_timeout(timedelta(seconds=1))  # in place of `PATIENCE`
        evaluate(self)

    monkeypatch.setattr(Evaluator, "evaluate", hanging)
    monkeypatch.setattr(group_module, "CAUSE_SECONDS", 0.5)
    says = r"rank 0 on cpu failed: another process .* cannot be reached \(.*[Tt]imed out"
    with pytest.raises(OoflineError, match=says):
        train_units(cfg("two", n=2), paths, [0], [42])
    assert [p for p in psutil.Process().children() if p.status() == psutil.STATUS_STOPPED] == []


def test_a_process_that_hangs_does_not_keep_the_fold_past_the_time_limit(
    setup, tmp_path, monkeypatch
):
    paths, cfg = setup
    command, evaluate, seconds_left = os.getpid(), Evaluator.evaluate, Guard.seconds_left

    def hanging(self):
        if self.team.rank == 1:
            (tmp_path / "hangs").touch()
            os.kill(os.getpid(), signal.SIGSTOP)
        evaluate(self)

    def late(self):
        over = os.getpid() == command and (tmp_path / "hangs").exists()
        return -group_module.OVERDUE_SECONDS - 1.0 if over else seconds_left(self)

    monkeypatch.setattr(Evaluator, "evaluate", hanging)
    monkeypatch.setattr(Guard, "seconds_left", late)
    with pytest.raises(Stopped, match="the processes of seed 42 fold 0 hang and are ended") as stop:
        train_units(cfg("two", n=2), paths, [0], [42])
    assert stop.value.exit_code == 0
    assert [p for p in psutil.Process().children() if p.status() == psutil.STATUS_STOPPED] == []


def test_processes_divide_the_threads_of_the_one_that_starts_them(setup, monkeypatch):
    paths, cfg = setup
    posts = []

    def note(label, start, post):
        posts.append((label, post.threads))
        raise OoflineError("no process here")

    monkeypatch.setattr(group_module, "Child", note)
    monkeypatch.setattr(group_module.torch, "get_num_threads", lambda: 7)
    with pytest.raises(OoflineError, match="no process here"):
        train_units(cfg("three", n=3), paths, [0], [42])
    assert posts == [("rank 0 on cpu", 2)]


def test_who_watches_evaluations_sees_them_and_can_end_the_fold(setup):
    paths, cfg = setup
    guard, seen = Guard(), []

    def watch(row):
        seen.append(row["score"])
        if len(seen) == 2:
            raise Stopped("not worth going on with")

    guard.watch = watch
    settings = cfg("two", n=2, epochs=40)
    with pytest.raises(Stopped, match="not worth"):
        trainer_of(settings, begin(settings, paths), guard)((42, 0))
    assert len(seen) >= 2
    assert not (paths.fold("two", 42, 0) / "scores.json").exists()


def test_two_groups_side_by_side(setup, forked, monkeypatch):
    paths, cfg = setup
    train_units(cfg("one"), paths, [0, 1], [42])
    both, train = forked.Barrier(2), crossval.train_in_group

    def together(*args):
        both.wait(WAIT)  # passes only if two folds are being trained at the same time
        return train(*args)

    monkeypatch.setattr(crossval, "train_in_group", together)
    pairs = dataclasses.replace(cfg("pairs"), device="cpu+cpu,cpu+cpu")
    assert train_on_devices(pairs, paths, [0, 1], [42]) == 2
    assert_close(paths, ("one", "pairs"), atol=2e-6)
    assert (paths.fold("pairs", 42, 1) / "scores.json").is_file()


@pytest.mark.timeout(900)  # interpreters that import torch, on a machine that may be busy
def test_the_command_starts_the_processes_itself(write_competition):
    paths = write_competition("binary", n=66)
    command = [sys.executable, "-m", "oofline", "train", "--comp", "toy", "--fold", "0"]
    done = subprocess.run(
        [*command, "--device", "cpu+cpu"], cwd=paths.root, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "seed 42 fold 0 epoch 2.00: train loss" in done.stdout
    assert done.stdout.count("epoch 2.00") == 1  # the first process speaks for all
    assert "seed 42 fold 0: 2 processes train it together; their logs are in" in done.stdout
    assert scores(paths, "base")["processes"] == 2
    assert np.isfinite(curve(paths, "base").to_numpy()).all()
