"""Online tracking against a server on the loopback address."""

import subprocess
import sys
import textwrap

import pytest

from oofline import tracking
from oofline.config import CFG
from oofline.errors import ConfigError, DataError, OoflineError
from oofline.storage import Paths
from oofline.tracking import start, upload

KEY = "a" * 40


@pytest.fixture
def paths(tmp_path):
    return Paths("comp", tmp_path)


@pytest.fixture
def online(stub, monkeypatch):
    monkeypatch.delenv("WANDB_MODE", raising=False)
    monkeypatch.setenv("WANDB_BASE_URL", stub.url)
    monkeypatch.setenv("WANDB_API_KEY", KEY)
    monkeypatch.setattr(start, "INIT_SECONDS", 3.0)
    monkeypatch.setattr(start, "FINISH_SECONDS", 2.0)
    return stub


def names(stub):
    return [variables.get("displayName") for _, variables in stub.queries]


def folders(paths):
    return [path.name for path in (paths.output / "wandb").glob("*run-2*")]


def test_history_reaches_the_server_and_a_resumed_fold_goes_on(online, paths):
    for first_step in (0, 3):
        with tracking.fold_tracker(CFG(comp="comp", exp="e"), paths, 42, 0) as tracker:
            for step in range(first_step, first_step + 5):
                tracker.log({"loss": 1.0 / (step + 1)}, step)
            tracker.summary({"score": 0.5})
    rows = [row for row in online.history[tracker.id] if "loss" in row]
    assert [row["step"] for row in rows] == [0, 1, 2, 3, 4, 3, 4, 5, 6, 7]
    assert [row["_step"] for row in rows] == sorted({row["_step"] for row in rows})
    assert rows[3]["loss"] == 0.25
    assert "e-s42-f0" in names(online)
    assert online.exits[tracker.id] == 0
    assert online.summary[tracker.id]["score"] == 0.5
    assert tracking.sync(paths) == 0  # nothing is left to upload


@pytest.mark.timeout(150)
def test_an_unreachable_server_costs_one_short_wait(online, paths, capsys):
    online.stop()
    for fold in range(2):
        with tracking.fold_tracker(CFG(comp="comp"), paths, 1, fold) as tracker:
            tracker.log({"loss": 1.0}, 0)
        assert tracker.id
    assert capsys.readouterr().out.count("tracking offline") == 1
    assert sum(name.startswith("offline-") for name in folders(paths)) == 2


def test_a_key_that_is_none_falls_back_at_once(online, paths, monkeypatch, capsys):
    monkeypatch.setenv("WANDB_API_KEY", "short")
    with tracking.fold_tracker(CFG(comp="comp"), paths, 1, 0) as tracker:
        assert tracker.id
    said = capsys.readouterr().out
    assert said.count("\n") == 1
    assert "40+ characters" in said
    assert online.queries == []


@pytest.mark.timeout(150)
def test_a_server_that_dies_slows_nothing_and_sync_finds_the_rest(online, paths, capsys):
    tracker = tracking.fold_tracker(CFG(comp="comp"), paths, 1, 0)
    tracker.log({"loss": 1.0}, 0)
    online.stop()
    for step in range(1, 1001):
        tracker.log({"loss": 1.0, "lr/head": 0.1}, step)
    tracker.finish()
    assert "make sync" in capsys.readouterr().out
    assert len(list((paths.output / "wandb").glob("run-*/upload-pending"))) == 1


def test_offline_runs_are_uploaded_once(online, paths):
    cfg = CFG(comp="comp", wandb="offline")
    ids = []
    for fold in range(2):
        with tracking.fold_tracker(cfg, paths, 1, fold) as tracker:
            tracker.log({"loss": 0.5}, 0)
        ids.append(tracker.id)
    assert online.queries == []
    assert tracking.sync(paths) == 2
    assert {run: rows[0]["loss"] for run, rows in online.history.items()} == dict.fromkeys(ids, 0.5)
    asked = len(online.queries)
    assert tracking.sync(paths) == 0
    assert len(online.queries) == asked


def test_a_run_that_is_still_written_waits(online, paths):
    with tracking.fold_tracker(CFG(comp="comp", wandb="offline"), paths, 1, 0) as tracker:
        tracker.log({"loss": 1.0}, 0)
        assert tracking.sync(paths) == 0
    assert tracking.sync(paths) == 1


def test_a_killed_fold_and_its_continuation_are_both_uploaded(online, paths, monkeypatch):
    code = """
        import time
        from pathlib import Path
        from oofline import tracking
        from oofline.config import CFG
        from oofline.storage import Paths
        cfg = CFG(comp="comp", wandb="offline")
        tracker = tracking.fold_tracker(cfg, Paths("comp", Path(".")), 1, 0)
        for step in range(2000):
            tracker.log({"loss": 1.0, "lr/head": 0.1}, step)
        time.sleep(1.5)
        print("logged", flush=True)
        time.sleep(60)
    """
    command = [sys.executable, "-c", textwrap.dedent(code)]
    with subprocess.Popen(command, cwd=paths.root, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout.readline() == "logged\n"
        process.kill()
    with tracking.fold_tracker(CFG(comp="comp", wandb="offline"), paths, 1, 0) as tracker:
        tracker.log({"loss": 0.25}, 1500)
    monkeypatch.setattr(upload, "_LIVE_SECONDS", 0.0)
    assert tracking.sync(paths) == 2
    rows = [row for row in online.history[tracker.id] if "loss" in row]
    assert len(rows) > 1500  # what was flushed before the kill, less an incomplete last record
    assert rows[0]["step"] == 0
    assert (rows[-1]["step"], rows[-1]["loss"]) == (1500, 0.25)
    assert tracking.sync(paths) == 0


def test_sync_says_what_is_missing(online, paths, monkeypatch, tmp_path):
    with pytest.raises(DataError, match="no tracked runs"):
        tracking.sync(paths)
    monkeypatch.delenv("WANDB_API_KEY")
    tracking.fold_tracker(CFG(comp="comp", wandb="offline"), paths, 1, 0).finish()
    with pytest.raises(ConfigError, match="WANDB_API_KEY"):
        tracking.sync(paths)
    monkeypatch.setenv("WANDB_API_KEY", KEY)
    monkeypatch.setitem(upload._PATIENCE, "WANDB_X_GRAPHQL_RETRY_MAX", "1")
    online.stop()
    with pytest.raises(OoflineError, match="nothing is lost"):
        tracking.sync(paths)
