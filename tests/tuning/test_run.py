"""`oofline tune` as a user types it: trials, results, re-runs, resuming and refusals."""

import os
import re
import signal
import subprocess
import sys
import time

import pandas as pd
import pytest

from oofline.errors import OoflineError, Stopped
from oofline.storage import read_json
from oofline.tuning import run as run_module
from oofline.tuning import study as study_module
from oofline.tuning import trial as trial_module
from oofline.tuning.pruning import FoldPruner, step_after, step_inside

TOY = ("tune", "--comp", "toy", "--space", "lr=log(1e-5,1e-2)")


def test_a_search_from_trials_to_an_experiment(write_competition, oofline):
    paths = write_competition(n=120, epochs=2, lr=1e-5, metric="accuracy", n_folds=3)
    argv = (*TOY, "--trials", "4", "--confirm", "2", "--name", "rate", "--prune", "none")
    code, out, _ = oofline(*argv, "--apply", "tuned")
    assert code == 0
    folder = paths.tuning("rate")
    frame = pd.read_csv(folder / "trials.csv")
    assert frame["trial"].tolist() == [0, 1, 2, 3]
    assert frame["lr"][0] == 1e-5  # the default comes first
    assert frame["lr"].between(1e-5, 1e-2).all()
    assert frame["lr"].nunique() == 4
    for _, row in frame.iterrows():  # each is an ordinary experiment, scored as `oof` does
        stored = read_json(paths.experiment(row["exp"]) / "scores.json")
        assert stored["score"] == pytest.approx(row["score"])
        assert read_json(paths.experiment(row["exp"]) / "cfg.json")["lr"] == row["lr"]
        assert (paths.fold(row["exp"], 42, 2) / "oof.parquet").exists()
        assert not list(paths.experiment(row["exp"]).rglob("*.safetensors"))
    for name in ("progress", "sensitivity", "importances", "parallel"):
        assert (folder / f"{name}.png").read_bytes().startswith(b"\x89PNG")
    text = (folder / "tuning.md").read_text()
    best = frame.loc[frame["score"].idxmax()]
    assert f"trial {best['trial']}, lr = {best['lr']:.3g}: accuracy {best['score']:.5f}" in text
    assert "beyond seed noise" in text
    assert "winner's optimism" in text
    assert "winner's optimism" in out
    again = f"rate-best-t{best['trial']:04d}"
    assert read_json(paths.experiment(again) / "scores.json")["seeds"] == [1001, 1002]
    assert read_json(paths.experiment("rate-default") / "cfg.json")["lr"] == 1e-5
    assert read_json(paths.experiment("tuned") / "cfg.json")["lr"] == best["lr"]

    made = {path: path.stat().st_mtime_ns for path in paths.output.rglob("fold*/oof.parquet")}
    code, out, _ = oofline(*argv)  # nothing is trained a second time
    assert code == 0
    assert {path: path.stat().st_mtime_ns for path in made} == made
    assert len(list(paths.output.rglob("fold*/oof.parquet"))) == len(made)

    code, out, _ = oofline(*TOY, "--trials", "5", "--confirm", "0", "--name", "rate")
    assert code == 0
    assert "4 of 5 trials are finished already" in out
    assert len(pd.read_csv(folder / "trials.csv")) == 5
    code, _, err = oofline(*TOY, "--trials", "5", "--name", "rate", "--epochs", "1")
    assert code == 2
    assert "was started with another epochs: choose another NAME" in err
    code, out, _ = oofline("train", "--comp", "toy", "--exp", "tuned", "--from", "tuned")
    assert code == 0


