"""Nodes that share nothing but a store: states and folds go there, whole or not at all."""

import dataclasses
import shutil
import threading
import time

import pytest
from filelock import FileLock

from oofline.crossval import begin, is_done, train_units, unit_trainer
from oofline.engines import mirror as mirror_module
from oofline.engines.depot import Depot
from oofline.engines.mirror import Mirror
from oofline.engines.store import Store
from oofline.engines.stored_fold import STATE, StoredFold
from oofline.errors import ConfigError, DataError, OoflineError, Stopped
from oofline.models.hub import use_folders
from oofline.storage import write_json
from oofline.tracking.tracker import RUNNING
from oofline.training.guard import Guard
from oofline.training.keeper import Keeper


@pytest.fixture(params=["s3", "folder"])
def url(request, s3, tmp_path):
    """A storage of its own for each test: in the bucket, or a folder."""
    if request.param == "folder":
        return str(tmp_path / "store")
    return f"s3://folds/{request.node.name.replace('[', '-').rstrip(']')}"


@pytest.fixture(autouse=True)
def no_models_elsewhere(monkeypatch):
    monkeypatch.setenv("OOFLINE_MODEL_FOLDERS", "{}")


@pytest.fixture
def project(write_competition, load_settings):
    """(cfg, paths) of an experiment that has begun, and every state of it is saved."""
    paths = write_competition("binary", 40)
    cfg = load_settings(paths, exp="away", epochs=2, save_minutes=0.0)
    begin(cfg, paths)
    return cfg, paths


class Node:
    """A node's process: its own cache, its own view of the storage."""

    def __init__(self, url, project, cache, weights=True):
        self.cfg, paths = project
        self.depot = Depot(url, paths)
        files, models = self.depot.push_inputs(self.cfg)
        logs = f"output/toy/{self.cfg.exp}/workers"
        self.mirror = Mirror(Store(url), "toy", cache, files, weights, logs)
        self.paths = self.mirror.prepare()
        use_folders({name: self.paths.root / at for name, at in models.items()})
        self.guard = Guard()
        self.guard.keeper = self.mirror
        self.log = cache / "unit.log"
        self.log.write_text("what it said\n")
        self.mirror.write_to(self.log)

    def train(self, unit):
        return unit_trainer(self.cfg, self.paths, "cpu", self.guard)(unit)


def files_below(folder):
    return sorted(str(p.relative_to(folder)) for p in folder.rglob("*") if p.is_file())


@pytest.fixture
def stop_after(monkeypatch):
    """stop_after(guard, n): the guard's work is stopped once ``n`` states are written."""

    def arrange(guard, n):
        save, count = Keeper.save, []

        def counting(self):
            save(self)
            count.append(1)
            guard.interrupted = guard.interrupted or len(count) >= n

        monkeypatch.setattr(Keeper, "save", counting)
        return lambda: monkeypatch.setattr(Keeper, "save", save)

    return arrange


def test_a_fold_goes_on_elsewhere_from_its_pushed_state(url, project, tmp_path, stop_after, capsys):
    cfg, paths = project
    train_units(dataclasses.replace(cfg, exp="here"), paths, [1], [42])
    first = Node(url, project, tmp_path / "one")
    again = stop_after(first.guard, 3)
    with pytest.raises(Stopped):
        first.train((42, 1))
    first.mirror.leave(done=False)
    again()
    assert not list(first.paths.output.rglob("state.safetensors"))  # the node keeps no folds
    assert first.depot.fetch_finished(cfg, [(42, 1)]) == [(42, 1)]
    assert not paths.fold(cfg.exp, 42, 1).exists()  # nothing of an unfinished fold is fetched

    capsys.readouterr()
    second = Node(url, project, tmp_path / "two")
    assert second.train((42, 1))
    keys = second.mirror.leave(done=True)
    assert "seed 42 fold 1: resumed at step 3 of" in capsys.readouterr().out
    assert keys[-1] == "output/toy/away/seed42/fold1/scores.json"
    assert second.depot.fetch_finished(cfg, [(42, 0), (42, 1)]) == [(42, 0)]
    here, away = paths.fold("here", 42, 1), paths.fold("away", 42, 1)
    assert is_done(away)
    for name in ("model.safetensors", "oof.parquet", "test.parquet"):
        assert (here / name).read_bytes() == (away / name).read_bytes()
    assert set(files_below(away)) == set(files_below(here)) - {".lock"}
    assert second.mirror.store.names("output/toy/away/seed42/fold1/state") == []

    third = Node(url, project, tmp_path / "three")
    assert third.train((42, 1)) is False  # it is done, whichever node looks
    log = paths.experiment("away") / "workers" / "unit.log"
    third.depot.fetch([], log)
    assert log.read_text() == "what it said\n"


