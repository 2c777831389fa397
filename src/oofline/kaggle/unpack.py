"""Archives from outside are unpacked without trust: no path escapes, no link, no bomb."""

import shutil
import stat
import zipfile
import zlib
from pathlib import Path, PurePosixPath, PureWindowsPath

from oofline.errors import DataError
from oofline.storage import replacing

RATIO = 25
"""Contents may be so many times as large as the archive was declared to be."""
SMALL = 16 * 2**20
"""Bytes that are always allowed."""


def safe_name(name: str) -> PurePosixPath:
    """A name from outside as a relative path.

    Raises:
        DataError: it is absolute, empty, climbs out with "..", or is one on Windows only.
    """
    path, windows = PurePosixPath(name), PureWindowsPath(name)
    bad = path.is_absolute() or windows.drive or windows.root or "\\" in name or "\0" in name
    if bad or not path.parts or ".." in path.parts:
        raise DataError(f"the name {name!r} points outside its folder: nothing of it was kept")
    return path


def unpack(archive: Path, folder: Path, declared: int, single: str = "") -> dict[str, int]:
    """Unpack a zip file, checking every member before any is written.

    Args:
        archive: zip file.
        folder: where to.
        declared: bytes that the contents, or the archive, were said to have.
        single: the archive only wraps this one file, whatever its member is called; "" = it is a
            bundle.

    Returns:
        Relative path -> bytes of the files written.

    Raises:
        DataError: not a zip file, damaged, encrypted, a member's name points outside, is a link or
            stands twice, or the contents are far larger than declared.
    """
    try:
        with zipfile.ZipFile(archive) as opened:
            members = [info for info in opened.infolist() if not info.is_dir()]
            if single and len(members) != 1:
                raise DataError(f"{archive.name} holds {len(members)} files instead of {single}")
            names = [single or str(safe_name(info.filename)) for info in members]
            _check(archive, members, names, declared)
            for info, name in zip(members, names, strict=True):
                _write(opened, info, folder / name)
    except (zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError) as error:
        raise DataError(f"{archive.name} is no sound zip file ({error}): download again") from None
    return {name: info.file_size for name, info in zip(names, members, strict=True)}


def _check(archive: Path, members: list[zipfile.ZipInfo], names: list[str], declared: int) -> None:
    for info in members:
        if stat.S_ISLNK(info.external_attr >> 16):
            raise DataError(f"{archive.name}: {info.filename!r} is a link: nothing of it was kept")
        if info.flag_bits & 1:
            raise DataError(f"{archive.name} is encrypted: unpack it by hand")
    if len({name.casefold() for name in names}) < len(names):
        raise DataError(f"{archive.name} holds the same name twice: nothing of it was kept")
    total, allowed = sum(info.file_size for info in members), max(SMALL, RATIO * declared)
    if total > allowed:
        raise DataError(
            f"{archive.name} would unpack to {total / 1e6:,.0f} MB, it was declared as "
            f"{declared / 1e6:,.1f} MB: nothing of it was kept"
        )


def _write(opened: zipfile.ZipFile, info: zipfile.ZipInfo, path: Path) -> None:
    """Write one member; zipfile ends with an error where more comes out than its header says."""
    with replacing(path) as temporary, temporary.open("wb") as target, opened.open(info) as source:
        shutil.copyfileobj(source, target, 2**20)
    if path.stat().st_size != info.file_size:
        path.unlink()
        raise zipfile.BadZipFile(f"{info.filename} has another size than its header says")