def test_a_killed_search_goes_on_with_the_same_trial(
    write_competition, oofline, tmp_path, monkeypatch
):
    paths = write_competition(n=60, epochs=1, metric="accuracy")
    argv = (*TOY, "--trials", "3", "--confirm", "0", "--name", "rate", "--prune", "none")
    command = [sys.executable, "-m", "oofline", *argv]
    process = subprocess.Popen(command, env=os.environ | {"OOFLINE_ROOT": str(tmp_path)})
    first = paths.fold("rate-t0001", 42, 0) / "scores.json"
    deadline = time.monotonic() + 600
    while not first.exists() and process.poll() is None and time.monotonic() < deadline:
        time.sleep(0.01)
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert first.exists()
    assert not (paths.experiment("rate-t0001") / "scores.json").exists()
    before, lr = first.stat().st_mtime_ns, read_json(first.parents[2] / "cfg.json")["lr"]

    monkeypatch.setattr(study_module, "STALE_SECONDS", 1)
    monkeypatch.setattr(study_module, "BEAT_SECONDS", 1)
    code, out, _ = oofline(*argv)
    assert code == 0
    assert "1 of 3 trials are finished already" in out
    frame = pd.read_csv(paths.tuning("rate") / "trials.csv")
    assert frame["trial"].is_unique
    assert frame["state"].tolist() == ["complete"] * 3
    assert first.stat().st_mtime_ns == before  # its finished fold was kept
    assert frame.set_index("exp").loc["rate-t0001", "lr"] == lr


def test_a_trial_that_was_queued_after_its_workers_were_done_is_run(
    write_competition, oofline, monkeypatch
):
    """A worker that looks between the end of a lost trial and its queueing finds nothing to do."""
    paths = write_competition(n=60, epochs=1, metric="accuracy")
    jobs = []

    def hasty(*arguments):
        do = run_module_worker(*arguments)

        def first_looks_too_early(job):
            jobs.append(job)
            return "none was left" if len(jobs) == 1 else do(job)

        return first_looks_too_early

    run_module_worker = run_module.worker
    monkeypatch.setattr(run_module, "worker", hasty)
    argv = (*TOY, "--trials", "2", "--confirm", "0", "--name", "rate", "--prune", "none")
    assert oofline(*argv)[0] == 0
    assert len(jobs) == 3
    frame = pd.read_csv(paths.tuning("rate") / "trials.csv")
    assert frame["state"].tolist() == ["complete"] * 2


def test_workers_share_one_study_and_one_group(write_competition, oofline, forked):
    paths = write_competition(n=60, epochs=1, metric="accuracy", wandb="offline")
    argv = (*TOY, "--trials", "3", "--parallel", "2", "--confirm", "0", "--name", "both")
    code, out, _ = oofline(*argv)
    assert code == 0
    assert len(re.findall(r"60 training rows", out)) == 1  # said once, not by every trial
    for number in range(3):
        assert len(re.findall(rf"^cpu/\d \| trial {number}: lr = ", out, flags=re.M)) == 1
    results = re.findall(
        r"^cpu/\d \| trial \d: (?:accuracy 0\.\d{5}|stopped early)", out, flags=re.M
    )
    assert len(results) == 3
    said = {line.split(" | ")[1].split()[0] for line in out.splitlines() if " | " in line}
    assert said == {"trial"}
    assert len(re.findall(r"^trial \d on cpu/\d: done in ", out, flags=re.M)) == 3
    log = (paths.tuning("both") / "workers" / "cpu-1.log").read_text()
    assert "training rows" in log
    assert "epoch 1.00: train loss" in log
    frame = pd.read_csv(paths.tuning("both") / "trials.csv")
    assert frame["exp"].tolist() == ["both-t0000", "both-t0001", "both-t0002"]
    assert frame["lr"].nunique() == 3
    assert set(frame["state"]) <= {"complete", "stopped early"}
    logs = sorted(path.name for path in (paths.tuning("both") / "workers").iterdir())
    assert logs == ["cpu-1.log", "cpu-2.log"]
    runs = [path.read_bytes() for path in paths.output.glob("wandb/offline-run-*/run-*.wandb")]
    assert len(runs) == 9  # a run for each fold of each trial, all of the group "both"
    assert all(b"\x04both" in run for run in runs)


def test_a_trial_that_fails_does_not_end_the_search(write_competition, oofline, monkeypatch):
    paths = write_competition(n=60, epochs=1, metric="accuracy")
    begin = trial_module.begin

    def fussy(cfg, paths):
        if cfg.exp.endswith("t0001"):
            raise OoflineError("the loss is nan at optimizer step 3")
        return begin(cfg, paths)

    monkeypatch.setattr(trial_module, "begin", fussy)
    code, _, _ = oofline(*TOY, "--trials", "3", "--confirm", "0", "--name", "rate")
    assert code == 0
    frame = pd.read_csv(paths.tuning("rate") / "trials.csv").set_index("trial")
    assert frame.loc[1, "state"] == "failed"
    assert frame.loc[1, "reason"] == "the loss is nan at optimizer step 3"
    assert frame["score"].notna().tolist() == [True, False, True]


