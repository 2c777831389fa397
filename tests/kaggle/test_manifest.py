"""Every file has its SHA-256; what is missing, changed or added is named."""

import json

import pytest

from oofline.errors import DataError
from oofline.kaggle.manifest import check_tree, git_commit, hash_tree
from oofline.storage import write_json


@pytest.fixture
def tree(tmp_path):
    (tmp_path / "wheels").mkdir()
    (tmp_path / "wheels" / "a.whl").write_text("one")
    (tmp_path / "b.json").write_text("two")
    (tmp_path / "dataset-metadata.json").write_text("{}")
    write_json(tmp_path / "manifest.json", {"files": hash_tree(tmp_path)})
    return tmp_path


def test_metadata_and_records_are_not_part_of_it(tree):
    (tree / "rehearsal.json").write_text("{}")
    (tree / "dataset-metadata.json").write_text('{"id": "someone/else"}')
    assert list(check_tree(tree)["files"]) == ["b.json", "wheels/a.whl"]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda t: (t / "wheels" / "a.whl").unlink(), "wheels/a.whl is missing"),
        (lambda t: (t / "b.json").write_text("TWO"), "b.json differs"),
        (lambda t: (t / "c").write_text("three"), "c is not listed"),
    ],
)
def test_each_change_is_named(tree, change, message):
    change(tree)
    with pytest.raises(DataError, match=message):
        check_tree(tree)


def test_sizes_and_hashes_are_those_of_the_files(tree):
    entry = json.loads((tree / "manifest.json").read_text())["files"]["b.json"]
    assert entry["bytes"] == 3
    assert entry["sha256"].startswith("3fc4ccfe745870e2")


def test_the_commit_is_the_checkouts():
    commit = git_commit()
    assert commit == "" or len(commit.removesuffix("+changes")) == 40
