"""Later upload of what was tracked offline or cut short."""

import os
import subprocess
import sys
import time
from pathlib import Path

from oofline.errors import ConfigError, DataError, OoflineError
from oofline.storage import Paths
from oofline.tracking.credentials import has_key, prepare
from oofline.tracking.tracker import PENDING, RUNNING, last_line

_PATIENCE = {
    "WANDB_X_GRAPHQL_RETRY_MAX": "2",
    "WANDB_X_GRAPHQL_TIMEOUT_SECONDS": "15",
    "WANDB_X_FILE_STREAM_RETRY_MAX": "4",
    "WANDB_X_FILE_TRANSFER_RETRY_MAX": "4",
}  # wandb's own retries go on for a week
_LIVE_SECONDS = 60.0  # wandb flushes every 15 s: a file older than this belongs to a dead process


def sync(paths: Paths) -> int:
    """Upload what is not on the server yet: offline runs and interrupted uploads, once each.

    Returns:
        Number of uploaded runs, 0 when the server has everything.

    Raises:
        DataError: nothing was tracked in this competition.
        ConfigError: there is no wandb key.
        OoflineError: the server did not take a run (nothing is lost; run again).
    """
    folder = paths.output / "wandb"
    files = sorted(folder.glob("*run-*/run-*.wandb"))
    if not files:
        raise DataError(f"{folder} holds no tracked runs: train first, with wandb not disabled")
    prepare(paths)
    if not has_key():
        raise ConfigError("no wandb key: set WANDB_API_KEY or run `wandb login`, then sync again")
    waiting = [file for file in files if _is_waiting(file)]
    left = waiting
    while left:
        refused, answer = _upload(left)
        if len(refused) == len(left):
            raise OoflineError(
                f"wandb did not take {left[0].parent.name} ({last_line(answer)}); "
                "nothing is lost, run `make sync` again"
            )
        left = refused
    return len(waiting)


def _is_waiting(file: Path) -> bool:
    """Whether this run's log is not (wholly) on the server, and nobody is still writing it."""
    written = file.stat().st_mtime
    running = file.with_name(RUNNING).exists()
    if running and time.time() - written < _LIVE_SECONDS:
        return False
    if not file.parent.name.startswith("offline-"):
        return running or file.with_name(PENDING).exists()
    synced = file.with_suffix(".wandb.synced")
    return not synced.exists() or synced.stat().st_mtime < written


def _upload(files: list[Path]) -> tuple[list[Path], str]:
    """Upload these logs; returns those that were refused, and wandb's answer."""
    command = [sys.executable, "-m", "wandb", "sync", "--yes", "--include-online"]
    command += ["--include-synced", *map(str, files)]
    started = time.time()
    done = subprocess.run(
        command,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        env={**os.environ, **_PATIENCE, "WANDB_SILENT": "false"},
    )
    answer = done.stdout + done.stderr
    refused = []
    for file in files:
        synced = file.with_suffix(".wandb.synced")
        if _ends_early(file, answer):
            synced.touch()
        if synced.exists() and synced.stat().st_mtime > started - 1:
            for name in (RUNNING, PENDING):
                file.with_name(name).unlink(missing_ok=True)
        else:
            refused.append(file)
    return refused, answer


def _ends_early(file: Path, answer: str) -> bool:
    """Whether wandb read this log up to a record that its process was killed while writing."""
    return any(
        file.parent.name in line
        and ("incomplete record" in line or "error getting next record" in line)
        for line in answer.splitlines()
    )
