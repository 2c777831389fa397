"""A node's own copy of what it needs from the shared storage, and what it brings back.

While a fold is trained, its saved states are pushed as they are written: hard links make an
unchanging copy at once (states are replaced, never changed in place), and a thread uploads it
while training goes on.
"""

import contextlib
import os
import shutil
import threading
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path

from filelock import FileLock, Timeout

from oofline.engines.store import Store
from oofline.engines.stored_fold import STATE, StoredFold, state_files
from oofline.errors import OoflineError
from oofline.models.kept import kept_files
from oofline.progress import say
from oofline.storage import Paths, copy_file, remove_temporaries, sha256_of
from oofline.tracking.tracker import RUNNING

POLL_SECONDS = 0.25
"""How often a new state is looked for."""


class Mirror:
    """Project folder of a node, for one set of inputs (a `Keeping` of folds).

    Args:
        store: the shared storage.
        comp: the competition.
        cache: of the node; holds files by content and a project folder beside them.
        files: path below the project -> SHA-256.
        weights: whether weights of finished folds are pushed.
        logs: key of the folder that logs are pushed to.
    """

    def __init__(
        self, store: Store, comp: str, cache: Path, files: dict[str, str], weights: bool, logs: str
    ) -> None:
        self.store, self.files, self.weights, self.logs = store, files, weights, logs
        self.cache = cache
        identity = repr((store.url, sorted(files.items())))
        self.paths = Paths(comp, cache / f"{comp}-{uuid.uuid5(uuid.NAMESPACE_URL, identity)}")
        self._log: Path | None = None
        self._touched: list[Path] = []

    def prepare(self) -> Paths:
        """Fetch what is not there yet; returns the paths of the competition on this node."""
        by_content = self.cache / "files"
        by_content.mkdir(parents=True, exist_ok=True)
        with FileLock(self.cache / ".lock"):
            for name, digest in self.files.items():
                blob, target = by_content / digest, self.paths.root / name
                if not blob.is_file():
                    self.store.get(f"files/{digest}", blob)
                    if sha256_of(blob) != digest:
                        blob.unlink()
                        raise OoflineError(
                            f"shared_storage {self.store.url}: files/{digest} is damaged: delete it"
                        )
                if not target.is_file():
                    target.parent.mkdir(parents=True, exist_ok=True)
                    _link(blob, target)
        return self.paths

    def _key(self, path: Path) -> str:
        return path.relative_to(self.paths.root).as_posix()

    @contextlib.contextmanager
    def keep(self, folder: Path) -> Iterator[None]:
        """Bring a fold's files here; push its states meanwhile, and the fold once it is done."""
        self._touched.append(folder)
        _empty(folder)
        fold = StoredFold(self.store, self._key(folder))
        if fold.is_done():
            fold.fetch(folder)
            yield
            return
        fold.fetch_state(folder)
        with _Pusher(fold, folder, self._put_log):
            yield
        if (folder / "scores.json").is_file():
            fold.put(folder, self._kept(folder), self.weights)

    def _kept(self, folder: Path) -> dict[str, Path]:
        """Files of the backbone below adapters: key -> file."""
        if not self.weights:
            return {}
        return {self._key(path): path for path in kept_files(folder)}

    def write_to(self, log: Path) -> None:
        """From now on the present unit's log is this one."""
        self._log = log

    def leave(self, done: bool) -> list[str]:
        """After a unit: push its log and its experiments' own files, and clear the folds here.

        Args:
            done: whether the unit is finished.

        Returns:
            Keys of all that is finished, in the order to be fetched.

        Raises:
            OoflineError: the storage cannot be written.
        """
        folders, self._touched = list(dict.fromkeys(self._touched)), []
        self._put_log()
        keys: list[str] = []
        if done:
            for folder in folders:
                fold = StoredFold(self.store, self._key(folder))
                found = fold.keys()
                keys += found
                if not found:
                    fold.forget_state()  # given up: a trial that was stopped early
            for experiment in dict.fromkeys(folder.parents[1] for folder in folders):
                keys += self._put_experiment(experiment)
            keys += self._put_runs()
        for folder in folders:
            with contextlib.suppress(Timeout), FileLock(folder / ".lock", timeout=0):
                _empty(folder)  # unless another process of this node trains there by now
        return keys

    def _put_log(self) -> None:
        if self._log is not None and self._log.is_file():
            self.store.put(self._log, f"{self.logs}/{self._log.name}")

    def _put_runs(self) -> list[str]:
        """Push runs that were tracked offline and have ended, for `oofline sync`."""
        folder = self.paths.output / "wandb"
        if not folder.is_dir():
            return []
        with FileLock(folder / ".lock"):  # other processes of this node leave their runs here too
            runs = [p for p in folder.glob("*run-*") if p.is_dir()]
            ended = [run for run in runs if not (run / RUNNING).exists()]
            files = [path for run in ended for path in sorted(run.rglob("*")) if path.is_file()]
            for path in files:
                self.store.put(path, self._key(path))
            for run in ended:
                shutil.rmtree(run, ignore_errors=True)
        return [self._key(path) for path in files]

    def _put_experiment(self, experiment: Path) -> list[str]:
        """Push what an experiment that was begun here (a trial's) has besides its folds."""
        if not (experiment / "inputs.json").is_file():
            return []
        files = [p for p in experiment.iterdir() if p.is_file() and not p.name.startswith(".")]
        files.sort(key=lambda path: (path.name in ("cfg.json", "scores.json"), path.name))
        for path in files:
            self.store.put(path, self._key(path))
        return [self._key(path) for path in files]


