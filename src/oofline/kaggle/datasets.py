"""One folder becomes one dataset on Kaggle: created or versioned, once, and awaited."""

import json
from pathlib import Path
from typing import Any

from oofline.errors import DataError
from oofline.kaggle.client import CallFailedError, Client
from oofline.kaggle.pushed import Pushed, folder_sha256
from oofline.progress import say

READY = "ready"
BROKEN = ("failed", "deleted")
"""States that waiting does not end."""


def upload_dataset(
    client: Client, pushed: Pushed, folder: Path, ref: str, notes: str, hours: float
) -> None:
    """Bring a folder to Kaggle, unless just this content is there already.

    Interrupted at any moment, the same call goes on: a finished upload is not sent again, a dataset
    that is still processed is awaited.

    Args:
        client: signed in.
        pushed: notes what was done.
        folder: holds dataset-metadata.json and what is uploaded; folders go up as zip, which Kaggle
            unpacks.
        ref: ``owner/slug``.
        notes: what stands beside the version on Kaggle.
        hours: patience; 0 = no limit.

    Raises:
        DataError: Kaggle refused the dataset, or could not process it.
    """
    digest, noted = folder_sha256(folder), pushed.datasets.get(ref, {})
    there = look(client, ref)
    same = noted.get("sha256") == digest
    if same and noted.get("state") == READY and there == (READY, noted.get("version")):
        say(f"dataset {ref}: unchanged, version {there[1]} is there")
        return
    before = there[1] if there else 0
    if same and noted.get("state") == "processing":
        before = int(noted["before"])
    else:
        if there and there[0] not in (READY, *BROKEN):
            _await(
                client, ref, before - 1, hours
            )  # a new version while one is processed is refused
        pushed.note_dataset(ref, sha256=digest, state="uploading", before=before, version=None)
        _send(client, folder, ref, notes, before)
        pushed.note_dataset(ref, state="processing")
    try:
        version = _await(client, ref, before, hours)
    except DataError:
        pushed.note_dataset(ref, state="failed")
        raise
    pushed.note_dataset(ref, state=READY, version=version, before=None)
    say(f"dataset {ref}: version {version} is ready")


def look(client: Client, ref: str) -> tuple[str, int] | None:
    """State and newest version number of a dataset; None where there is none."""
    try:
        answer = client.ask(f"dataset {ref}", "dataset_status", ref, format="json")
    except CallFailedError as failure:
        if failure.absent:
            return None
        raise
    found: dict[str, Any] = json.loads(answer)
    return str(found["status"]), int(found["current_version_number"] or 0)


def _send(client: Client, folder: Path, ref: str, notes: str, before: int) -> None:
    """Create the dataset, or a version of it; an unclear failure is settled by looking."""
    what = f"upload of {folder.name} to dataset {ref}"
    say(f"{what} ({_size(folder) / 1e6:,.1f} MB)")
    try:
        options: dict[str, Any] = {"dir_mode": "zip", "quiet": client.quiet}
        if before:
            answer = client.act(what, "dataset_create_version", str(folder), notes, **options)
        else:
            answer = client.act(what, "dataset_create_new", str(folder), **options)
    except CallFailedError as failure:
        now = look(client, ref) if failure.unclear else None
        if now is None or now[1] <= before:
            raise
        say(f"{failure}; but Kaggle has taken version {now[1]}: going on")
        return
    error = getattr(answer, "error", "")
    if error or str(getattr(answer, "status", "")).lower() != "ok":
        raise DataError(f"{what}: Kaggle says: {error or 'nothing'}; change it and push again")


def _await(client: Client, ref: str, before: int, hours: float) -> int:
    """Wait until a version newer than ``before`` is ready; returns its number."""

    def state() -> tuple[str, int | None]:
        """State in words, and the version once it is ready."""
        found = look(client, ref)
        if found is None:
            return "not listed yet", None
        status, version = found
        if status in BROKEN and version > before:
            raise DataError(
                f"Kaggle could not process dataset {ref} (version {version} {status}): look at "
                f"https://www.kaggle.com/datasets/{ref}, then push again"
            )
        return status, version if status == READY and version > before else None

    return client.wait(f"dataset {ref}", state, hours)


def _size(folder: Path) -> int:
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())
