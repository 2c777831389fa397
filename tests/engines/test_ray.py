"""Folds on a real Ray cluster of two nodes on this machine, and every way in which it can fail."""

import dataclasses
import functools
import importlib.util
import os
import re
import shutil
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pandas as pd
import psutil
import pytest

from oofline import cli
from oofline.crossval import train_units
from oofline.engines.ray_cluster import RayCluster
from oofline.engines.ray_start import connected
from oofline.engines.store import Store
from oofline.engines.stored_fold import StoredFold
from oofline.errors import ConfigError, OoflineError, Stopped
from oofline.sharing import Work, do_on_cluster, engine_ready, node_trainer, train_on_devices
from oofline.storage import read_json, write_json
from oofline.training.guard import Guard

ray = pytest.importorskip("ray", reason="ray is not installed")
pytestmark = [
    pytest.mark.skipif(sys.platform != "linux", reason="the cluster is of Linux processes"),
    pytest.mark.timeout(1800),
]

_SPEC = importlib.util.spec_from_file_location(
    "two_nodes", Path(__file__).with_name("two_nodes.py")
)
two_nodes = importlib.util.module_from_spec(_SPEC)
_SPEC.loader.exec_module(two_nodes)
WAIT = two_nodes.WAIT
LOST = re.compile(r"its (?:process was killed|node is gone)(?: on \S+)?; it is queued again")
"""Either word counts: what is tested is that a lost unit is queued again."""
ray.cloudpickle.register_pickle_by_value(sys.modules[__name__])  # nodes do not have the tests


@pytest.fixture(scope="module")
def cluster(tmp_path_factory, s3):
    """Two nodes of one CPU, each with a cache of its own; this process is connected to them.

    They reach an object store on this machine.

    ``cluster.more(cpus, gpus)`` adds a node, with GPUs that do not exist; ``cluster.caches`` are
    the folders of all.
    """
    caches = []

    def node(cpus=1, gpus=0):
        caches.append(tmp_path_factory.mktemp("node"))
        return {
            "num_cpus": cpus, "num_gpus": gpus, "env_vars": {"OOFLINE_CACHE": str(caches[-1])},
        }  # fmt: skip

    source = str(Path(cli.__file__).parents[1])
    with two_nodes.cluster_of(node(), node(), PYTHONPATH=source) as cluster, connected():
        cluster.more = lambda *resources: cluster.add_node(**node(*resources))
        cluster.caches = caches
        yield cluster


@pytest.fixture
def toy(write_competition, load_settings):
    """toy(**settings) -> (cfg, paths) of a small competition whose folds save after every step."""

    def make(kind="transformer", **settings):
        paths = write_competition("binary", 48, cpus_per_fold=1, save_minutes=0.0, **settings)
        return load_settings(paths, exp="cluster", engine="ray", kind=kind), paths

    return make


def test_a_lost_node_and_a_killed_process_change_no_bit(cluster, toy, capsys):
    """The uninterrupted folds are the local engine's: so this is the equality of engines too."""
    cfg, paths = toy(epochs=60)
    here = {"exp": "local", "engine": "local"}
    train_units(dataclasses.replace(cfg, **here), paths, [0, 1], [42])
    capsys.readouterr()
    accidents = two_nodes.Accidents(cluster, paths, "cluster", say=lambda text: None)
    accidents.start()
    assert train_on_devices(cfg, paths, [0, 1], [42]) == 2
    accidents.join(300)
    assert accidents.error is None
    out = capsys.readouterr().out
    assert len(LOST.findall(out)) == 2
    for fold in (0, 1):
        text = "".join(
            log.read_text()
            for log in (paths.experiment("cluster") / "workers").glob(f"*-seed-42-fold-{fold}.log")
        )
        step = int(text.split(f"fold {fold}: resumed at step ")[1].split(" ")[0])
        assert 2 <= step < 240
    assert two_nodes.same_bits(paths, "local", "cluster", [(42, 0), (42, 1)])
    cluster.more()