def test_an_interrupted_trial_is_taken_up(write_competition, oofline, monkeypatch):
    paths = write_competition(n=60, epochs=1, metric="accuracy")
    trainer_of, calls = trial_module.trainer_of, []

    def interrupted(cfg, material, guard):
        train = trainer_of(cfg, material, guard)

        def one(unit):
            calls.append((cfg.exp, cfg.lr, unit))
            if len(calls) == 2:
                raise Stopped("interrupted", 130)
            return train(unit)

        return one

    monkeypatch.setattr(trial_module, "trainer_of", interrupted)
    argv = (*TOY, "--trials", "2", "--confirm", "0", "--name", "rate", "--prune", "none")
    assert oofline(*argv)[0] == 130
    assert oofline(*argv)[0] == 0
    assert {exp for exp, _, _ in calls} == {"rate-t0000", "rate-t0002"}  # 1 went on with 0
    assert len({(exp, lr) for exp, lr, _ in calls}) == 2
    assert len(pd.read_csv(paths.tuning("rate") / "trials.csv")) == 2


def test_bad_trials_end_inside_a_fold_or_after_one(write_competition, oofline, monkeypatch):
    paths = write_competition(n=60, epochs=2, evals_per_epoch=2, metric="accuracy")
    ends = {1: step_inside(0, 1.0), 2: step_after(0)}  # trial -> the step that it ends after

    def prune(self, study, trial):
        return trial.last_step == ends.get(trial.number)

    monkeypatch.setattr(FoldPruner, "prune", prune)
    code, out, _ = oofline(*TOY, "--trials", "4", "--confirm", "0", "--name", "rate")
    assert code == 0
    frame = pd.read_csv(paths.tuning("rate") / "trials.csv")
    assert frame["state"].tolist() == ["complete", "stopped early", "stopped early", "complete"]
    assert frame["units"].tolist() == [3, 0, 1, 3]
    assert frame["estimate"].notna().tolist() == [True, False, True, True]
    assert "trial 1: stopped early, score and loss worse than the medians after epoch 1" in out
    inside = paths.fold("rate-t0001", 42, 0)
    assert not (inside / "scores.json").exists()
    assert not list(inside.glob("*.safetensors"))  # nobody goes on with its state
    best = frame.loc[frame["score"].idxmax(), "exp"]
    first = [read_json(paths.fold(e, 42, 0) / "scores.json")["score"] for e in ("rate-t0002", best)]
    assert frame["estimate"][2] == pytest.approx(frame["score"].max() + first[0] - first[1])


@pytest.mark.parametrize("sampler", ["gp", "random"])
def test_other_samplers_search_too(write_competition, oofline, sampler):
    paths = write_competition(n=60, epochs=1, metric="accuracy", n_folds=2)
    space = ("--space", "lr=log(1e-4,1e-2), pooling=choice(mean,cls), batch_size=range(4,16)")
    argv = ("tune", "--comp", "toy", *space, "--sampler", sampler, "--trials", "6")
    code, out, _ = oofline(*argv, "--confirm", "0", "--fold", "1")
    assert code == 0
    assert "3 settings are searched with 6 trials" in out
    frame = pd.read_csv(paths.tuning("base-lr-pooling-batch_size") / "trials.csv")
    assert frame["score"].notna().all()
    assert set(frame["pooling"]) <= {"mean", "cls"}
    assert frame["batch_size"].between(4, 16).all()
    assert (frame["units"] == 1).all()


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        (("--space", "lr=log(1,0)"), "needs low below high"),
        (("--trials", "0"), "trials = 0 must be at least 1"),
        (("--prune-p", "0.9"), "0.5 at most"),
        (("--storage", "nosuch://here"), "storage: cannot be opened"),
        (("--name", "a/b"), "a/b"),
    ],
)
def test_bad_input_is_one_line_and_trains_nothing(write_competition, oofline, argv, message):
    paths = write_competition(n=60)
    code, _, err = oofline(*TOY, *argv)
    assert code == 2
    assert message in err
    assert not list(paths.output.rglob("oof.parquet"))
