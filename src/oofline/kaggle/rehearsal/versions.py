"""MODE=train: version after version of the kernel, each going on from the one before's output."""

import shutil
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

from oofline.kaggle.rehearsal import verdict
from oofline.kaggle.rehearsal.isolation import Finished
from oofline.progress import say
from oofline.storage import sha256_of

_STATE = "state.safetensors"


@dataclass(frozen=True)
class Standing:
    """How far a training is.

    Attributes:
        finished: finished fold -> SHA-256 of its validation predictions.
        begun: unfinished fold with a saved state -> SHA-256 of the state.
    """

    finished: dict[str, str]
    begun: dict[str, str]

    @property
    def told(self) -> str:
        """For the report."""
        return f"{len(self.finished)} folds finished, {len(self.begun)} begun and saved"


def standing(root: Path, comp: str, exp: str) -> Standing:
    """Read how far a training is from a folder laid out as a project's root."""
    finished, begun = {}, {}
    for folder in sorted((root / "output" / comp / exp).glob("seed*/fold*")):
        name = f"{folder.parent.name}/{folder.name}"
        if (folder / "scores.json").is_file():
            finished[name] = sha256_of(folder / "oof.parquet")
        elif (folder / _STATE).is_file():
            begun[name] = sha256_of(folder / _STATE)
    return Standing(finished, begun)


def problem_between(before: Standing, after: Standing) -> str:
    """What is wrong with a version that went on from another one's output; "" = nothing."""
    lost = [name for name, value in before.finished.items() if after.finished.get(name) != value]
    if lost:
        return f"state: {lost[0]} was finished in the version before, and is missing or another now"
    dropped = [name for name in before.begun if name not in {**after.finished, **after.begun}]
    if dropped:
        return f"state: {dropped[0]} was begun in the version before, and this one has dropped it"
    if before == after:
        return "state: this version came no further than the one before: give it more --minutes"
    return ""


def run_versions(
    run: Callable[[], Finished], working: Path, mount: Path, names: tuple[str, str], most: int
) -> tuple[Finished, list[str], str]:
    """Run the notebook until it leaves a submission, its output attached to its next version.

    Args:
        run: runs it once.
        working: its /kaggle/working.
        mount: where the output of an earlier version is attached.
        names: competition and experiment.
        most: how many versions at most.

    Returns:
        How the last one ended (time, memory and log of all of them), a line for each version, and
        what is wrong ("" = nothing; the cause of a failed run is left to `verdict.cause_of`).
    """
    found: Finished | None = None
    lines: list[str] = []
    before = Standing({}, {})
    for version in range(1, most + 1):
        found = _joined(found, run(), version)
        if verdict.cause_of(found):
            return found, lines, ""
        after = standing(working, *names)
        lines.append(f"version {version}: {after.told}, {found.seconds:.0f} s so far")
        say(lines[-1])
        problem = problem_between(before, after)
        if problem or (working / "submission.csv").exists() or version == most:
            return found, lines, problem
        shutil.rmtree(mount, ignore_errors=True)
        mount.parent.mkdir(parents=True, exist_ok=True)
        shutil.copytree(working, mount)
        for entry in working.iterdir():  # the folder itself stays: it is mounted
            shutil.rmtree(entry) if entry.is_dir() else entry.unlink()
        before = after
    raise AssertionError("at least one version runs")


def _joined(before: Finished | None, now: Finished, version: int) -> Finished:
    """Time and log of all versions so far, the rest of the last."""
    if before is None:
        return now
    return replace(
        now,
        seconds=before.seconds + now.seconds,
        peak_gb=max(before.peak_gb, now.peak_gb),
        log=f"{before.log}\n--- version {version} ---\n{now.log}",
    )
