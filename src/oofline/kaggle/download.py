"""``oofline download``: a competition's files, into input/<comp>, whole or not at all."""

import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from oofline.data.reading import find_table
from oofline.errors import ConfigError, DataError, OoflineError
from oofline.kaggle.client import Client
from oofline.kaggle.submit import slug_of
from oofline.kaggle.unpack import safe_name, unpack
from oofline.progress import bar, say
from oofline.storage import Paths, read_json, write_json

PAGE = 200
RECORD = ".download.json"
"""Beside the files: what each of Kaggle's files became, so that it is not fetched again."""
RESERVE = 200 * 2**20
"""Bytes that stay free."""


@dataclass(frozen=True)
class Listed:
    """A file as Kaggle lists it.

    Attributes:
        name: relative path.
        size: bytes.
        date: when it was made, as text.
    """

    name: str
    size: int
    date: str


def run_download(options: Any, paths: Paths) -> None:
    """``oofline download``."""
    slug = slug_of(options.cfg, paths)
    client = Client(options.poll_seconds, slug)
    files = list_files(client, slug)
    record = _record(paths)
    wanted = [file for file in files if not _is_there(paths, file, record)]
    if not options.overwrite:
        _refuse_foreign(paths, wanted, record)
    staging = paths.input.parent / f".{paths.comp}.download"
    _check_space(paths.input.parent, staging, wanted)
    with bar(f"download {slug}", len(wanted)) as progress:
        for file in wanted:
            made = fetch(client, slug, file, staging)
            _move(staging / "ready", paths.input, made)
            record[file.name] = {"bytes": file.size, "date": file.date, "made": made}
            write_json(paths.input / RECORD, record)
            progress.advance()
    shutil.rmtree(staging, ignore_errors=True)
    kept = f", {len(files) - len(wanted)} were there" if len(files) > len(wanted) else ""
    say(f"{len(wanted)} files of {slug} are in {paths.input}{kept}; {_next(paths)}")


def list_files(client: Client, slug: str) -> list[Listed]:
    """Every file of a competition.

    Raises:
        CallFailedError: there is no such competition, or its rules are not accepted.
        DataError: it has no files, or a name points outside.
    """
    found, token = [], ""
    while True:
        page = client.ask(
            f"files of {slug}", "competition_list_files", slug, page_token=token, page_size=PAGE
        )
        for file in page.files or []:
            name = str(safe_name(file.name))
            found.append(Listed(name, int(file.total_bytes or 0), str(file.creation_date or "")))
        token = page.next_page_token
        if not token:
            break
    if not found:
        raise DataError(f"{slug} has no files: see https://www.kaggle.com/competitions/{slug}/data")
    return found


def _record(paths: Paths) -> dict[str, Any]:
    path = paths.input / RECORD
    return dict(read_json(path)) if path.is_file() else {}


def _sizes_fit(folder: Path, made: dict[str, int]) -> bool:
    """Whether all of these files are there, with these sizes."""
    return all(
        (folder / name).is_file() and (folder / name).stat().st_size == size
        for name, size in made.items()
    )


def _is_there(paths: Paths, file: Listed, record: dict[str, Any]) -> bool:
    """Whether a listed file, or what was unpacked from it, is there with its size."""
    entry = record.get(file.name)
    if entry and (entry["bytes"], entry["date"]) == (file.size, file.date):
        return _sizes_fit(paths.input, entry["made"])
    return not entry and _sizes_fit(paths.input, {file.name: file.size})


def _refuse_foreign(paths: Paths, wanted: list[Listed], record: dict[str, Any]) -> None:
    """Refuse to replace a file that did not come from here, or was changed since."""
    for file in wanted:
        if not (paths.input / file.name).exists():
            continue
        made = record.get(file.name, {}).get("made", {})
        if not made or not _sizes_fit(
            paths.input, {n: s for n, s in made.items() if n == file.name}
        ):
            raise ConfigError(
                f"{paths.input / file.name} is another file than Kaggle's ({file.size:,} bytes): "
                "move it away, or replace it with ARGS=--overwrite"
            )


def _check_space(folder: Path, staging: Path, wanted: list[Listed]) -> None:
    """Refuse what does not fit: all files, and the largest once more while it is unpacked."""
    folder.mkdir(parents=True, exist_ok=True)
    there = sum(p.stat().st_size for p in staging.rglob("*") if p.is_file())
    need = sum(f.size for f in wanted) + max((f.size for f in wanted), default=0) - there
    free = shutil.disk_usage(folder).free - RESERVE
    if wanted and need > free:
        raise OoflineError(
            f"the files need {need / 1e9:.1f} GB and {max(0, free) / 1e9:.1f} GB are free in "
            f"{folder}: make room"
        )


def fetch(client: Client, slug: str, file: Listed, staging: Path) -> dict[str, int]:
    """Download one file to staging/part, and put it, or what it unpacks to, below staging/ready.

    A part that an interrupted command left is continued by the client where the service has still
    the same file.

    Returns:
        Relative path -> bytes of what is ready.

    Raises:
        DataError: the archive is not safe or damaged, or the size is not the declared one.
    """
    inside, name = Path(file.name).parent, Path(file.name).name
    part = staging / "part" / inside
    part.mkdir(parents=True, exist_ok=True)
    client.ask(
        f"download of {file.name}", "competition_download_file", slug, file.name, str(part),
        quiet=client.quiet,
    )  # fmt: skip
    wrapped, plain = part / f"{name}.zip", part / name
    ready = staging / "ready"
    try:
        if wrapped.is_file() and not plain.is_file():
            made = unpack(wrapped, ready / inside, file.size, single=name)
        elif plain.suffix.lower() == ".zip":
            made = unpack(plain, ready / inside, file.size)
        else:
            made = {name: plain.stat().st_size}
            if made[name] != file.size:
                raise DataError(f"{file.name} has {made[name]:,} bytes instead of {file.size:,}")
            (ready / inside).mkdir(parents=True, exist_ok=True)
            plain.replace(ready / inside / name)
    except DataError:
        for leftover in (wrapped, plain):
            leftover.unlink(missing_ok=True)
        raise
    for leftover in (wrapped, plain):
        leftover.unlink(missing_ok=True)
    return {(inside / each).as_posix(): size for each, size in made.items()}


def _move(source: Path, target: Path, made: dict[str, int]) -> None:
    """Rename the files to where they belong; both are on the same file system."""
    for name in made:
        (target / name).parent.mkdir(parents=True, exist_ok=True)
        (source / name).replace(target / name)


def _next(paths: Paths) -> str:
    """What to type next."""
    missing = []
    for stem in ("train", "test", "sample_submission"):
        try:
            find_table(paths.input, stem)
        except DataError:
            missing.append(stem)
    if not missing:
        return f"next: make folds COMP={paths.comp}"
    there = sorted(p.name for p in paths.input.iterdir() if not p.name.startswith("."))
    return (
        f"copy the file that is to be {' and '.join(f'{stem}.csv' for stem in missing)} to that "
        f"name (there: {', '.join(there[:12])}), then make folds COMP={paths.comp}"
    )