class _Pusher:
    """Pushes each new state of a fold from a thread; the last one before it ends.

    A push that fails is said and tried again with the next state: training goes on.
    """

    def __init__(self, fold: StoredFold, folder: Path, put_log: Callable[[], None]) -> None:
        self.fold, self.folder, self.put_log = fold, folder, put_log
        self._pushed = self._stamp()
        self._end = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)

    def __enter__(self) -> None:
        self._thread.start()

    def __exit__(self, *error: object) -> None:
        self._end.set()
        self._thread.join()

    def _stamp(self) -> tuple[int, int] | None:
        """Tells one state from the next; None = there is none."""
        try:
            stat = (self.folder / STATE).stat()
        except FileNotFoundError:
            return None
        return stat.st_ino, stat.st_mtime_ns

    def _run(self) -> None:
        while not self._end.wait(POLL_SECONDS):
            self._push()
        if not (self.folder / "scores.json").is_file():
            self._push()

    def _push(self) -> None:
        stamp = self._stamp()
        if stamp is None or stamp == self._pushed:
            return
        staging = self.folder / ".push"
        _empty(staging)
        try:
            files = self._staged(staging)
            if self._stamp() == stamp:  # else a newer one came meanwhile, which the next turn takes
                self.fold.put_state(files)
                self._pushed = stamp
                self.put_log()
        except FileNotFoundError:
            return  # a file of the former state went while it was linked
        except (OoflineError, OSError) as error:
            say(f"this state is not on the shared storage yet: {error}")
        finally:
            shutil.rmtree(staging, ignore_errors=True)

    def _staged(self, staging: Path) -> dict[str, Path]:
        """Hard links of the files that make a state."""
        staging.mkdir(parents=True, exist_ok=True)
        sources = state_files(self.folder)
        for source in sources:
            _link(source, staging / source.name)
        return {source.name: staging / source.name for source in sources}


def _link(source: Path, target: Path) -> None:
    """A hard link, or a copy where the file system has none."""
    try:
        os.link(source, target)
    except FileNotFoundError:
        raise
    except OSError:
        copy_file(source, target)


def _empty(folder: Path) -> None:
    """Delete a folder's files, its lock excepted."""
    if not folder.is_dir():
        return
    remove_temporaries(folder)
    for path in folder.iterdir():
        if path.is_dir():
            shutil.rmtree(path, ignore_errors=True)
        elif path.name != ".lock":
            path.unlink(missing_ok=True)