def test_resources_that_no_node_has_are_refused_at_once(cluster, toy):
    cfg, paths = toy()
    for wanted, says in (
        ({"cpus_per_fold": 64}, "asks for 64 CPUs on one node, but the largest of the cluster's"),
        ({"device": "cuda", "gpus_per_fold": 4.0}, "asks for 1 CPU and 4 GPUs on one node"),
    ):
        with pytest.raises(ConfigError, match=says):
            train_on_devices(dataclasses.replace(cfg, **wanted), paths, [0], [42])
    assert not paths.experiment("cluster").exists()


def test_a_node_with_other_code_or_without_the_project_is_refused(
    cluster, toy, tmp_path, monkeypatch
):
    cfg, paths = toy(kind="ridge")
    probed = RayCluster._probed
    monkeypatch.setattr(RayCluster, "_probed", lambda self, seen: probed(self, tmp_path / "none"))
    with pytest.raises(ConfigError, match=r"^node \S+: it does not see .*: set shared_storage"):
        train_on_devices(cfg, paths, [0], [42])
    monkeypatch.setattr("oofline.sharing.code_version", lambda: "0.0")
    with pytest.raises(ConfigError, match=r"^node \S+: it has oofline .*, this command 0\.0: "):
        train_on_devices(cfg, paths, [0], [42])
    assert not paths.fold("cluster", 42, 0).exists()


def say_process(paths, device, guard):
    return lambda unit: os.getpid()


def test_a_unit_can_have_a_process_to_itself(cluster, toy, tmp_path):
    """Its peak memory is its own then, which an ablation compares."""
    cfg, paths = toy()
    work = Work(list("abcd"), say_process, tmp_path / "logs", str, alone=True)
    with engine_ready(cfg, 4):
        assert len(set(do_on_cluster(cfg, paths, work, Guard()))) == 4


@pytest.fixture(scope="module")
def gpus(cluster):
    """A further node with two GPUs that do not exist."""
    node = cluster.more(2, 2)
    yield node
    if node in cluster.worker_nodes:  # else a test was rid of it already
        cluster.remove_node(node)


def note_device(folder, paths, device, guard):
    """Units that say where they are, and wait until as many are there as they were told."""

    def do(unit):
        name, together = unit
        (folder / f"{name}-{device}").touch()
        deadline = time.monotonic() + WAIT
        while len(list(folder.iterdir())) < together and time.monotonic() < deadline:
            time.sleep(0.02)
        return device, len(list(folder.iterdir())) >= together

    return do


@pytest.mark.parametrize(("share", "units", "devices"), [
    (0.5, 2, {"cuda:0"}),  # side by side
    (2.0, 1, {"cuda:0+cuda:1"}),
])  # fmt: skip
def test_a_part_of_a_gpu_and_several(gpus, toy, tmp_path, share, units, devices):
    cfg, paths = toy()
    cfg = dataclasses.replace(cfg, device="cuda", gpus_per_fold=share)
    folder = tmp_path / "units"
    folder.mkdir()
    work = Work(
        [(name, units) for name in "ab"[:units]], functools.partial(note_device, folder),
        tmp_path / "logs", lambda unit: f"unit {unit[0]}",
    )  # fmt: skip
    with engine_ready(cfg, units):
        outcomes = do_on_cluster(cfg, paths, work, Guard())
    assert {device for device, _ in outcomes} == devices
    assert all(together for _, together in outcomes)


def fail(paths, device, guard):
    """A unit that fails, one that stops when it is told to, one that has a bug."""

    def do(unit):
        if unit == "wait":
            (paths.root / "waiting").touch()
            while not guard.must_stop(0.0):
                time.sleep(0.02)
            raise Stopped("unit wait is saved", guard.exit_code)
        while not (paths.root / "waiting").exists():
            time.sleep(0.02)
        if unit == "bug":
            raise KeyError("no such key")
        raise OoflineError("the loss is nan")

    return do


