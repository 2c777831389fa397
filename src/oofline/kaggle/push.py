"""``oofline kernel-push``: the rehearsed kernel goes to Kaggle, runs there, and is awaited."""

import shlex
from pathlib import Path
from typing import Any

from oofline.errors import DataError
from oofline.kaggle.client import Client
from oofline.kaggle.datasets import upload_dataset
from oofline.kaggle.manifest import check_tree
from oofline.kaggle.names import check_names
from oofline.kaggle.pushed import (
    DATASETS,
    KernelFolder,
    Pushed,
    check_rehearsed,
    fill_owner,
    open_kernel,
)  # fmt: skip
from oofline.kaggle.runs import GOOD, await_run, push_kernel
from oofline.progress import bar, say
from oofline.storage import Paths


def run_kernel_push(options: Any, paths: Paths) -> None:
    """``oofline kernel-push``."""
    kernel = open_kernel(paths)
    check_rehearsed(kernel, paths.comp)
    check_all_names(kernel)
    pushed = Pushed(kernel)
    if options.dry_run:
        for line in push_commands(kernel, pushed):
            print(line)
        say("nothing was sent (dry run): these are the calls that kernel-push makes")
        return
    if pushed.status == GOOD and not options.again:
        say(f"{kernel.ref} version {pushed.version} is this build and has run; {_next(paths)}")
        return
    with bar("check files against the manifest", 1) as progress:
        check_tree(kernel.path)
        progress.advance()
    client = Client(options.poll_seconds)
    kernel = fill_owner(kernel, client.account)
    hours = options.cfg.time_limit_hours
    for name in DATASETS:
        upload_dataset(
            client, pushed, kernel.path / name, kernel.dataset(name)["id"], notes_of(kernel), hours
        )
    _run(client, kernel, pushed, hours, options.again)
    say(f"{kernel.ref} version {pushed.version} has run on Kaggle ({kernel.url}); {_next(paths)}")


def _next(paths: Paths) -> str:
    return f"next: make submit COMP={paths.comp} EXP=... MSG=..."


def _run(client: Client, kernel: KernelFolder, pushed: Pushed, hours: float, again: bool) -> None:
    """Push the kernel, or go on waiting for the version that an interrupted push made."""
    version = pushed.version
    if version is None or pushed.status != "running" or again:
        version = push_kernel(client, kernel)
        pushed.note(kernel=kernel.ref, version=version, status="running")
    try:
        await_run(client, kernel, version, hours)
    except DataError:
        pushed.note(status="error")
        raise
    pushed.note(status=GOOD)


def check_all_names(kernel: KernelFolder) -> None:
    """Check titles and slugs of both datasets and the kernel (ConfigError)."""
    for name in DATASETS:
        path = kernel.path / name / "dataset-metadata.json"
        check_names(path, kernel.dataset(name), "dataset")
    check_names(kernel.path / "notebook" / "kernel-metadata.json", kernel.metadata, "kernel")


def notes_of(kernel: KernelFolder) -> str:
    """What stands beside a dataset's version on Kaggle."""
    return f"oofline {kernel.manifest.get('exp', '')} {kernel.manifest_sha256[:12]}"


def push_commands(kernel: KernelFolder, pushed: Pushed) -> list[str]:
    """The calls of a push as commands of Kaggle's client; ``#`` says when one is made."""
    lines = []
    for name in DATASETS:
        folder, ref = kernel.path / name, kernel.dataset(name)["id"]
        status = command("datasets", "status", ref, "--format", "json")
        lines += [
            status,
            f"{_create(folder)}  # where {ref} is not there yet",
            f"{_version(folder, notes_of(kernel))}  # where it is, with other content",
            f"{status}  # until ready, with a new version number",
        ]
    lines.append(command("kernels", "push", "-p", str(kernel.path / "notebook")))
    lines.append(f"{command('kernels', 'status', kernel.ref)}  # until complete")
    lines.append(f"{command('kernels', 'logs', kernel.ref)}  # where it failed")
    return lines


def _create(folder: Path) -> str:
    return command("datasets", "create", "-p", str(folder), "--dir-mode", "zip")


def _version(folder: Path, notes: str) -> str:
    return command("datasets", "version", "-p", str(folder), "-m", notes, "--dir-mode", "zip")


def command(*words: str) -> str:
    """A command of Kaggle's client, quoted for a shell."""
    return shlex.join(["kaggle", *words])
