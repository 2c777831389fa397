"""One fold in the shared storage: finished, or the saved state of an unfinished one."""

import uuid
from pathlib import Path
from typing import Any

from oofline.engines.store import Store
from oofline.errors import OoflineError

STATE = "state.safetensors"
"""The file of a state that counts; others belong to it."""
_WITH_STATE = ("best*.safetensors", "snapshot*.safetensors", "wandb.json")


def state_files(folder: Path) -> list[Path]:
    """The files of the state that is saved in a fold's folder, the one that counts last."""
    beside = [path for pattern in _WITH_STATE for path in folder.glob(pattern)]
    return [*beside, folder / STATE]


class StoredFold:
    """One fold in the store.

    Args:
        store: the shared storage.
        key: of the fold's folder, as below a project.
    """

    def __init__(self, store: Store, key: str) -> None:
        self.store, self.key = store, key

    def is_done(self) -> bool:
        """Whether all of it is there."""
        return self.store.exists(f"{self.key}/scores.json")

    def keys(self) -> list[str]:
        """What a finished fold consists of, scores.json last; nothing of an unfinished one."""
        names = self.store.names(self.key)
        if "scores.json" not in names:
            return []
        names = [name for name in names if name not in ("scores.json", "state.json")]
        beside = (self.store.read_json(f"{self.key}/adapter.json") or {}).get("folder")
        comp = self.key.rsplit("/", 3)[0]
        below = self.store.names(f"{comp}/{beside}") if beside else []
        kept = [f"{comp}/{beside}/{name}" for name in below]
        return [*kept, *(f"{self.key}/{name}" for name in names), f"{self.key}/scores.json"]

    def fetch(self, folder: Path) -> None:
        """Bring the finished fold here."""
        for key in self.keys():
            if key.startswith(f"{self.key}/"):
                self.store.get(key, folder / key.rpartition("/")[2])

    def fetch_state(self, folder: Path) -> None:
        """Bring the saved state here, the file that counts last; nothing where there is none."""
        note = f"{self.key}/state.json"
        while (manifest := self.store.read_json(note)) is not None:
            try:
                for name in sorted(manifest, key=lambda name: name == STATE):
                    self.store.get(f"{self.key}/state/{manifest[name]}", folder / name)
                return
            except OoflineError:
                if self.store.read_json(note) == manifest:
                    raise  # else a process of a lost node pushed another one meanwhile

    def has_state(self) -> bool:
        """Whether a saved state is there."""
        return self.store.exists(f"{self.key}/state.json")

    def put_state(self, files: dict[str, Path]) -> None:
        """Push the files of a state by name, then the note that names them; drop the former."""
        former = self.store.read_json(f"{self.key}/state.json") or {}
        mark = uuid.uuid4().hex[:12]
        manifest = {name: f"{mark}-{name}" for name in files}
        for name, file in files.items():
            self.store.put(file, f"{self.key}/state/{manifest[name]}")
        self.store.write_json(f"{self.key}/state.json", manifest)
        self.store.remove([f"{self.key}/state/{name}" for name in former.values()])

    def put(self, folder: Path, kept: dict[str, Path], weights: bool) -> None:
        """Push the finished fold, scores.json last, then drop its state."""
        for key, file in kept.items():
            if not self.store.exists(key):
                self.store.put(file, key)
        files = [p for p in sorted(folder.iterdir()) if p.is_file() and not p.name.startswith(".")]
        for file in sorted(files, key=lambda file: file.name == "scores.json"):
            if weights or file.suffix != ".safetensors":
                self.store.put(file, f"{self.key}/{file.name}")
        self.forget_state()

    def forget_state(self) -> None:
        """Drop the saved state, its note first."""
        manifest: Any = self.store.read_json(f"{self.key}/state.json")
        if manifest is not None:
            self.store.remove([f"{self.key}/state.json"])
            self.store.remove([f"{self.key}/state/{name}" for name in manifest.values()])
