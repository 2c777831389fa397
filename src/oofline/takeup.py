"""Going on with an experiment that was begun in another folder, such as an earlier kernel's output.

What is copied is read-only at its source, and may be large: weights of finished folds, states of
unfinished ones. The file that makes a fold count (scores.json, or the resumable state) is written
last, so a copy that was cut short is made again by the same command.
"""

from pathlib import Path

from oofline.claim import check_settings
from oofline.config import CFG
from oofline.data.reading import find_table
from oofline.errors import ConfigError, DataError
from oofline.models.kept import kept_files
from oofline.progress import bar, say
from oofline.storage import Paths, copy_file, read_json, sha256_of

_FOLDS_FILES = ("folds_groups.csv", "folds.json", "folds.md", "folds.csv")
_MARKS = ("state.safetensors", "scores.json")
"""Files of a fold that say where it stands, to be copied last."""


def take_up(cfg: CFG, paths: Paths, state: str) -> int:
    """Copy what another project folder has of an experiment and this one has not.

    Args:
        cfg: of the experiment.
        paths: of the competition, here.
        state: a folder laid out as a project's root; "" or one that is not there = nothing.

    Returns:
        Number of fold folders copied.

    Raises:
        ConfigError: it was begun there with other settings.
        DataError: it was begun there with other folds or on other files than here.
    """
    theirs = Paths(paths.comp, Path(state))
    there = theirs.experiment(cfg.exp)
    if not state or not (there / "cfg.json").is_file():
        if state:
            say(f"no earlier state of {cfg.exp} in {theirs.output}: starting from the beginning")
        return 0
    _refuse_other(cfg, paths, theirs)
    copy_folds(theirs, paths)
    for name in ("inputs.json", "cfg.json"):
        if not (paths.experiment(cfg.exp) / name).exists():
            copy_file(there / name, paths.experiment(cfg.exp) / name)
    folders = [f for f in sorted(there.glob("seed*/fold*")) if _standing(f)]
    new = [f for f in folders if not _standing(paths.experiment(cfg.exp) / f.relative_to(there))]
    with bar(f"take up {cfg.exp}", len(new)) as progress:
        for folder in new:
            _copy_fold(folder, paths.experiment(cfg.exp) / folder.relative_to(there))
            progress.advance()
    done = sum("scores.json" in _standing(folder) for folder in new)
    say(f"took up {done} finished and {len(new) - done} unfinished folds of {cfg.exp} from {state}")
    return len(new)


def _standing(folder: Path) -> list[str]:
    """Which of the files that make a fold count are there."""
    return [name for name in _MARKS if (folder / name).is_file()]


def _refuse_other(cfg: CFG, paths: Paths, theirs: Paths) -> None:
    """Refuse a state of other settings, folds or files, before anything is copied."""
    try:
        check_settings(cfg, theirs)
    except ConfigError as error:
        raise ConfigError(f"--state {theirs.root}: {error}") from None
    refuse_other_folds(theirs, paths)
    stored = read_json(theirs.experiment(cfg.exp) / "inputs.json")
    mine = paths.experiment(cfg.exp) / "inputs.json"
    here = read_json(mine) if mine.is_file() else {
        f"{stem} file": sha256_of(find_table(paths.input, stem)) for stem in ("train", "test")
    }  # fmt: skip
    changed = [name for name, value in here.items() if stored.get(name) != value]
    if changed:
        raise DataError(
            f"--state {theirs.root}: {cfg.exp} was started there with another "
            f"{' and '.join(changed)}; to predict this test file with folds that are finished "
            "there: oofline predict --weights"
        )


def refuse_other_folds(theirs: Paths, paths: Paths) -> None:
    """Two project folders must not hold different folds of a competition (DataError)."""
    there = [each.folds for each in (theirs, paths) if each.folds.is_file()]
    if len({sha256_of(path) for path in there}) > 1:
        raise DataError(f"{there[0]} holds other folds than {there[1]}: move one away")


def copy_folds(theirs: Paths, paths: Paths) -> None:
    """Copy folds.csv and what stands beside it, which is written before it, unless it is there."""
    for name in _FOLDS_FILES:
        if (theirs.output / name).is_file() and not (paths.output / name).exists():
            copy_file(theirs.output / name, paths.output / name)


def _copy_fold(source: Path, target: Path) -> None:
    """Copy a fold's files, those that make it count last; locks and temporaries stay.

    The backbone below its adapters, if it has some, goes along unless it is there already.
    """
    for file in kept_files(source):
        kept = target.parents[2] / file.relative_to(source.parents[2])
        if not kept.is_file():
            copy_file(file, kept)
    files = [f for f in source.iterdir() if f.is_file() and not f.name.startswith(".")]
    for file in sorted(files, key=lambda file: file.name in _MARKS):
        copy_file(file, target / file.name)
