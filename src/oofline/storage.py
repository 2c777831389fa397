"""Where files live, and how they are written so that a crash never leaves half of one."""

import contextlib
import errno
import hashlib
import json
import os
import shutil
import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from oofline.errors import DataError, OoflineError

PSEUDO_LABELS = "labels.parquet"
"""In a folder of pseudo-labels: ``id, fold, pred_<output>``."""


@dataclass(frozen=True)
class Paths:
    """All paths of one competition below a project root.

    Attributes:
        comp: folder name of the competition below ``input/`` and ``output/``.
        root: the project folder (default: the current one).
    """

    comp: str
    root: Path = Path()

    @property
    def input(self) -> Path:
        """Raw data, never written by the pipeline."""
        return self.root / "input" / self.comp

    @property
    def output(self) -> Path:
        """Everything made for this competition."""
        return self.root / "output" / self.comp

    @property
    def cache(self) -> Path:
        """Token caches, shared by all competitions."""
        return self.root / "output" / ".cache"

    @property
    def folds(self) -> Path:
        """``id,fold``; beside it ``folds.json`` (how it was made) and ``folds.md`` (leak audit)."""
        return self.output / "folds.csv"

    @property
    def submission(self) -> Path:
        """The validated file to upload."""
        return self.output / "submission.csv"

    def experiment(self, exp: str) -> Path:
        """Folder of one experiment."""
        return self.output / exp

    def ensemble(self, name: str) -> Path:
        """Folder of one ensemble."""
        return self.output / "ensembles" / name

    def pretrained(self, name: str) -> Path:
        """Folder of a model that was pretrained on the competition's texts."""
        return self.output / "pretrained" / name

    def tuning(self, name: str) -> Path:
        """Folder of one search for settings."""
        return self.output / "tuning" / name

    def pseudo(self, name: str) -> Path:
        """Folder of pseudo-labels."""
        return self.output / "pseudo" / name

    def fold(self, exp: str, seed: int, fold: int) -> Path:
        """Folder of one trained fold."""
        return self.experiment(exp) / f"seed{seed}" / f"fold{fold}"


_USERS_TO_FIX = (
    errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EACCES, errno.EPERM, errno.EFBIG,
    errno.ENOTDIR, errno.EEXIST, errno.ENAMETOOLONG,
)  # fmt: skip


@contextlib.contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Yield a temporary name beside ``path``; rename it over ``path`` when the block succeeds.

    The file is synced before the rename, so after a crash ``path`` holds the old content or the
    new, never a mixture; on any error the temporary file is removed.

    Raises:
        OoflineError: the disk is full or not writable (naming the path); what stood at ``path``
            before is unchanged.
    """
    temporary = path.with_name(f".{path.name}.{os.getpid()}.{uuid.uuid4().hex[:8]}.tmp")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        yield temporary
        with temporary.open("r+b") as handle:  # Windows syncs only what is open for writing
            os.fsync(handle.fileno())
        temporary.replace(path)
    except OSError as error:
        if error.errno in _USERS_TO_FIX:
            raise OoflineError(
                f"cannot write {path}: {error.strerror}; free space or fix the folder and "
                "run the same command again, nothing finished is lost"
            ) from error
        raise
    finally:
        with contextlib.suppress(OSError):
            temporary.unlink(missing_ok=True)


def copy_file(source: Path, target: Path) -> None:
    """Copy a file's contents in one step (see `replacing`); a read-only one becomes ordinary."""
    with replacing(target) as temporary:
        shutil.copyfile(source, temporary)


def remove_temporaries(folder: Path) -> None:
    """Delete what writers killed inside `replacing` left behind; call it holding the folder."""
    for leftover in folder.glob(".*.tmp"):
        leftover.unlink(missing_ok=True)


def write_text(path: Path, text: str) -> None:
    """Write UTF-8 ``text`` to ``path`` in one step (see `replacing`)."""
    with replacing(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


def write_json(path: Path, value: Any) -> None:
    """Write ``value`` as indented JSON in one step (see `replacing`)."""
    write_text(path, json.dumps(value, indent=2, ensure_ascii=False) + "\n")


def read_json(path: Path) -> Any:
    """Read a JSON file.

    Raises:
        DataError: the file is missing or is not JSON.
    """
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise DataError(f"{path} does not exist") from None
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise DataError(f"{path} is not valid JSON ({error}); delete it and run again") from None


def sha256_of(path: Path) -> str:
    """SHA-256 of a file's bytes, as 64 hex digits."""
    with path.open("rb") as handle:
        return hashlib.file_digest(handle, "sha256").hexdigest()
