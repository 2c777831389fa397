"""manifest.json: SHA-256 and size of every file, so that what was rehearsed is what was pushed."""

import subprocess
from pathlib import Path
from typing import Any

from oofline.errors import DataError
from oofline.storage import read_json, sha256_of

NAME = "manifest.json"
METADATA = ("dataset-metadata.json", "kernel-metadata.json")
"""For Kaggle's client alone: they name the account, are not mounted, and no manifest holds them."""
SOURCE_ROOT = Path(__file__).resolve().parents[3]
"""The checkout that this code runs from, where it does."""
RECORDS = (NAME, "rehearsal.json", "rehearsal.md", "pushed.json", "log.txt")
"""At the top of the folder: what is said about its files, not part of them."""


def hash_tree(folder: Path) -> dict[str, dict[str, Any]]:
    """Relative path -> {"sha256", "bytes"} of every file below a folder, in order.

    `RECORDS` at the top and `METADATA` anywhere are left out.
    """
    found = {}
    for path in sorted(folder.rglob("*")):
        name = path.relative_to(folder).as_posix()
        if path.is_file() and name not in RECORDS and path.name not in METADATA:
            found[name] = {"sha256": sha256_of(path), "bytes": path.stat().st_size}
    return found


def check_tree(folder: Path) -> dict[str, Any]:
    """Read a folder's manifest and compare every file with it.

    Returns:
        The manifest.

    Raises:
        DataError: there is no manifest, or files are missing, changed or not listed (the first
            ones are named).
    """
    manifest = read_json(folder / NAME)
    wanted, there = manifest["files"], hash_tree(folder)
    problems = [f"{name} is missing" for name in wanted if name not in there]
    problems += [
        f"{name} differs" for name in wanted if there.get(name, wanted[name]) != wanted[name]
    ]
    problems += [f"{name} is not listed" for name in there if name not in wanted]
    if problems:
        more = f" and {len(problems) - 3} more" if len(problems) > 3 else ""
        raise DataError(
            f"{folder} is not what its {NAME} says: {', '.join(problems[:3])}{more}; "
            "build and rehearse it again (make kernel kernel-rehearse)"
        )
    return manifest


def git_commit() -> str:
    """Commit of the code's checkout, with "+changes" where files differ; "" without git."""

    def git(*arguments: str) -> str:
        """Output of a git command in the checkout, "" where it fails."""
        try:
            done = subprocess.run(
                ["git", "-C", str(SOURCE_ROOT), *arguments],
                capture_output=True,
                text=True,
                check=False,
            )
        except OSError:
            return ""
        return done.stdout.strip() if done.returncode == 0 else ""

    commit = git("rev-parse", "HEAD") if (SOURCE_ROOT / "pyproject.toml").is_file() else ""
    return f"{commit}+changes" if commit and git("status", "--porcelain", "src") else commit