def test_a_fold_goes_on_elsewhere_from_what_was_saved_here(
    url, project, tmp_path, stop_after, capsys
):
    """As where a training was begun without a cluster, and a fold of it is being trained still."""
    cfg, paths = project
    train_units(dataclasses.replace(cfg, exp="here"), paths, [1], [42])
    guard = Guard()
    again = stop_after(guard, 3)
    with pytest.raises(Stopped):
        unit_trainer(cfg, paths, "cpu", guard)((42, 1))
    again()
    node = Node(url, project, tmp_path / "one")
    with FileLock(paths.fold(cfg.exp, 42, 1) / ".lock"):
        node.depot.push_states(cfg, [(42, 0), (42, 1)])
    stored = StoredFold(node.mirror.store, "output/toy/away/seed42/fold1")
    assert not stored.has_state()  # another process has it
    capsys.readouterr()
    for _ in range(2):  # what is there stays
        assert node.depot.begin(cfg, [(42, 0), (42, 1)]) == [(42, 0), (42, 1)]
    out = capsys.readouterr().out
    assert out.count("folds that go on from what was saved here: 1") == 1
    assert node.train((42, 1))
    assert "seed 42 fold 1: resumed at step 3 of" in capsys.readouterr().out
    assert node.depot.fetch_finished(cfg, [(42, 1)]) == []
    here, away = paths.fold("here", 42, 1), paths.fold("away", 42, 1)
    assert (here / "model.safetensors").read_bytes() == (away / "model.safetensors").read_bytes()
    assert (here / "oof.parquet").read_bytes() == (away / "oof.parquet").read_bytes()


def test_half_a_push_is_never_taken_up(url, project, tmp_path, stop_after, monkeypatch, capsys):
    cfg, paths = project
    node = Node(url, project, tmp_path / "one")
    key = "output/toy/away/seed42/fold0"
    put = Store.put

    def broken(self, file, target):
        if target.endswith("-state.safetensors") or target.endswith("/test.parquet"):
            raise OoflineError("the line is cut")
        put(self, file, target)

    monkeypatch.setattr(Store, "put", broken)
    again = stop_after(node.guard, 2)
    with pytest.raises(Stopped):
        node.train((42, 0))
    again()
    assert "this state is not on the shared storage yet: the line is cut" in capsys.readouterr().out
    assert node.mirror.store.read_json(f"{key}/state.json") is None

    node = Node(url, project, tmp_path / "two")
    with pytest.raises(OoflineError, match="the line is cut"):
        node.train((42, 0))
    assert "resumed" not in capsys.readouterr().out
    assert node.mirror.store.names(key)  # some files came through
    assert node.depot.fetch_finished(cfg, [(42, 0)]) == [(42, 0)]
    assert not paths.fold(cfg.exp, 42, 0).exists()


def test_states_are_pushed_while_training_goes_on(url, project, tmp_path, monkeypatch):
    monkeypatch.setattr(mirror_module, "POLL_SECONDS", 0.01)
    node = Node(url, project, tmp_path / "one")
    seen = []

    def look(row):
        manifest, until = None, time.monotonic() + 300  # no new state meanwhile: this one is pushed
        while manifest is None and time.monotonic() < until:
            manifest = node.mirror.store.read_json("output/toy/away/seed42/fold2/state.json")
        seen.append(set(manifest or {}))

    node.guard.watch = look
    assert node.train((42, 2))
    assert "state.safetensors" in seen[-1]


def test_trials_leave_their_weights_where_they_were(url, project, tmp_path):
    node = Node(url, project, tmp_path / "one", weights=False)
    write_json(node.paths.experiment("away") / "inputs.json", {})  # begun on the node, as a trial
    write_json(node.paths.experiment("away") / "scores.json", {"score": 1.0})
    assert node.train((42, 0))
    keys = node.mirror.leave(done=True)
    assert not [key for key in keys if key.endswith(".safetensors")]
    assert [key.rpartition("/")[2] for key in keys[-2:]] == ["inputs.json", "scores.json"]
    assert "output/toy/away/seed42/fold0/oof.parquet" in keys


