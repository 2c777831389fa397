"""Arms on devices, side by side, and on a cluster, which works in this process: the same files."""

import contextlib
import os
import re
import resource
import shutil
import signal
import sys

import pandas as pd
import pytest
from filelock import FileLock

from oofline import cli, crossval
from oofline.ablation import spread
from oofline.ablation.arms import Arm
from oofline.engines.outcome import Failure
from oofline.engines.store import Store
from oofline.engines.stored_fold import StoredFold
from oofline.storage import read_json
from oofline.training.guard import Guard

WAIT = 300
"""Seconds after which a test that hangs fails."""
ARMS = "[arms.plain]\n[arms.warm]\nlr = 2e-3\n"
MEASURED = ["minutes", "time_ratio", "memory_mb", "memory_ratio"]
"""Columns that no two runs have in common."""


@pytest.fixture
def cluster(monkeypatch):
    """Notes the jobs that a cluster is given, and does them here; a job of arm "low" fails.

    Beside each job stands whether there was a table when it was begun.
    """
    given = []

    def do(cfg, paths, work, guard):
        assert work.go_on
        assert work.alone
        train = work.start(paths, "cpu", guard)
        for job in work.jobs:
            table = paths.output / "ablations" / "ablation" / "table.csv"
            given.append((work.name(job), table.exists()))
            if "-low " in work.name(job):
                work.after(job, Failure(job, "a node said no"))
            else:
                work.after(job, train(job))

    monkeypatch.setattr(spread, "do_on_cluster", do)
    monkeypatch.setattr(spread, "engine_ready", lambda cfg, n: contextlib.nullcontext())
    return given


def test_arms_take_turns_and_a_failure_is_in_the_table(
    write_competition, cluster, tmp_path, capsys
):
    paths = write_competition("binary", 60)
    arms = tmp_path / "arms.toml"
    arms.write_text(
        "[arms.plain]\n[arms.high]\nlinear_penalty = 10.0\n[arms.low]\nlinear_penalty = 0.1\n"
    )
    code = cli.run(
        ["ablation", "--comp", "toy", "--arms", "plain,high,low", "--file", str(arms), "--fold",
         "0,1", "--engine", "ray", "--kind", "ridge"],
        tmp_path,
    )  # fmt: skip
    assert code == 2
    assert "2 of 6 units failed (the first: a node said no)" in capsys.readouterr().err
    names = ("plain", "high", "low")
    assert cluster == [  # the files are written after each round
        (f"ablation-{arm} seed 42 fold {k}", k > 0) for k in (0, 1) for arm in names
    ]
    frame = pd.read_csv(paths.output / "ablations" / "ablation" / "table.csv")
    assert set(frame["arm"]) == set(names)
    for arm in ("plain", "high"):
        assert read_json(paths.fold(f"ablation-{arm}", 42, 1) / "scores.json")["n_rows"] == 20
    assert not (paths.fold("ablation-low", 42, 0) / "scores.json").exists()


def test_what_a_store_holds_finished_is_fetched_and_not_trained_again(
    write_competition, cluster, tmp_path, capsys
):
    paths = write_competition("binary", 60)
    url = str(tmp_path / "store")
    words = ["ablation", "--comp", "toy", "--arms", "base", "--fold", "0,1", "--engine", "ray",
             "--kind", "ridge", "--shared-storage", url]  # fmt: skip
    assert cli.run(words, tmp_path) == 0, capsys.readouterr().err
    fold = paths.fold("ablation-base", 42, 1)
    key = fold.relative_to(paths.root).as_posix()
    scores = read_json(fold / "scores.json")
    StoredFold(Store(url), key).put(fold, {}, weights=True)
    shutil.rmtree(fold)
    shutil.rmtree(paths.fold("ablation-base", 42, 0))
    cluster.clear()
    assert cli.run(words, tmp_path) == 0
    assert [name for name, _ in cluster] == ["ablation-base seed 42 fold 0"]
    assert read_json(fold / "scores.json") == scores


@pytest.fixture
def ablation(write_competition, tmp_path, capsys):
    """ablation(*options) -> (exit code, stdout, stderr) of arms plain and warm, fold 0."""
    paths = write_competition("binary", 60, epochs=1, cpus_per_fold=1)
    (tmp_path / "arms.toml").write_text(ARMS)

    def run(*options):
        argv = ["ablation", "--comp", "toy", "--arms", "plain,warm", "--fold", "0", *options]
        code = cli.run([*argv, "--file", str(tmp_path / "arms.toml")], tmp_path)
        captured = capsys.readouterr()
        return code, captured.out, captured.err

    run.paths = paths
    return run


@pytest.fixture
def together(forked, monkeypatch):
    """together(then): two units wait for each other; then(cfg) is called before each trains."""
    train = crossval.train_fold

    def use(then=lambda cfg: None):
        both = forked.Barrier(2)  # passes only if two units are being trained at the same time

        def train_fold(cfg, *more):
            both.wait(WAIT)
            then(cfg)
            return train(cfg, *more)

        monkeypatch.setattr(crossval, "train_fold", train_fold)

    use.undo = lambda: monkeypatch.setattr(crossval, "train_fold", train)
    return use