@pytest.mark.parametrize(("unit", "kind", "says"), [
    ("fail", OoflineError, r"^unit fail on \S+ failed: the loss is nan \(log: (.*)\)$"),
    ("bug", RuntimeError, r"(?s)^unit bug on \S+ \(log: (.*?)\): .*KeyError: 'no such key'"),
])  # fmt: skip
def test_a_failure_names_its_log_and_the_others_save(
    cluster, toy, tmp_path, capsys, unit, kind, says
):
    cfg, paths = toy()
    work = Work(["wait", unit], fail, tmp_path / "logs", lambda unit: f"unit {unit}")
    with engine_ready(cfg, 2), pytest.raises(kind, match=says) as error:
        do_on_cluster(cfg, paths, work, Guard())
    log = Path(str(error.value).split("(log: ")[1].split(")")[0])
    assert ("the loss is nan" if unit == "fail" else "KeyError") in log.read_text()
    assert "unit wait is saved" in capsys.readouterr().out


def test_an_interrupt_reaches_the_nodes(cluster, toy, tmp_path, capsys):
    cfg, paths = toy()
    work = Work(["wait"], fail, tmp_path / "logs", lambda unit: f"unit {unit}")

    def interrupt():
        two_nodes.wait_for((paths.root / "waiting").exists, "the unit")
        os.kill(os.getpid(), signal.SIGTERM)

    threading.Thread(target=interrupt, daemon=True).start()
    with engine_ready(cfg, 1), pytest.raises(Stopped, match="interrupted with 1 of 1 left"):
        do_on_cluster(cfg, paths, work, Guard())
    assert "unit wait is saved" in capsys.readouterr().out


def test_the_same_command_goes_on_after_its_driver_was_killed(cluster, toy, tmp_path, capsys):
    cfg, paths = toy(epochs=100)
    command = [sys.executable, "-m", "oofline", "train", "--comp", "toy", "--exp", "cluster",
               "--engine", "ray", "--fold", "0"]  # fmt: skip
    driver = subprocess.Popen(
        command, env=os.environ | {"OOFLINE_ROOT": str(tmp_path)}, stdout=subprocess.DEVNULL
    )
    log = two_nodes.wait_for(lambda: two_nodes.started(paths, "cluster", 0), "a state")
    process = two_nodes.wait_for(lambda: two_nodes.process_of(log), "its process")
    driver.send_signal(signal.SIGKILL)
    driver.wait()
    process.wait(WAIT)  # Ray ends what a dead driver had begun
    assert not (paths.fold("cluster", 42, 0) / "scores.json").exists()
    capsys.readouterr()
    assert train_on_devices(cfg, paths, [0], [42]) == 1
    texts = [p.read_text() for p in (paths.experiment("cluster") / "workers").glob("*.log")]
    resumed = [line for text in texts for line in text.splitlines() if "resumed at step" in line]
    assert resumed
    assert all("resumed at step 0 " not in line for line in resumed)


def test_trials_run_on_the_cluster(cluster, toy, tmp_path, capsys):
    _, paths = toy(metric="accuracy")
    code = cli.run(
        ["tune", "--comp", "toy", "--space", "linear_penalty=log(1e-2,1e2)", "--trials", "3",
         "--parallel", "2", "--confirm", "1", "--name", "penalty", "--prune", "none", "--engine",
         "ray", "--kind", "ridge"],
        tmp_path,
    )  # fmt: skip
    assert code == 0, capsys.readouterr().out
    frame = pd.read_csv(paths.tuning("penalty") / "trials.csv")
    assert frame["state"].tolist() == ["complete"] * 3
    for exp in frame["exp"]:
        assert read_json(paths.experiment(exp) / "scores.json")["score"] > 0
    assert len(list((paths.tuning("penalty") / "workers").glob("*.log"))) >= 3
    assert "winner's optimism" in (paths.tuning("penalty") / "tuning.md").read_text()


def test_a_database_that_nodes_cannot_share_is_refused(write_competition, tmp_path, capsys):
    write_competition("binary", 48)
    words = ["tune", "--comp", "toy", "--space", "lr=log(1e-5,1e-2)", "--engine", "ray",
             "--shared-storage", str(tmp_path / "store")]  # fmt: skip
    for more in ([], ["--storage", "sqlite:///x.db"]):
        assert cli.run([*words, *more], tmp_path) == 2
        error = capsys.readouterr().err
        assert "a SQLite file is no database for them: give one that all of them reach" in error