def test_runs_tracked_offline_come_along_once_they_have_ended(url, project, tmp_path):
    node = Node(url, project, tmp_path / "one")
    for name in ("offline-run-1", "offline-run-2"):
        (node.paths.output / "wandb" / name / "files").mkdir(parents=True)
        (node.paths.output / "wandb" / name / "files" / "run.wandb").touch()
    (node.paths.output / "wandb" / "offline-run-2" / RUNNING).touch()
    keys = node.mirror.leave(done=True)
    assert keys == ["output/toy/wandb/offline-run-1/files/run.wandb"]
    assert not (node.paths.output / "wandb" / "offline-run-1").exists()
    node.depot.fetch(keys)
    assert (project[1].root / keys[0]).is_file()
    assert [p.name for p in (node.paths.output / "wandb").glob("*run-*")] == ["offline-run-2"]


def test_two_processes_of_a_node_leave_their_runs_one_after_the_other(
    url, project, tmp_path, monkeypatch
):
    nodes = [Node(url, project, tmp_path / "one") for _ in range(2)]
    run = nodes[0].paths.output / "wandb" / "offline-run-1"
    (run / "files").mkdir(parents=True)
    for name in ("a", "b"):
        (run / "files" / name).touch()
    put, began, keys = Store.put, threading.Event(), []
    other = threading.Thread(target=lambda: keys.append(nodes[1].mirror.leave(done=True)))

    def slow(self, file, key):
        """The first file of the first process goes once the other has had its chance."""
        if not began.is_set() and "wandb" in key:
            began.set()
            other.start()
            other.join(0.5)
        put(self, file, key)

    monkeypatch.setattr(Store, "put", slow)
    mine = nodes[0].mirror.leave(done=True)
    other.join(300)
    assert len(mine) == 2
    assert keys == [[]]


def test_an_experiment_there_belongs_to_its_settings_and_inputs(url, project):
    cfg, paths = project
    depot = Depot(url, paths)
    depot.claim(cfg)
    depot.claim(dataclasses.replace(cfg, device="cuda", engine="ray"))
    with pytest.raises(
        ConfigError, match=r"shared_storage .*other settings \(epochs: 2 there, 3 now"
    ):
        depot.claim(dataclasses.replace(cfg, epochs=3))
    write_json(paths.experiment("away") / "inputs.json", {"train file": "0"})
    with pytest.raises(DataError, match="was started there with another train file"):
        depot.claim(cfg)


def test_a_claim_that_was_cut_short_is_made_again(url, project, monkeypatch):
    cfg, paths = project
    depot, put, keys = Depot(url, paths), Store.put, []

    def cut(self, file, key):
        if keys:
            raise KeyboardInterrupt
        keys.append(key)
        put(self, file, key)

    with monkeypatch.context() as patch:
        patch.setattr(Store, "put", cut)
        with pytest.raises(KeyboardInterrupt):
            depot.claim(cfg)
    depot.claim(cfg)
    names = depot.store.names("output/toy/away")
    assert names == ["cfg.json", "inputs.json"]


def test_a_state_that_is_replaced_while_it_is_fetched(url, tmp_path, monkeypatch):
    """A process of a lost node may push its last state while another takes the fold up."""
    fold, get = StoredFold(Store(url), "output/toy/away/seed42/fold0"), Store.get
    states = []
    for number in range(2):
        states.append(tmp_path / f"{number}")
        states[-1].write_text(f"state {number}")
    fold.put_state({"best.safetensors": states[0], STATE: states[0]})

    def late(self, key, file):
        if states:
            fold.put_state({"best.safetensors": states[1], STATE: states[1]})
            states.clear()
        get(self, key, file)

    monkeypatch.setattr(Store, "get", late)
    fold.fetch_state(tmp_path / "fold")
    assert {p.read_text() for p in (tmp_path / "fold").iterdir()} == {"state 1"}
    monkeypatch.setattr(Store, "get", get)
    fold.store.remove(
        [f"{fold.key}/state/{name}" for name in fold.store.names(f"{fold.key}/state")]
    )
    with pytest.raises(OoflineError, match="cannot read"):  # gone for good: no endless look
        fold.fetch_state(tmp_path / "fold")


