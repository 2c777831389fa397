"""A search in a PostgreSQL database, on a server of the test's own."""

import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import pandas as pd
import pytest

from oofline.storage import read_json
from oofline.tuning import study as study_module

pytestmark = pytest.mark.timeout(900)  # a lost trial is taken up after two minutes at most


def program(name):
    """Path of one of the server's programs; Debian keeps them beside PATH."""
    versions = sorted(Path("/usr/lib/postgresql").glob("*/bin"), reverse=True)
    return shutil.which(name, path=os.pathsep.join([os.environ["PATH"], *map(str, versions)]))


@pytest.fixture(scope="module")
def server():
    """URL of an empty database; the server ends with the tests."""
    pytest.importorskip("psycopg", reason="psycopg is not installed")
    initdb, postgres = program("initdb"), program("postgres")
    if not (initdb and postgres):
        pytest.skip("no PostgreSQL server is installed")
    with tempfile.TemporaryDirectory() as name:
        own = {}
        if os.geteuid() == 0:  # the server refuses to run as root
            try:
                shutil.chown(name, "postgres", "postgres")
            except (LookupError, PermissionError):
                pytest.skip("root must start the server as the user postgres, and cannot")
            own = {"user": "postgres", "group": "postgres"}
        data = Path(name) / "data"
        made = subprocess.run(
            [initdb, "-D", data, "-A", "trust", "-U", "tester"], capture_output=True, text=True,
            cwd=name, **own,
        )  # fmt: skip
        if made.returncode:
            pytest.skip(f"the PostgreSQL server cannot be set up here: {made.stderr.strip()}")
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port = free.getsockname()[1]
        process = subprocess.Popen(
            [postgres, "-D", data, "-p", str(port), "-h", "127.0.0.1", "-k", name],
            stderr=subprocess.DEVNULL, cwd=name, **own,
        )  # fmt: skip
        try:
            _wait_for(lambda: _answers(port) or process.poll() is not None)
            if process.poll() is not None:
                pytest.skip(f"the PostgreSQL server does not start here ({process.returncode})")
            yield f"postgresql://tester@127.0.0.1:{port}/postgres"
        finally:
            process.send_signal(signal.SIGINT)  # nothing where it did not start
            process.wait(300)


def _answers(port):
    import psycopg

    try:
        psycopg.connect(f"host=127.0.0.1 port={port} user=tester dbname=postgres").close()
    except psycopg.OperationalError:
        return False
    return True


def _wait_for(condition, seconds=240):
    deadline = time.monotonic() + seconds
    while not condition() and time.monotonic() < deadline:
        time.sleep(0.01)


def test_workers_share_a_database_and_a_killed_search_goes_on(
    server, write_competition, oofline, tmp_path, monkeypatch
):
    paths = write_competition(n=60, epochs=1, metric="accuracy")
    argv = ("tune", "--comp", "toy", "--space", "lr=log(1e-5,1e-2)", "--trials", "4",
            "--parallel", "2", "--confirm", "0", "--name", "rate", "--prune", "none",
            "--storage", server)  # fmt: skip
    process = subprocess.Popen(
        [sys.executable, "-m", "oofline", *argv],
        env=os.environ | {"OOFLINE_ROOT": str(tmp_path)}, start_new_session=True,
    )  # fmt: skip
    _wait_for(lambda: list(paths.output.glob("rate-t*/seed42/fold0/scores.json")))
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    kept = {p: p.stat().st_mtime_ns for p in paths.output.glob("rate-t*/seed42/fold*/scores.json")}
    rates = {p: read_json(p)["lr"] for p in paths.output.glob("rate-t*/cfg.json")}
    assert kept
    assert not (paths.tuning("rate") / "study.db").exists()

    monkeypatch.setattr(study_module, "STALE_SECONDS", 1)
    monkeypatch.setattr(study_module, "BEAT_SECONDS", 1)
    code, _, _ = oofline(*argv)
    assert code == 0
    assert {p: p.stat().st_mtime_ns for p in kept} == kept  # finished folds are not trained again
    frame = pd.read_csv(paths.tuning("rate") / "trials.csv").set_index("exp")
    assert frame["state"].tolist() == ["complete"] * 4
    assert frame["trial"].is_unique
    assert all(frame.loc[p.parent.name, "lr"] == lr for p, lr in rates.items())


def test_a_database_that_does_not_answer_is_named(server, write_competition, oofline):
    write_competition(n=60)
    wrong = server.rsplit("/", 1)[0] + "/nowhere"
    code, _, err = oofline("tune", "--comp", "toy", "--space", "lr=log(1e-5,1e-2)",
                           "--trials", "2", "--storage", wrong)  # fmt: skip
    assert code == 2
    assert 'database "nowhere" does not exist' in err