def test_nodes_that_share_nothing_but_a_store(cluster, toy, tmp_path, capsys):
    """Each node has a cache of its own, and does not see this project (see test_mirror.py)."""
    cfg, paths = toy(kind="ridge")
    train_units(dataclasses.replace(cfg, exp="local", engine="local"), paths, [0, 1], [42])
    away = dataclasses.replace(cfg, shared_storage=str(tmp_path / "store"))
    assert train_on_devices(away, paths, [0, 1], [42]) == 2
    for fold in (0, 1):
        one, two = (paths.fold(exp, 42, fold) for exp in ("local", "cluster"))
        assert (one / "oof.parquet").read_bytes() == (two / "oof.parquet").read_bytes()
        assert read_json(one / "scores.json")["sha256"] == read_json(two / "scores.json")["sha256"]
        assert not (two / ".lock").exists()  # nobody trained in this folder
    logs = list((paths.experiment("cluster") / "workers").glob("*.log"))
    assert len(logs) == 2
    assert all("penalty" in log.read_text() for log in logs)
    stored = tmp_path / "store" / "output" / "toy" / "cluster"
    shutil.rmtree(paths.experiment("cluster") / "seed42")
    capsys.readouterr()
    assert train_on_devices(away, paths, [0, 1], [42]) == 0
    assert "fetched 2 finished folds from" in capsys.readouterr().out
    assert (stored / "seed42" / "fold1" / "scores.json").exists()


def unit_logs(cluster):
    """Logs of fold 0 in the caches of all nodes."""
    return {log for cache in cluster.caches for log in cache.glob("logs/*/*-fold-0.log")}


def pausing_trainer(folder, cfg, encoder, paths, device, guard):
    """As `node_trainer`; the first to reach the third epoch stays there, and says who it is."""

    def watch(row):
        if row["epoch"] >= 3 and not (folder / "process").exists():
            write_json(folder / "process", os.getpid())
            time.sleep(WAIT)

    guard.watch = watch
    return node_trainer(cfg, encoder, paths, device, guard)


def test_a_fold_goes_on_from_its_state_in_an_object_store(
    cluster, toy, tmp_path, monkeypatch, capsys
):
    """Its node is removed: another, that has nothing of it, fetches the state that was pushed."""
    cfg, paths = toy(epochs=5)
    train_units(dataclasses.replace(cfg, exp="local", engine="local"), paths, [0], [42])
    away = dataclasses.replace(cfg, shared_storage="s3://folds/goes-on")
    stored = StoredFold(Store(away.shared_storage), "output/toy/cluster/seed42/fold0")
    trainer = functools.partial(pausing_trainer, tmp_path)
    monkeypatch.setattr("oofline.sharing.node_trainer", trainer)
    former = unit_logs(cluster)
    left, errors = [], []

    def is_pushed():
        stored.fetch_state(tmp_path / "seen")
        return two_nodes.saved_step(tmp_path / "seen") >= 2

    def remove_its_node():
        try:
            two_nodes.wait_for((tmp_path / "process").exists, "the third epoch")
            two_nodes.wait_for(is_pushed, "a pushed state")
            process = psutil.Process(read_json(tmp_path / "process"))
            left.extend(unit_logs(cluster) - former)
            process.suspend()
            cluster.remove_node(two_nodes.node_of(cluster, left[0]), allow_graceful=False)
            process.kill()
        except BaseException as error:
            errors.append(error)

    thread = threading.Thread(target=remove_its_node, daemon=True)
    thread.start()
    capsys.readouterr()
    assert train_on_devices(away, paths, [0], [42]) == 1
    thread.join(300)
    assert not errors
    assert len(LOST.findall(capsys.readouterr().out)) == 1
    logs = set((paths.experiment("cluster") / "workers").glob("*.log"))  # from the store
    (log,) = {log for log in logs if log.name != left[0].name}  # another node's
    text = log.read_text()
    assert 2 <= int(text.split("resumed at step ")[1].split(" ")[0]) < 20
    assert two_nodes.same_bits(paths, "local", "cluster", [(42, 0)])
    assert not (paths.fold("cluster", 42, 0) / ".lock").exists()  # nobody trained in this folder
    cluster.more()
