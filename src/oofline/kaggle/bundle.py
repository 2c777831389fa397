"""What of a project goes into the weights dataset: the same tree, only what is needed."""

import shutil
from collections.abc import Iterator
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

from oofline.baselines.stored import FEATURES_FILE
from oofline.config import CFG
from oofline.data.competition import read_competition
from oofline.data.words import splitter_of
from oofline.errors import DataError
from oofline.models.hub import model_folder
from oofline.models.japanese import FORMER_DICTIONARY
from oofline.models.kept import kept_files
from oofline.scoring.stored import members_that_count, stored_folder
from oofline.storage import Paths, read_json

SETTINGS = "settings.toml"
"""MODE=train: the settings, which the notebook lays beside the competition's files as cfg.toml."""
_FOLD_SUFFIXES = (".json", ".txt", ".model", ".safetensors")
_NOT_OF_A_FOLD = ("wandb.json", "state.safetensors")


@dataclass(frozen=True)
class Unit:
    """One trained fold of one experiment.

    Attributes:
        exp: experiment.
        seed: training seed.
        fold: fold index.
        folder: its files in the project.
    """

    exp: str
    seed: int
    fold: int
    folder: Path


def units_of(paths: Paths, name: str) -> list[Unit]:
    """All finished folds behind an experiment or an ensemble, in order.

    Raises:
        DataError: there is none of that name, it is not scored, or folds are missing.
    """
    units: dict[tuple[str, int, int], Unit] = {}
    queue = [name]
    while queue:
        member, _, seed = queue.pop().partition("@")
        source = stored_folder(paths, member)
        if (source / "weights.json").exists():
            queue += members_that_count(read_json(source / "weights.json"))
            continue
        own = read_json(source / "scores.json")
        for each in [int(seed)] if seed else own["seeds"]:
            for fold in own["folds"]:
                folder = paths.fold(member, each, fold)
                if not (folder / "scores.json").exists():
                    raise DataError(f"{folder} is not finished: train that fold, then build again")
                units[member, each, fold] = Unit(member, each, fold, folder)
    return [units[key] for key in sorted(units)]


def trained_files(paths: Paths, name: str) -> Iterator[tuple[str, Path]]:
    """(path in the dataset, file) of all that predicting with an experiment or ensemble needs.

    Stored test predictions are left out: a kernel that copied them would prove nothing.
    """
    units = units_of(paths, name)
    folders = [*_ensembles(paths, name), *(paths.experiment(unit.exp) for unit in units)]
    for pattern in ("folds.csv", "folds.json", "folds_groups.csv"):
        yield from _below(paths, paths.output.glob(pattern))
    for folder in dict.fromkeys(folders):
        yield from _below(paths, (f for f in folder.glob("*.json") if f.name != "wandb.json"))
        yield from _below(paths, folder.glob("oof.parquet"))
    for unit in units:
        yield from _below(paths, filter(_is_needed, sorted(unit.folder.iterdir())))
    yield from _below(paths, {file for unit in units for file in kept_files(unit.folder)})


def _ensembles(paths: Paths, name: str) -> list[Path]:
    """Folders of the ensemble of that name and of those within it."""
    found, queue = [], [name]
    while queue:
        folder = stored_folder(paths, queue.pop().partition("@")[0])
        if (folder / "weights.json").exists():
            found.append(folder)
            queue += map(str, read_json(folder / "weights.json")["members"])
    return found


def _is_needed(path: Path) -> bool:
    known = path.suffix in _FOLD_SUFFIXES or path.name == "oof.parquet"
    hidden = path.name.startswith(".") or path.name.startswith(("best", "snapshot"))
    return path.is_file() and known and not hidden and path.name not in _NOT_OF_A_FOLD


def _below(paths: Paths, found: Any) -> Iterator[tuple[str, Path]]:
    for path in sorted(found):
        yield (Path("output") / paths.comp / path.relative_to(paths.output)).as_posix(), path


def training_files(cfg: CFG, paths: Paths) -> Iterator[tuple[str, Path]]:
    """(path in the dataset, file) of what MODE=train needs: folds, encoder, pseudo-labels."""
    for pattern in ("folds.csv", "folds.json", "folds_groups.csv"):
        yield from _below(paths, paths.output.glob(pattern))
    if cfg.kind != "transformer":
        return
    if cfg.pseudo:
        yield from _below(paths, paths.pseudo(cfg.pseudo).glob("*.*"))
    folder = model_folder(cfg.model)
    for path in sorted(folder.iterdir()):
        if path.is_file() and path.suffix in _FOLD_SUFFIXES and not path.name.startswith("."):
            yield f"models/{encoder_name(cfg)}/{path.name}", path


def encoder_name(cfg: CFG) -> str:
    """Folder name of the encoder in the dataset."""
    return cfg.model.rstrip("/").rpartition("/")[2]


def settings_toml(cfg: CFG) -> str:
    """Settings that are not the defaults, with the encoder where the notebook puts it."""
    default, lines = CFG(), []
    for field in fields(CFG):
        value = getattr(cfg, field.name)
        if field.name == "model" and cfg.kind == "transformer":
            value = f"input/models/{encoder_name(cfg)}"
        if field.name in ("comp", "exp", "device", "time_limit_hours") or value is None:
            continue
        if value != getattr(default, field.name):
            lines.append(f"{field.name} = {_toml(value)}")
    return "\n".join(lines) + "\n"


def _toml(value: Any) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, str):
        escaped = value.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")
        return f'"{escaped}"'
    return repr(value)


def mecab_dictionaries(files: list[tuple[str, Path]]) -> set[str]:
    """Dictionaries with which tokenizers and baselines among the files cut Japanese words."""
    found = [
        _DICTIONARY_OF[Path(target).name](source)
        for target, source in files
        if Path(target).name in _DICTIONARY_OF
    ]
    return {name.replace("_", "-") for name in found if name}


def dictionary_to_train_with(cfg: CFG, paths: Paths) -> set[str]:
    """The dictionary that a baseline will need, if any."""
    if cfg.kind == "transformer":
        return set()
    mecab = splitter_of(cfg, read_competition(cfg, paths).train_texts) == "mecab"
    return {cfg.word_dictionary} if mecab else set()


def _tokenizers_dictionary(source: Path) -> str:
    config = read_json(source)
    if "mecab" not in (config.get("word_tokenizer_type"), config.get("subword_tokenizer_type")):
        return ""
    return str((config.get("mecab_kwargs") or {}).get("mecab_dic") or FORMER_DICTIONARY)


def _baselines_dictionary(source: Path) -> str:
    return str(read_json(source)["recipe"]["dictionary"])


_DICTIONARY_OF = {
    "tokenizer_config.json": _tokenizers_dictionary, FEATURES_FILE: _baselines_dictionary,
}  # fmt: skip


def place(source: Path, target: Path) -> None:
    """Copy a file; where the file system can, both names share the bytes until one is rewritten."""
    target.parent.mkdir(parents=True, exist_ok=True)
    target.unlink(missing_ok=True)
    shutil.copyfile(source, target)
