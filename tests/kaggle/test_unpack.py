"""Archives that must not be trusted."""

import stat
import zipfile

import pytest

from oofline.errors import DataError
from oofline.kaggle.unpack import SMALL, safe_name, unpack


@pytest.fixture
def archive(tmp_path):
    """archive({name: bytes}) -> path of a zip file; a name may be a ZipInfo."""

    def make(members, compression=zipfile.ZIP_DEFLATED):
        path = tmp_path / "a.zip"
        with zipfile.ZipFile(path, "w", compression) as opened:
            for name, data in members:
                opened.writestr(name, data)
        return path

    return make


def nothing_outside(tmp_path):
    return sorted(p.name for p in tmp_path.rglob("*") if p.is_file()) == ["a.zip"]


@pytest.mark.parametrize("name", [
    "../out.csv", "a/../../out.csv", "/etc/out.csv", "C:\\out.csv", "C:out.csv", "..\\out.csv",
    "a\\b.csv", "..", "",
])  # fmt: skip
def test_names_that_point_outside(name, tmp_path, archive):
    with pytest.raises(DataError, match="points outside"):
        safe_name(name)
    if not name or "\\" in name:
        return  # zipfile itself turns these into others when it writes
    path = archive([("good.csv", b"1"), (name, b"2")])
    with pytest.raises(DataError, match="points outside"):
        unpack(path, tmp_path / "in" / "deep", 100)
    assert nothing_outside(tmp_path)


def test_good_names_are_unpacked_with_their_folders(tmp_path, archive):
    path = archive([("train.csv", b"id\n1\n"), ("more/test.csv", b"id\n2\n"), ("more/", b"")])
    assert unpack(path, tmp_path / "in", 10) == {"train.csv": 5, "more/test.csv": 5}
    assert (tmp_path / "in" / "more" / "test.csv").read_bytes() == b"id\n2\n"


def test_a_wrapped_file_takes_the_name_that_was_asked_for(tmp_path, archive):
    path = archive([("../../whatever.csv", b"id\n1\n")])
    assert unpack(path, tmp_path / "in", 5, single="train.csv") == {"train.csv": 5}
    two = archive([("a.csv", b"1"), ("b.csv", b"2")])
    with pytest.raises(DataError, match=r"holds 2 files instead of train.csv"):
        unpack(two, tmp_path / "in2", 5, single="train.csv")


def test_a_link_is_refused(tmp_path, archive):
    info = zipfile.ZipInfo("link")
    info.external_attr = (stat.S_IFLNK | 0o777) << 16
    path = archive([("good.csv", b"1"), (info, b"/etc/passwd")])
    with pytest.raises(DataError, match="is a link"):
        unpack(path, tmp_path / "in", 10)
    assert nothing_outside(tmp_path)


def test_a_bomb_is_refused_before_it_is_written(tmp_path, archive):
    path = archive([("zeros.csv", b"\0" * (SMALL + 1))])
    assert path.stat().st_size < SMALL / 100
    with pytest.raises(DataError, match=r"would unpack to 17 MB, it was declared as 0\.0 MB"):
        unpack(path, tmp_path / "in", 1000)
    assert nothing_outside(tmp_path)
    assert unpack(path, tmp_path / "in", SMALL) == {"zeros.csv": SMALL + 1}


def test_a_header_that_lies_about_the_size(tmp_path, archive):
    path = archive([("a.csv", b"x" * 1000)])
    raw = path.read_bytes()
    size = (1000).to_bytes(4, "little")
    assert raw.count(size) == 2
    path.write_bytes(raw.replace(size, (10).to_bytes(4, "little")))
    with pytest.raises(DataError, match="no sound zip file"):
        unpack(path, tmp_path / "in", 10)
    assert nothing_outside(tmp_path)


def test_damage_is_named(tmp_path, archive):
    path = archive([("a.csv", bytes(range(256)) * 40)], zipfile.ZIP_STORED)
    raw = bytearray(path.read_bytes())
    raw[500] ^= 1
    path.write_bytes(bytes(raw))
    with pytest.raises(DataError, match="CRC"):
        unpack(path, tmp_path / "in", 10)
    path.write_bytes(b"<html>not a zip</html>")
    with pytest.raises(DataError, match="no sound zip file"):
        unpack(path, tmp_path / "in", 10)
    assert nothing_outside(tmp_path)


def test_a_name_that_stands_twice(tmp_path, archive):
    path = archive([("Train.csv", b"1"), ("train.csv", b"2")])
    with pytest.raises(DataError, match="same name twice"):
        unpack(path, tmp_path / "in", 10)
