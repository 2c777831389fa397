"""An experiment belongs to its settings and its inputs: both are stored, and checked at each start.

``cfg.json`` holds the settings, ``inputs.json`` the SHA-256 of the training and test file, of
folds.csv and of the encoder. Without the second, a fold trained before the data or the folds
changed would be averaged with one trained after, or resumed on rows that it should validate.
"""

import dataclasses
from pathlib import Path
from typing import Any

from oofline.config import CFG, RUNTIME_FIELDS
from oofline.data.competition import Competition
from oofline.data.mecab import dictionary_version
from oofline.data.reading import find_table
from oofline.data.words import splitter_of
from oofline.errors import ConfigError, DataError
from oofline.models.hub import model_folder
from oofline.models.kept import model_digest
from oofline.storage import PSEUDO_LABELS, Paths, read_json, sha256_of, write_json


def check_settings(cfg: CFG, paths: Paths) -> bool:
    """Compare the settings with those that the experiment was started with.

    Returns:
        Whether the experiment exists.

    Raises:
        ConfigError: they differ (every difference is listed), or an ensemble has this name.
    """
    if (paths.ensemble(cfg.exp) / "scores.json").exists():
        raise ConfigError(f"exp = {cfg.exp!r} is the name of an ensemble: choose another")
    path = paths.experiment(cfg.exp) / "cfg.json"
    if not path.exists():
        return False
    mine = dataclasses.asdict(cfg)
    stored = dataclasses.asdict(CFG()) | read_json(path)  # a field that came later had its default
    names = [name for name in {**stored, **mine} if name not in RUNTIME_FIELDS]
    differing = [
        f"{name}: {stored.get(name, '(none)')!r} there, {mine.get(name, '(none)')!r} now"
        for name in names
        if stored.get(name) != mine.get(name)
    ]
    if differing:
        raise ConfigError(
            f"experiment {cfg.exp} was started with other settings ({'; '.join(differing)}): "
            f'choose another EXP, or go on with ARGS="--from {cfg.exp}"'
        )
    return True


def inputs_of(cfg: CFG, paths: Paths, competition: Competition) -> dict[str, str]:
    """SHA-256 of everything an experiment is trained on, by what it is called in messages.

    A baseline has no encoder; where MeCab finds its words, the dictionary's version stands there.
    """
    inputs = {
        "train file": competition.train_sha256,
        "test file": sha256_of(find_table(paths.input, "test")),
        "folds.csv": sha256_of(paths.folds),
    }
    if cfg.kind != "transformer":
        mecab = splitter_of(cfg, competition.train_texts) == "mecab"
        return inputs | {"dictionary": dictionary_version(cfg.word_dictionary) if mecab else ""}
    inputs["encoder"] = model_digest(model_folder(cfg.model))
    if cfg.pseudo:
        inputs["pseudo-labels"] = sha256_of(paths.pseudo(cfg.pseudo) / PSEUDO_LABELS)
    return inputs


def claim_experiment(cfg: CFG, paths: Paths, inputs: dict[str, str]) -> None:
    """Store settings and inputs in a new experiment, or check them against those there.

    Raises:
        ConfigError: the settings differ.
        DataError: the inputs differ.
    """
    folder = paths.experiment(cfg.exp)
    if check_settings(cfg, paths):
        check_inputs(folder, inputs)
    else:
        write_json(folder / "inputs.json", inputs)
    write_json(folder / "cfg.json", dataclasses.asdict(cfg))


def check_inputs(folder: Path, inputs: dict[str, str]) -> None:
    """Compare inputs (all, or some) with those an experiment was started with.

    Raises:
        DataError: one of them changed; says which.
    """
    stored: dict[str, Any] = read_json(folder / "inputs.json")
    changed = [name for name, value in inputs.items() if stored.get(name) != value]
    if changed:
        raise DataError(
            f"experiment {folder.name} was started with another {' and '.join(changed)}: restore "
            f"it, or choose another EXP (or delete {folder}; its folds do not fit any more)"
        )
