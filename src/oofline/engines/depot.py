"""The command's side of the shared storage: inputs go there, finished folds come back."""

import contextlib
import dataclasses
import uuid
from collections.abc import Iterator
from pathlib import Path

from filelock import FileLock, Timeout

from oofline.claim import check_settings
from oofline.config import CFG
from oofline.engines.store import Store
from oofline.engines.stored_fold import STATE, StoredFold, state_files
from oofline.errors import ConfigError, DataError, OoflineError
from oofline.progress import bar, say
from oofline.storage import PSEUDO_LABELS, Paths, read_json, sha256_of

_CLAIM = ("cfg.json", "inputs.json")
"""In the order in which they are written: the last one says that both are there."""
Unit = tuple[int, int]
"""(seed, fold)."""


class Depot:
    """A project's files on a shared storage.

    Args:
        url: of the storage.
        paths: of the competition, here.

    Raises:
        ConfigError: it cannot be reached, read and written.
    """

    def __init__(self, url: str, paths: Paths) -> None:
        self.store, self.paths = Store(url), paths
        self.store.check()

    def _key(self, path: Path) -> str:
        return path.relative_to(self.paths.root).as_posix()

    def begin(self, cfg: CFG, units: list[Unit]) -> list[Unit]:
        """Claim the experiment, then bring both sides to what either has of its folds.

        Args:
            cfg: settings of the experiment, which was begun here.
            units: what is not finished here.

        Returns:
            Units that are not finished there either.

        Raises:
            ConfigError, DataError: see `claim`.
        """
        self.claim(cfg)
        left = self.fetch_finished(cfg, units)
        self.push_states(cfg, left)
        return left

    def claim(self, cfg: CFG) -> None:
        """Compare an experiment with the one of its name there; where there is none, it is ours.

        Raises:
            ConfigError: it was started there with other settings.
            DataError: it was started there with other inputs.
        """
        folder = self.paths.experiment(cfg.exp)
        keys = [self._key(folder / name) for name in _CLAIM]
        theirs = self.store.read_json(keys[-1])
        if theirs is None:
            for name, key in zip(_CLAIM, keys, strict=True):
                self.store.put(folder / name, key)
            return
        mine = read_json(folder / "inputs.json")
        changed = [name for name, value in mine.items() if theirs.get(name) != value]
        if changed:
            raise DataError(
                f"shared_storage {self.store.url}: {cfg.exp} was started there with another "
                f"{' and '.join(changed)}: choose another EXP or another prefix"
            )
        self._compare_settings(cfg, keys[0])

    def _compare_settings(self, cfg: CFG, key: str) -> None:
        with _scratch(self.paths) as there:
            self.store.get(key, there.experiment(cfg.exp) / "cfg.json")
            try:
                check_settings(cfg, there)
            except ConfigError as error:
                raise ConfigError(f"shared_storage {self.store.url}: {error}") from None

    def fetch_finished(self, cfg: CFG, units: list[Unit]) -> list[Unit]:
        """Bring finished folds here; returns the units that are left."""
        left = []
        for unit in units:
            fold = StoredFold(self.store, self._key(self.paths.fold(cfg.exp, *unit)))
            keys = fold.keys()
            self.fetch(keys)
            left += [] if keys else [unit]
        if len(left) < len(units):
            say(f"fetched {len(units) - len(left)} finished folds from {self.store.url}")
        return left

    def push_states(self, cfg: CFG, units: list[Unit]) -> None:
        """Put states that were saved here there, where it has none: nodes go on from them."""
        pushed = 0
        for unit in units:
            folder = self.paths.fold(cfg.exp, *unit)
            fold = StoredFold(self.store, self._key(folder))
            if (folder / STATE).is_file() and not fold.has_state():
                with contextlib.suppress(Timeout), FileLock(folder / ".lock", timeout=0):
                    fold.put_state({path.name: path for path in state_files(folder)})
                    pushed += 1
        if pushed:
            say(f"folds that go on from what was saved here: {pushed}")

    def fetch(self, keys: list[str], log: Path | None = None) -> None:
        """Bring files here in this order, and a log where it is there."""
        for key in keys:
            self.store.get(key, self.paths.root / key)
        if log is not None and self.store.exists(self._key(log)):
            self.store.get(self._key(log), log)

    def push_inputs(self, cfg: CFG) -> tuple[dict[str, str], dict[str, str]]:
        """Put what nodes need there, unless it is: tables, folds, pseudo-labels, a local model.

        Returns:
            Path below a node's project -> SHA-256, and `CFG.model` -> folder below it.
        """
        files = {self._key(path): path for path in self._inputs(cfg)}
        models: dict[str, str] = {}
        model = Path(cfg.model).expanduser()
        if cfg.kind == "transformer" and model.is_dir():
            models[cfg.model] = _model_folder(model.resolve())
            files |= {f"{models[cfg.model]}/{p.name}": p for p in model.iterdir() if p.is_file()}
        digests = {}
        with bar(f"to {self.store.url}", len(files)) as progress:
            for name, path in files.items():
                digests[name] = sha256_of(path)
                if not self.store.exists(f"files/{digests[name]}"):
                    self.store.put(path, f"files/{digests[name]}")
                progress.advance()
        return digests, models

    def _inputs(self, cfg: CFG) -> Iterator[Path]:
        yield from (p for p in sorted(self.paths.input.iterdir()) if p.is_file())
        yield from (p for p in sorted(self.paths.output.glob("folds*")) if p.is_file())
        if cfg.pseudo:
            folder = self.paths.pseudo(cfg.pseudo)
            if not (folder / PSEUDO_LABELS).is_file():
                raise OoflineError(f"{folder} does not exist: make pseudo COMP={self.paths.comp}")
            yield from (p for p in sorted(folder.iterdir()) if p.is_file())


def _model_folder(model: Path) -> str:
    """Where nodes have a model: two of one name, in different folders here, stay apart."""
    return f"models/{uuid.uuid5(uuid.NAMESPACE_URL, str(model)).hex[:8]}-{model.name}"


@contextlib.contextmanager
def _scratch(paths: Paths) -> Iterator[Paths]:
    """A project folder of the same competition that goes away again."""
    import tempfile

    with tempfile.TemporaryDirectory(prefix="oofline-") as folder:
        yield dataclasses.replace(paths, root=Path(folder))
