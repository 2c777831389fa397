"""Offline tracking, read back from the files that wandb wrote."""

import json
import math
import os
import socket
import subprocess
import sys
import textwrap
import threading
from pathlib import Path

import pandas as pd
import pytest

from oofline import tracking
from oofline.config import CFG
from oofline.errors import Stopped
from oofline.storage import Paths


@pytest.fixture
def paths(tmp_path):
    return Paths("comp", tmp_path)


def run_files(paths):
    return sorted((paths.output / "wandb").glob("*run-*/run-*.wandb"))


def records(file):
    """All records of one run, by type."""
    command = [sys.executable, "-m", "wandb", "leet", "inspect", "--json", str(file)]
    text = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    found = {}
    for line in text.splitlines():
        record = json.loads(line)
        found.setdefault(record["type"], []).append(record[record["type"]])
    return found


def history(found):
    return [record["item"] for record in found["history"]]


def summary(found):
    merged = {}
    for record in found["summary"]:
        merged |= record.get("update", {})
    return merged


def test_a_fold_is_written_with_names_config_curves_and_summary(paths):
    cfg = CFG(comp="comp", exp="awp", lr=3e-5, wandb="offline")
    with tracking.fold_tracker(cfg, paths, seed=42, fold=1) as tracker:
        for step in range(5):
            tracker.log({"train_loss": 1 / (step + 1), "lr/head": 0.1, "epoch": step / 5}, step)
        tracker.log({"train_loss": math.nan}, 5)
        tracker.summary({"score": 0.7, "ci95": [0.6, 0.8]})
    (file,) = run_files(paths)
    found = records(file)
    (run,) = found["run"]
    assert run["project"] == "comp"
    assert run["run_group"] == "awp"
    assert run["job_type"] == "train"
    assert run["display_name"] == "awp-s42-f1"
    assert run["run_id"] == tracker.id
    assert socket.gethostname() not in run.values()
    config = run["config"]["update"]
    assert (config["lr"], config["seed"], config["fold"]) == (3e-5, 42, 1)
    rows = history(found)
    assert [row["step"] for row in rows] == [0, 1, 2, 3, 4, 5]
    assert rows[3]["train_loss"] == 0.25
    assert any(m.get("step_metric") == "step" for m in found["metric"])
    assert summary(found)["score"] == 0.7
    assert found["exit"][0].get("exit_code", 0) == 0


def test_an_exception_marks_the_run_as_failed(paths):
    cfg = CFG(comp="comp", wandb="offline")
    with pytest.raises(KeyError), tracking.fold_tracker(cfg, paths, 1, 0):
        raise KeyError("boom")
    assert records(run_files(paths)[0])["exit"][0]["exit_code"] == 1


def test_a_time_limit_is_no_failure_and_an_empty_variable_no_mode(paths, monkeypatch):
    monkeypatch.setenv("WANDB_MODE", "")
    with pytest.raises(Stopped), tracking.fold_tracker(CFG(comp="comp"), paths, 1, 0):
        raise Stopped("time limit")
    assert records(run_files(paths)[0])["exit"] == [{"exit_code": 0}]


def test_a_resumed_fold_keeps_its_id_and_a_deleted_fold_gets_a_new_one(paths):
    cfg = CFG(comp="comp", wandb="offline")
    ids = []
    for first_step in (0, 3):
        tracker = tracking.fold_tracker(cfg, paths, 42, 0)
        for step in range(first_step, first_step + 5):
            tracker.log({"loss": 1.0}, step)
        tracker.finish()
        ids.append(tracker.id)
    assert ids[0] == ids[1]
    steps = [[row["step"] for row in history(records(file))] for file in run_files(paths)]
    assert sorted(steps) == [[0, 1, 2, 3, 4], [3, 4, 5, 6, 7]]
    (paths.fold("base", 42, 0) / "wandb.json").unlink()
    tracker = tracking.fold_tracker(cfg, paths, 42, 0)
    tracker.finish()
    assert tracker.id not in ids


def test_a_process_of_wandb_that_is_gone_is_replaced(paths, monkeypatch, capsys):
    """Workers inherit the name of their parent's, which may have been killed meanwhile."""
    monkeypatch.setenv("WANDB_SERVICE", "3-1-unix-" + str(paths.root / "no-socket"))
    with tracking.fold_tracker(CFG(exp="a", wandb="offline"), paths, 42, 0) as tracker:
        tracker.log({"train_loss": 0.5}, 1)
    (file,) = run_files(paths)
    assert [row["train_loss"] for row in history(records(file))] == [0.5]
    assert "not tracked" not in capsys.readouterr().out