def test_two_devices_work_side_by_side_and_change_no_result(ablation, together):
    together()
    code, out, _ = ablation("--device", "cpu,cpu", "--name", "two")
    assert code == 0
    assert "2 units on cpu, cpu, side by side; their logs are in " in out
    began = re.findall(r"^two-(\w+) seed 42 fold 0 \| seed 42 fold 0: f1", out, re.MULTILINE)
    assert sorted(began) == ["plain", "warm"]
    assert set(re.findall(r"^two-\w+ seed 42 fold 0 on (\S+): done in", out, re.MULTILINE)) == {
        "cpu/1", "cpu/2"
    }  # fmt: skip
    output = ablation.paths.output
    logs = {path.name: path.read_text() for path in (output / "ablations/workers").iterdir()}
    assert sorted(logs) == [f"two-{arm}-seed-42-fold-0.log" for arm in ("plain", "warm")]
    assert all(text.count("seed 42 fold 0: f1") == 1 for text in logs.values())
    together.undo()
    assert ablation("--device", "cpu", "--name", "one")[0] == 0
    tables = {}
    for name in ("one", "two"):
        tables[name] = pd.read_csv(output / "ablations" / name / "table.csv")
        text = (output / "ablations" / name / "table.md").read_text()
        assert ("trained side by side: their minutes hold" in text) == (name == "two")
    pd.testing.assert_frame_equal(
        *(table.drop(columns=MEASURED) for table in tables.values()), check_exact=True
    )
    folds = [
        pd.read_parquet(ablation.paths.fold(f"{name}-{arm}", 42, 0) / "oof.parquet")
        for arm in ("plain", "warm") for name in ("one", "two")
    ]  # fmt: skip
    pd.testing.assert_frame_equal(folds[0], folds[1], check_exact=True)
    pd.testing.assert_frame_equal(folds[2], folds[3], check_exact=True)
    assert not folds[0].equals(folds[2])  # the arms differ


def test_a_killed_unit_is_in_the_table_and_the_other_goes_on(ablation, together):
    together(lambda cfg: cfg.exp.endswith("warm") and os.kill(os.getpid(), signal.SIGKILL))
    code, out, err = ablation("--device", "cpu,cpu")
    assert code == 2
    reason = "its process was killed by signal 9 (out of memory?)"
    assert f"1 of 2 units failed (the first: {reason}); the table holds the others" in err
    assert f"failed: ablation-warm seed 42 fold 0: {reason} (log: " in out
    frame = pd.read_csv(ablation.paths.output / "ablations/ablation/table.csv").set_index("arm")
    assert frame["failed"].to_dict() == {"plain": 0, "warm": 1}
    assert frame.loc["plain", "score"] > 0
    assert frame.loc["warm", "why_failed"] == reason
    together.undo()
    code, out, _ = ablation("--device", "cpu,cpu")  # the same command tries it again
    assert (code, "ablation-plain seed 42 fold 0 on" in out) == (0, False)


def test_a_bug_in_a_unit_is_none_of_the_results(ablation, forked, monkeypatch):
    monkeypatch.setattr(crossval, "train_fold", lambda *a: 1 / 0)
    says = r"(?s)^ablation-plain seed 42 fold 0 on cpu \(log: .*ZeroDivisionError"
    with pytest.raises(RuntimeError, match=says):
        ablation("--device", "cpu")


def test_a_unit_that_another_process_trains_is_left_to_it(ablation, forked):
    folder = ablation.paths.fold("ablation-warm", 42, 0)
    folder.mkdir(parents=True)
    with FileLock(folder / ".lock"):
        code, out, _ = ablation("--device", "cpu")
    assert code == 0
    assert re.search(r"^ablation-warm .* on cpu: done in .*, left to another process", out, re.M)
    assert "1 units are being trained by another process: run this again afterwards" in out


def test_arms_of_one_device_take_turns_whatever_their_kind(
    write_competition, load_settings, monkeypatch
):
    paths = write_competition("binary", 60)
    given = []

    def share(jobs, devices, start, logs, guard, name, threads, **more):
        given.append(([name(job) for job in jobs], devices, threads))

    monkeypatch.setattr(spread, "share", share)
    cfg = {"device": "cpu,cpu", "cpus_per_fold": 3}
    arms = [
        Arm(kind, {}, load_settings(paths, exp=kind, kind=kind, **cfg))
        for kind in ("transformer", "ridge")
    ]
    jobs = [(arm, (7, k)) for k in (0, 1) for arm in arms]
    spread.train_spread(jobs, paths, Guard(), lambda job, outcome: None)
    names = [f"{arm.name} seed 7 fold {k}" for k in (0, 1) for arm in arms]
    assert given == [(names, ["cpu", "cpu"], 3)]
    given.clear()
    gpus = ["cuda:0", "cuda:1"]
    found = {"transformer": gpus, "ridge": ["cpu"]}
    monkeypatch.setattr(spread, "device_list", lambda cfg, n: found[cfg.kind])
    spread.train_spread(jobs, paths, Guard(), lambda job, outcome: None)
    assert given == [(names[::2], gpus, 3), (names[1::2], ["cpu"], 3)]


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_a_units_memory_is_its_own(write_competition, load_settings):
    paths = write_competition()
    arm, outcomes = Arm("base", {}, load_settings(paths, epochs=1, device="cpu")), []
    ballast = b"x" * 800_000_000
    jobs = [(arm, (7, 1))]
    spread.train_spread(jobs, paths, Guard(), lambda *ended: outcomes.append(ended))
    assert outcomes == [(jobs[0], True)]
    scores = read_json(paths.fold("base", 7, 1) / "scores.json")
    del ballast
    here = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / 1e6
    assert 100 < scores["peak_memory_mb"] < here - 300
    inherited = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss * 1024 / 1e6
    assert inherited > here - 100  # the faulty form: what a child that was started says of itself
