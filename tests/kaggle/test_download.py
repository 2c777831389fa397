"""download: files whole or not at all, resumed, safe, and only when they are missing."""

import gzip
import io
import os
import shutil
import signal
import subprocess
import sys
import threading
import zipfile

import pytest

from oofline.data.reading import read_table
from oofline.storage import Paths

TRAIN = b"id,text,target\n" + b"".join(b"%d,words %d,%d\n" % (i, i, i % 2) for i in range(5000))
BIG = TRAIN + TRAIN[len(b"id,text,target\n") :] * 25
MEGABYTE = 2**20
"""The client writes so much at once: what it received of the next one is lost when it breaks."""
FILES = {
    "train.csv": TRAIN, "test.csv": b"id,text\n1,a\n", "sample_submission.csv": b"id,target\n1,0\n",
}  # fmt: skip


@pytest.fixture
def download(oofline, service):
    return lambda *argv: oofline("download", "--poll-seconds", "0", *argv)


def fetched(service):
    return sorted(about.split(" ")[0] for name, about, _ in service.calls if name == "Download")


def visible(folder):
    return sorted(p.name for p in folder.iterdir() if not p.name.startswith("."))


def test_files_arrive_and_the_next_command_is_named(download, paths, service):
    service.add_competition("toy", FILES)
    code, out, err = download()
    assert (code, err) == (0, "")
    assert {name: (paths.input / name).read_bytes() for name in FILES} == FILES
    assert out.splitlines()[-1].endswith("next: make folds COMP=toy")
    assert visible(paths.input.parent) == ["toy"]
    assert [p.name for p in paths.input.parent.iterdir()] == ["toy"]


def test_what_is_there_is_kept_and_what_changed_on_kaggle_is_replaced(download, paths, service):
    found = service.add_competition("toy", dict(FILES))
    paths.input.mkdir(parents=True)
    (paths.input / "train.csv").write_bytes(TRAIN)
    assert download()[0] == 0
    assert fetched(service) == ["sample_submission.csv", "test.csv"]
    service.calls.clear()
    code, out, _ = download()
    assert (code, fetched(service)) == (0, [])
    assert "0 files of toy" in out
    assert "3 were there" in out
    found["files"]["test.csv"] = b"id,text\n1,a\n2,b\n"
    assert download()[0] == 0
    assert fetched(service) == ["test.csv"]
    assert (paths.input / "test.csv").read_bytes() == found["files"]["test.csv"]


def test_a_file_of_your_own_is_not_replaced(download, paths, service):
    service.add_competition("toy", FILES)
    paths.input.mkdir(parents=True)
    (paths.input / "train.csv").write_bytes(b"mine")
    code, _, err = download()
    assert code == 2
    assert "train.csv is another file than Kaggle's" in err
    assert fetched(service) == []
    assert (paths.input / "train.csv").read_bytes() == b"mine"
    assert download("--overwrite")[0] == 0
    assert (paths.input / "train.csv").read_bytes() == TRAIN


def test_wrapped_zipped_and_gzipped_files(download, paths, service):
    memory = io.BytesIO()
    with zipfile.ZipFile(memory, "w") as archive:
        archive.writestr("test.csv", FILES["test.csv"])
        archive.writestr("more/extra.csv", b"id\n1\n")
    files = {
        "train.csv": TRAIN, "data/test.zip": memory.getvalue(),
        "sample_submission.csv.gz": gzip.compress(FILES["sample_submission.csv"]),
    }  # fmt: skip
    service.add_competition("toy", files)["zipped"].add("train.csv")
    assert download()[0] == 0
    assert (paths.input / "train.csv").read_bytes() == TRAIN
    assert (paths.input / "data" / "test.csv").read_bytes() == FILES["test.csv"]
    assert (paths.input / "data" / "more" / "extra.csv").is_file()
    assert len(read_table(paths.input, "sample_submission")) == 1
    assert not list(paths.input.rglob("*.zip"))
    assert "train.csv.zip" in fetched(service)
    service.calls.clear()
    assert download()[0] == 0
    assert fetched(service) == []


def test_names_of_the_pipeline_that_are_missing(download, paths, service):
    service.add_competition("toy", {"training.csv": TRAIN, "test.csv": FILES["test.csv"]})
    code, out, _ = download()
    assert code == 0
    assert "copy the file that is to be train.csv and sample_submission.csv to that name" in out
    assert "there: test.csv, training.csv" in out


