import errno
import os

import pytest

from oofline.errors import DataError, OoflineError
from oofline.storage import (
    Paths,
    read_json,
    remove_temporaries,
    replacing,
    sha256_of,
    write_json,
    write_text,
)


def test_a_write_that_fails_leaves_the_old_file_and_nothing_else(tmp_path):
    path = tmp_path / "a.txt"
    write_text(path, "old")

    def fail():
        with replacing(path) as temporary:
            temporary.write_text("half")
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        fail()
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EROFS, errno.EACCES])
def test_a_full_or_read_only_disk_is_the_users_to_fix(tmp_path, monkeypatch, code):
    def fail(descriptor):
        raise OSError(code, os.strerror(code))

    monkeypatch.setattr(os, "fsync", fail)
    with pytest.raises(OoflineError, match=f"cannot write .*a.txt: {os.strerror(code)}"):
        write_text(tmp_path / "a.txt", "new")
    assert list(tmp_path.iterdir()) == []


def test_a_real_full_disk(tmp_path):
    """/dev/full refuses every byte, as a full disk does."""
    if not os.path.exists("/dev/full"):  # noqa: PTH110
        pytest.skip("this system has no /dev/full")

    def fill():
        with replacing(tmp_path / "x") as temporary:
            temporary.symlink_to("/dev/full")
            temporary.write_bytes(b"x" * 100)

    with pytest.raises(OoflineError, match="No space left"):
        fill()
    assert list(tmp_path.iterdir()) == []


def test_killed_writers_files_can_be_removed(tmp_path):
    (tmp_path / ".state.safetensors.12.abc.tmp").write_text("half")
    (tmp_path / "keep.tmp").write_text("mine")
    remove_temporaries(tmp_path)
    assert [p.name for p in tmp_path.iterdir()] == ["keep.tmp"]


def test_json_round_trip_and_damage(tmp_path):
    path = tmp_path / "a.json"
    write_json(path, {"名": [1, None]})
    assert read_json(path) == {"名": [1, None]}
    path.write_text("{")
    with pytest.raises(DataError, match=r"a.json is not valid JSON"):
        read_json(path)
    with pytest.raises(DataError, match="does not exist"):
        read_json(tmp_path / "b.json")


def test_paths_and_hash(tmp_path):
    paths = Paths("c", tmp_path)
    assert paths.fold("awp", 42, 3) == tmp_path / "output/c/awp/seed42/fold3"
    assert paths.ensemble("x") == tmp_path / "output/c/ensembles/x"
    write_text(tmp_path / "a", "abc")
    assert sha256_of(tmp_path / "a").startswith("ba7816bf")