def test_a_fold_that_another_process_of_the_node_took_up_stays(url, project, tmp_path):
    node = Node(url, project, tmp_path / "one")
    assert node.train((42, 0))
    folder = node.paths.fold("away", 42, 0)
    with FileLock(folder / ".lock"):
        (folder / "state.safetensors").write_text("the other's")
        node.mirror.leave(done=True)
        assert (folder / "state.safetensors").exists()
    node.mirror._touched = [folder]
    node.mirror.leave(done=True)
    assert [p.name for p in folder.iterdir() if p.name != ".lock"] == []


def test_two_models_of_one_name_stay_apart(url, project, tmp_path, tiny_model):
    cfg, paths = project
    depot, files, models = Depot(url, paths), {}, {}
    for number, place in enumerate(("a", "b")):
        model = shutil.copytree(tiny_model("bert"), tmp_path / place / "best")
        (model / "config.json").write_text(f'{{"number": {number}}}')
        pushed = depot.push_inputs(dataclasses.replace(cfg, model=str(model)))
        files |= pushed[0]
        models |= pushed[1]
    mirror = Mirror(Store(url), "toy", tmp_path / "one", files, True, "l")
    root = mirror.prepare().root
    texts = [(root / at / "config.json").read_text() for at in models.values()]
    assert texts == ['{"number": 0}', '{"number": 1}']


def test_a_folder_is_the_same_for_a_process_that_runs_elsewhere(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    here = Store("store")
    here.write_json("a.json", 1)
    (tmp_path / "other").mkdir()
    monkeypatch.chdir(tmp_path / "other")
    assert here.url == str(tmp_path / "store")
    assert Store(here.url).read_json("a.json") == 1


def test_inputs_are_pushed_once_and_fetched_once(url, project, tmp_path, monkeypatch):
    _, paths = project
    node = Node(url, project, tmp_path / "one")
    assert (node.paths.input / "train.csv").read_bytes() == (paths.input / "train.csv").read_bytes()
    assert node.paths.folds.read_bytes() == paths.folds.read_bytes()
    assert [p.name[8:] for p in (node.paths.root / "models").iterdir()] == ["-bert"]
    assert list(node.paths.root.glob("models/*/config.json"))
    moved = []
    for name in ("put", "get"):
        monkeypatch.setattr(Store, name, lambda *args, name=name: moved.append(name))
    shutil.rmtree(node.paths.root)  # the files by content are still there
    Node(url, project, tmp_path / "one")
    assert moved == []


def test_a_damaged_file_is_not_used(tmp_path, project, url):
    node = Node(url, project, tmp_path / "one")
    digest = node.mirror.files["input/toy/train.csv"]
    other = tmp_path / "other"
    other.write_text("something else")
    node.mirror.store.put(other, f"files/{digest}")
    with pytest.raises(OoflineError, match=f"files/{digest} is damaged"):
        Mirror(node.mirror.store, "toy", tmp_path / "two", node.mirror.files, True, "l").prepare()


@pytest.mark.parametrize(("url", "says"), [
    ("s3://no-such-bucket/x", "cannot write probe.json"),
    ("nowhere://x", "nowhere"),
    ("gs://bucket/x", "needs a package"),
])  # fmt: skip
def test_a_storage_that_is_not_there_is_one_line(s3, project, url, says):
    with pytest.raises(ConfigError, match=says) as error:
        Depot(url, project[1])
    assert "\n" not in str(error.value)


def test_a_server_that_does_not_answer_is_one_line(s3, project, monkeypatch):
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:9")
    with pytest.raises(
        ConfigError, match=r"cannot write probe.json .*: check the address"
    ) as error:
        Depot("s3://folds/x", project[1])
    assert "\n" not in str(error.value)


def test_a_forbidden_storage_is_one_line(tmp_path, project):
    (tmp_path / "file").write_text("no folder")
    with pytest.raises(ConfigError, match=r"^shared_storage .*file: cannot write .*probe.json"):
        Depot(str(tmp_path / "file"), project[1])


def test_json_of_the_store(url):
    store = Store(url)
    assert store.read_json("a/b.json") is None
    store.write_json("a/b.json", {"x": [1]})
    assert store.read_json("a/b.json") == {"x": [1]}
    assert store.names("a") == ["b.json"]
    store.remove(["a/b.json", "a/none.json"])
    assert not store.exists("a/b.json")