def test_other_folds_and_experiments_have_other_ids(paths):
    ids = set()
    for exp, seed, fold in (("a", 1, 0), ("a", 1, 1), ("a", 2, 0), ("日本 語", 1, 0)):
        tracker = tracking.fold_tracker(
            CFG(comp="comp", exp=exp, wandb="offline"), paths, seed, fold
        )
        tracker.finish()
        ids.add(tracker.id)
    assert len(ids) == 4
    assert "" not in ids


def test_the_oof_run_holds_tables_and_pictures(paths, tmp_path):
    import matplotlib.image

    picture = tmp_path / "p.png"
    matplotlib.image.imsave(picture, [[0.0, 1.0]])
    cfg = CFG(comp="comp", exp="base", wandb="offline")
    frame = pd.DataFrame({"text": ["a", "日本", None], "error": [1, 2.5, None], "hit": [True] * 3})
    with tracking.oof_tracker(cfg, paths) as tracker:
        tracker.summary({"score": 0.8})
        tracker.table("worst", frame)
        tracker.picture("curves", picture)
    again = tracking.oof_tracker(cfg, paths)
    again.finish()
    assert again.id == tracker.id
    file = next(file for file in run_files(paths) if list(file.parent.glob("files/media/*/*")))
    run = records(file)["run"][0]
    assert (run["job_type"], run["display_name"]) == ("oof", "base-oof")
    (table,) = file.parent.glob("files/media/table/*.json")
    assert json.loads(table.read_text())["data"][1] == ["日本", 2.5, True]
    assert list(file.parent.glob("files/media/images/*.png"))


def test_disabled_never_imports_wandb_and_writes_nothing(tmp_path):
    code = """
        import sys
        from pathlib import Path
        from oofline import tracking
        from oofline.config import CFG
        from oofline.storage import Paths
        cfg = CFG(comp="c", wandb="disabled")
        with tracking.fold_tracker(cfg, Paths("c", Path(".")), 1, 0) as tracker:
            tracker.log({"a": 1.0}, 0)
        assert "wandb" not in sys.modules
    """
    subprocess.run([sys.executable, "-c", textwrap.dedent(code)], cwd=tmp_path, check=True)
    assert not list(tmp_path.iterdir())


def test_without_a_key_nothing_is_sent_asked_or_written_elsewhere(tmp_path):
    """A proxy that counts connections stands in for the whole internet."""
    calls = []
    proxy = socket.create_server(("127.0.0.1", 0))

    def count():
        while True:
            try:
                connection, _ = proxy.accept()
            except OSError:
                return
            calls.append(1)
            connection.close()

    threading.Thread(target=count, daemon=True).start()
    address = f"http://127.0.0.1:{proxy.getsockname()[1]}"
    code = """
        import socket
        from pathlib import Path
        real = socket.socket.connect
        def connect(self, address):
            host = address[0] if isinstance(address, tuple) else "127.0.0.1"
            assert host in ("127.0.0.1", "::1", "localhost"), address
            return real(self, address)
        socket.socket.connect = connect
        from oofline import tracking
        from oofline.config import CFG
        from oofline.storage import Paths
        cfg, paths = CFG(comp="c"), Paths("c", Path("work"))
        with tracking.fold_tracker(cfg, paths, 1, 0) as tracker:
            tracker.log({"loss": 1.0}, 0)
        assert tracker.id
        with tracking.fold_tracker(CFG(comp="c", wandb="online"), paths, 1, 1) as tracker:
            tracker.log({"loss": 1.0}, 0)
    """
    home = tmp_path / "home"
    home.mkdir()
    env = {name: value for name, value in os.environ.items() if not name.startswith("WANDB_")}
    proxies = dict.fromkeys(("HTTP_PROXY", "HTTPS_PROXY", "http_proxy", "https_proxy"), address)
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(code)], cwd=tmp_path, stdin=subprocess.DEVNULL,
        capture_output=True, text=True, timeout=300,
        env={**env, **proxies, "HOME": str(home), "NO_PROXY": "", "no_proxy": ""},
    )  # fmt: skip
    proxy.close()
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    assert done.stdout.count("wandb") == 2  # one line: online was asked for, there is no key
    assert "no key" in done.stdout
    assert calls == []
    assert len(run_files(Paths("c", tmp_path / "work"))) == 2
    assert list(home.rglob("*")) == []
    assert {path.name for path in (tmp_path / "work" / "output" / "c").iterdir()} == {
        "wandb",
        "base",
    }


def test_the_paths_below_the_test_are_used(paths):
    tracking.fold_tracker(CFG(comp="comp", wandb="offline"), paths, 1, 0).finish()
    for kind in ("DATA", "CACHE", "ARTIFACT"):
        folder = Path(os.environ[f"WANDB_{kind}_DIR"])
        assert folder.is_relative_to(paths.output.absolute() / "wandb")
