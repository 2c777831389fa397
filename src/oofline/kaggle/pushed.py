"""What stands in the kernel folder, what was rehearsed, and what of it is on Kaggle already."""

import hashlib
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from oofline.errors import ConfigError, DataError
from oofline.storage import Paths, read_json, sha256_of, write_json, write_text

DATASETS = ("code", "weights")
"""Folders of the kernel that become datasets, in the order in which they are uploaded."""


@dataclass(frozen=True)
class KernelFolder:
    """``output/<comp>/kernel`` as it was built.

    Attributes:
        path: the folder.
        manifest: contents of manifest.json.
        manifest_sha256: SHA-256 of manifest.json, the name of this build.
        metadata: contents of notebook/kernel-metadata.json.
    """

    path: Path
    manifest: dict[str, Any]
    manifest_sha256: str
    metadata: dict[str, Any]

    @property
    def ref(self) -> str:
        """``owner/slug`` of the kernel."""
        return str(self.metadata["id"])

    @property
    def url(self) -> str:
        """Where the kernel stands on Kaggle."""
        return f"https://www.kaggle.com/code/{self.ref}"

    def dataset(self, name: str) -> dict[str, Any]:
        """Contents of a dataset's dataset-metadata.json."""
        return dict(read_json(self.path / name / "dataset-metadata.json"))


def open_kernel(paths: Paths) -> KernelFolder:
    """Read the built kernel of a competition.

    Raises:
        DataError: it is not there, or a file of it is missing or broken.
    """
    folder = paths.output / "kernel"
    if not (folder / "manifest.json").is_file():
        raise DataError(
            f"{folder} holds no kernel: make kernel kernel-rehearse COMP={paths.comp} EXP=..."
        )
    return KernelFolder(
        folder,
        read_json(folder / "manifest.json"),
        sha256_of(folder / "manifest.json"),
        read_json(folder / "notebook" / "kernel-metadata.json"),
    )


OWNER = "INSERT_USERNAME_HERE"
"""Stands for the account in metadata that was written before anybody signed in."""


def fill_owner(kernel: KernelFolder, account: str) -> KernelFolder:
    """Put the signed-in account where the metadata still says `OWNER`; returns the folder anew.

    The metadata files name the account and are in no manifest: what was rehearsed stays the same.
    """
    names = [*(f"{part}/dataset-metadata.json" for part in DATASETS)]
    for path in (kernel.path / name for name in [*names, "notebook/kernel-metadata.json"]):
        text = path.read_text(encoding="utf-8")
        if f'"{OWNER}/' in text:
            write_text(path, text.replace(f'"{OWNER}/', f'"{account}/'))
    return replace(kernel, metadata=read_json(kernel.path / "notebook" / "kernel-metadata.json"))


def check_rehearsed(kernel: KernelFolder, comp: str) -> None:
    """Refuse what was not rehearsed, failed, or was built again or changed since (ConfigError)."""
    path, again = kernel.path / "rehearsal.json", f"make kernel-rehearse COMP={comp}"
    if not path.is_file():
        raise ConfigError(f"{kernel.path} was never rehearsed: {again}")
    rehearsal = read_json(path)
    if rehearsal.get("manifest_sha256") != kernel.manifest_sha256:
        raise ConfigError(f"{kernel.path} was built again since its rehearsal: {again}")
    if not rehearsal.get("passed"):
        raise ConfigError(
            f"the rehearsal of {kernel.path} failed: read {path.with_suffix('.md').name} there, "
            f"then {again}"
        )


def folder_sha256(folder: Path) -> str:
    """SHA-256 over names and contents of every file below a folder, as 64 hex digits."""
    digest = hashlib.sha256()
    for path in sorted(path for path in folder.rglob("*") if path.is_file()):
        digest.update(f"{path.relative_to(folder).as_posix()}\0{sha256_of(path)}\n".encode())
    return digest.hexdigest()


class Pushed:
    """``pushed.json``: how far the push of this kernel has come; written at every step.

    Args:
        kernel: what is pushed. What is noted of another build's kernel is dropped, datasets stay.
    """

    def __init__(self, kernel: KernelFolder) -> None:
        self.path = kernel.path / "pushed.json"
        stored = read_json(self.path) if self.path.exists() else {}
        self.datasets: dict[str, dict[str, Any]] = stored.get("datasets", {})
        self.state: dict[str, Any] = {"manifest_sha256": kernel.manifest_sha256}
        if stored.get("manifest_sha256") == kernel.manifest_sha256:
            self.state |= {k: stored[k] for k in ("kernel", "version", "status") if k in stored}

    @property
    def version(self) -> int | None:
        """Version of the kernel that this build became; None before that."""
        return self.state.get("version")

    @property
    def status(self) -> str:
        """How that version's run stands: "", "running", "complete" or "error"."""
        return str(self.state.get("status", ""))

    def note(self, **changes: Any) -> None:
        """Change the kernel's state and write the file."""
        self.state |= changes
        write_json(self.path, {**self.state, "datasets": self.datasets})

    def note_dataset(self, ref: str, **changes: Any) -> None:
        """Change a dataset's state and write the file; None removes an entry."""
        merged = self.datasets.get(ref, {}) | changes
        self.datasets[ref] = {key: value for key, value in merged.items() if value is not None}
        self.note()
