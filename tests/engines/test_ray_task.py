"""A process of a cluster by itself: whom it refuses to work for, and when it stops."""

import dataclasses
import types

import pytest
import torch

from oofline import progress
from oofline.engines.code_version import code_version
from oofline.engines.desk import Desk, Line
from oofline.engines.ray_cluster import RayCluster
from oofline.engines.ray_task import LOCK_SECONDS, Order, _Crew
from oofline.errors import OoflineError
from oofline.progress import log_to
from oofline.sharing import encoder_digest, node_trainer
from oofline.storage import Paths
from oofline.training.guard import Guard

ray = pytest.importorskip("ray", reason="ray is not installed")


@pytest.fixture(autouse=True)
def said_here_again(monkeypatch):
    """A process of a cluster hands over what it says, from its first unit on; undone afterwards."""
    monkeypatch.setattr(progress, "_relays", [])
    monkeypatch.setenv("OOFLINE_MODEL_FOLDERS", "{}")
    threads = torch.get_num_threads()
    yield
    torch.set_num_threads(threads)
    log_to(None)


@pytest.fixture
def order(tmp_path):
    """Of units that do nothing."""
    return Order(
        "run", lambda paths, device, guard: lambda unit: unit, Paths("toy", tmp_path),
        tmp_path / "logs", float("inf"), "cpu", 1, 0.0, code_version(),
    )  # fmt: skip


def test_other_code_is_refused(order):
    assert _Crew(order).do("unit") == "unit"
    with pytest.raises(OoflineError, match=r"this node has oofline .*, the command 0\.0: install"):
        _Crew(dataclasses.replace(order, version="0.0")).do("unit")


def test_another_encoder_is_refused(write_competition, load_settings):
    paths = write_competition("binary", 48)
    cfg = load_settings(paths)
    node_trainer(cfg, encoder_digest(cfg), paths, "cpu", Guard())
    with pytest.raises(OoflineError, match=r"^model = .* is another on this node"):
        node_trainer(cfg, "0" * 64, paths, "cpu", Guard())


def test_a_fold_that_a_lost_process_may_still_hold_is_waited_for(order):
    assert _Crew(order).guard.lock_seconds == LOCK_SECONDS > 0


@pytest.fixture
def near(monkeypatch):
    """A desk in this process; ``near.gone`` is what calls raise, None = they arrive."""
    desk, near = Desk(), types.SimpleNamespace(gone=None)

    def get(reference):
        if near.gone is not None:
            raise near.gone
        return reference

    monkeypatch.setattr(ray, "get", get)
    near.desk = desk
    near.handle = types.SimpleNamespace(leave=types.SimpleNamespace(remote=desk.leave))
    return near


def test_messages_reach_the_desk_and_of_bars_the_last(near):
    with Line(near.handle, (3, 1)) as line:
        for done in range(100):
            line.send("bar", "fold", done, 100, "")
        line.send("say", "a line")
    heard = [*near.desk.collect(), *line.rest]
    assert heard[-2:] == [((3, 1), "bar", "fold", 99, 100, ""), ((3, 1), "say", "a line")]
    assert len(heard) < 10
    assert near.desk.collect() == []


@pytest.mark.parametrize("gone", [False, True])
def test_a_process_stops_when_it_is_told_to_and_when_nobody_is_there(near, gone):
    guard = Guard()
    if gone:
        near.gone = ray.exceptions.RayActorError()
    else:
        near.desk.stop()
    with Line(near.handle, (0, 1)) as line:
        line.obey(guard)
    assert guard.interrupted
    late = Guard()  # of a unit that is made ready while the word comes
    line.obey(late)
    assert late.interrupted


@pytest.mark.parametrize(("name", "kind", "says"), [
    ("NodeDiedError", "lost", "its node is gone"),
    ("WorkerCrashedError", "lost", "its process was killed"),
    ("OutOfMemoryError", "lost", "the node ran out of memory"),
    ("RuntimeEnvSetupError", "bug", ""),
])  # fmt: skip
def test_what_ray_says_of_a_task_that_gave_nothing(name, kind, says):
    cluster = RayCluster.__new__(RayCluster)
    cluster.ray = ray
    form = getattr(ray.exceptions, name)
    error = form() if name == "WorkerCrashedError" else form("reason")
    found, text = cluster._failure(error)
    assert found == kind
    assert says in text


def test_a_cluster_that_is_gone_is_one_line():
    cluster = RayCluster.__new__(RayCluster)
    cluster.ray, cluster._tickets = ray, {"reference": (0, 1)}

    def wait(*args, **options):
        raise ray.exceptions.RaySystemError("no\nanswer")

    cluster.ray = types.SimpleNamespace(exceptions=ray.exceptions, wait=wait)
    with pytest.raises(OoflineError, match=r"^the cluster is gone \(.*the same command goes on"):
        cluster.events(0.0)