def test_a_connection_that_breaks_is_continued_by_the_client(download, paths, service):
    service.add_competition("toy", FILES | {"train.csv": BIG})
    service.cuts["train.csv"] = MEGABYTE + 30_000
    assert download()[0] == 0
    assert (paths.input / "train.csv").read_bytes() == BIG
    asked = [about for name, about, _ in service.calls if about.startswith("train.csv bytes=")]
    assert asked == [f"train.csv bytes={MEGABYTE}-"]


def test_killed_in_the_middle_it_goes_on_where_it_was(download, paths, service, tmp_path):
    service.add_competition("toy", FILES | {"train.csv": BIG})
    service.cuts |= {"train.csv": MEGABYTE + 30_000, "hold": threading.Event()}
    env = os.environ | {"PYTHONPATH": ":".join(sys.path)}
    command = [sys.executable, "-m", "oofline", "download", "--comp", "toy"]
    process = subprocess.Popen(command, cwd=tmp_path, env=env, stdout=subprocess.DEVNULL)
    assert service.received.wait(300)
    part = tmp_path / "input" / ".toy.download" / "part" / "train.csv"
    while not (part.exists() and part.stat().st_size >= MEGABYTE):
        assert process.poll() is None
    process.send_signal(signal.SIGKILL)
    process.wait()
    service.cuts["hold"].set()
    assert not (paths.input / "train.csv").exists()
    assert download()[0] == 0
    assert (paths.input / "train.csv").read_bytes() == BIG
    assert f"train.csv bytes={MEGABYTE}-" in [about for _, about, _ in service.calls]


def test_rules_that_are_not_accepted(download, paths, service):
    service.add_competition("toy", FILES, entered=False)
    code, _, err = download()
    assert code == 2
    assert len(err.strip().splitlines()) == 1
    assert "accept its rules at https://www.kaggle.com/competitions/toy/rules" in err
    assert not paths.input.exists()


@pytest.mark.parametrize(("call", "status", "says"), [
    ("ListDataFiles", 401, "does not accept your credentials"),
    ("DownloadDataFile", 404, "Kaggle knows no such thing"),
])  # fmt: skip
def test_refusals_are_one_line(download, paths, service, call, status, says):
    service.add_competition("toy", FILES)
    service.fail(call, status, "no")
    code, _, err = download()
    assert code == 2
    assert len(err.strip().splitlines()) == 1
    assert says in err
    assert not paths.input.exists()


def test_a_competition_that_is_not_there(download, paths, service):
    code, _, err = download()
    assert (code, "files of toy: 404 Not found" in err) == (2, True)


def test_busy_and_failing_services_are_asked_again(download, service):
    service.add_competition("toy", FILES)
    service.fail("ListDataFiles", 429, times=2, Retry_After="0")
    service.fail("DownloadDataFile", 503, times=2)
    assert download()[0] == 0


@pytest.mark.parametrize("name", ["../train.csv", "/train.csv", "a/../../train.csv"])
def test_listed_names_that_point_outside(download, tmp_path, service, name):
    service.add_competition("toy", {name: b"1"})
    code, _, err = download()
    assert (code, "points outside its folder" in err) == (2, True)
    assert fetched(service) == []


def test_an_archive_that_is_not_safe_leaves_nothing(download, paths, service, tmp_path):
    memory = io.BytesIO()
    with zipfile.ZipFile(memory, "w") as archive:
        archive.writestr("../../escaped.csv", b"1")
    service.add_competition("toy", {"data.zip": memory.getvalue()})
    code, _, err = download()
    assert (code, "points outside" in err) == (2, True)
    assert list(tmp_path.rglob("escaped.csv")) == []
    assert not paths.input.exists()


def test_a_full_disk_is_noticed_before_anything_is_fetched(download, service, monkeypatch):
    service.add_competition("toy", FILES)
    usage = shutil.disk_usage("/")._replace(free=2**20)
    monkeypatch.setattr("oofline.kaggle.download.shutil.disk_usage", lambda path: usage)
    code, _, err = download()
    assert (code, "0.0 GB are free" in err) == (2, True)
    assert fetched(service) == []


def test_many_files_in_pages(download, service, monkeypatch):
    monkeypatch.setattr("oofline.kaggle.download.PAGE", 2)
    service.add_competition("toy", FILES | {f"x{i}.csv": b"1" for i in range(3)})
    assert download()[0] == 0
    assert len(fetched(service)) == 6
    assert service.count("ListDataFiles") == 3


def test_the_folder_may_have_another_name(oofline, service, tmp_path, monkeypatch):
    service.add_competition("toy-tweets", FILES)
    monkeypatch.setattr("oofline.kaggle.download.slug_of", lambda cfg, paths: "toy-tweets")
    assert oofline("download", comp="mine")[0] == 0
    assert (Paths("mine", tmp_path).input / "train.csv").is_file()
