"""A kernel on Kaggle: pushed, run, awaited, and its log fetched when it fails."""

import json
import re
from pathlib import Path
from typing import Any

from oofline.errors import DataError
from oofline.kaggle.client import CallFailedError, Client
from oofline.kaggle.pushed import KernelFolder
from oofline.progress import say
from oofline.storage import write_text

GOOD, BAD = "complete", ("error", "cancel_acknowledged")
LOOKS_FOR_NEW = 20
"""A version that Kaggle has just made may be unknown for so many looks."""
LOG_LINES = 15
"""Last lines of the log that are shown."""


def newest_version(client: Client, ref: str) -> int | None:
    """Number of the newest version of a kernel; None where there is no such kernel."""

    def get(api: Any) -> Any:
        """The kernel's description."""
        from kagglesdk.kernels.types.kernels_api_service import ApiGetKernelRequest

        request = ApiGetKernelRequest()
        request.user_name, request.kernel_slug = ref.split("/")
        with api.build_kaggle_client() as kaggle:
            return kaggle.kernels.kernels_api_client.get_kernel(request)

    try:
        answer = client.ask(f"kernel {ref}", get)
    except CallFailedError as failure:
        if failure.absent:
            return None
        raise
    return answer.metadata.current_version_number or None


def push_kernel(client: Client, kernel: KernelFolder) -> int:
    """Push the notebook as a new version, which Kaggle runs at once; returns its number.

    Raises:
        DataError: Kaggle refused it, dropped one of its sources, or made it under another name.
        CallFailedError: no answer, and no new version either.
    """
    what = f"push of kernel {kernel.ref}"
    before = newest_version(client, kernel.ref) or 0
    say(what)
    try:
        answer = client.act(what, "kernels_push", str(kernel.path / "notebook"))
    except CallFailedError as failure:
        now = newest_version(client, kernel.ref) if failure.unclear else None
        if now is None or now <= before:
            raise
        say(f"{failure}; but Kaggle has version {now}: going on")
        return now
    if answer is None or answer.error:
        raise DataError(f"{what}: Kaggle says: {answer.error if answer else 'nothing'}")
    _check_answer(what, kernel, answer)
    version = answer.version_number or newest_version(client, kernel.ref)
    if not version or version <= before:
        raise DataError(f"{what}: Kaggle made no new version of it (the newest is {before or '-'})")
    return int(version)


def _check_answer(what: str, kernel: KernelFolder, answer: Any) -> None:
    dropped = {
        "datasets": answer.invalid_dataset_sources,
        "competitions": answer.invalid_competition_sources,
        "kernels": answer.invalid_kernel_sources,
        "models": answer.invalid_model_sources,
    }
    lost = [f"{kind} {', '.join(names)}" for kind, names in dropped.items() if names]
    if lost:
        raise DataError(
            f"{what}: Kaggle does not know its {' and '.join(lost)}: the kernel runs without them "
            f"and will fail; check names and access (see {kernel.url}), then push again"
        )
    found = re.search(r"/code/([^/]+/[^/?]+)", answer.url or "")
    if found and found[1].lower() != kernel.ref.lower():
        raise DataError(
            f"{what}: Kaggle made it as {found[1]}: make title and id agree in "
            "notebook/kernel-metadata.json, and delete that kernel"
        )


def await_run(client: Client, kernel: KernelFolder, version: int, hours: float) -> None:
    """Wait until a version has run.

    Args:
        client: signed in.
        kernel: what was pushed.
        version: its number.
        hours: patience; 0 = no limit.

    Raises:
        DataError: it failed or was cancelled; its log stands in kernel/log.txt.
        OoflineError: the time is over, or Kaggle has a newer version in its place.
    """
    name, unknown = f"kernel {kernel.ref} version {version}", 0

    def look() -> tuple[str, str | None]:
        """State in words; the failure message, "" without failure, None while it runs."""
        nonlocal unknown
        try:
            answer = client.ask(name, "kernels_status", f"{kernel.ref}/{version}")
        except CallFailedError as failure:
            unknown += 1
            if not failure.absent or unknown >= LOOKS_FOR_NEW:
                raise
            return "not listed yet", None
        state = answer.status.name.lower()
        if state in BAD:
            return state, answer.failure_message or state
        return state, "" if state == GOOD else None

    failed = client.wait(name, look, hours)
    newest = newest_version(client, kernel.ref)
    if newest != version:
        raise DataError(
            f"{kernel.ref} has version {newest} on Kaggle, pushed from elsewhere after version "
            f"{version}: make kernel-push again"
        )
    if failed:
        path = fetch_log(client, kernel, version)
        raise DataError(f"{name} failed on Kaggle: {failed}; its log is {path}")


def fetch_log(client: Client, kernel: KernelFolder, version: int) -> Path:
    """Write the log of a run to kernel/log.txt and show its last lines; returns the path."""
    path = kernel.path / "log.txt"
    try:
        text = client.ask(f"log of {kernel.ref}", "kernels_logs", f"{kernel.ref}/{version}")
    except CallFailedError as failure:
        text = f"the log could not be fetched: {failure}\n"
    write_text(path, plain_log(text))
    for line in path.read_text(encoding="utf-8").splitlines()[-LOG_LINES:]:
        say(f"  | {line}")
    return path


def plain_log(text: str) -> str:
    """The lines of a log as a terminal shows them; Kaggle keeps them as a JSON list of pieces."""
    try:
        pieces = json.loads(text)
    except ValueError:
        return text
    if not isinstance(pieces, list):
        return text
    return "".join(str(piece.get("data", "")) for piece in pieces if isinstance(piece, dict))
