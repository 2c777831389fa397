"""Arms: named sets of settings, ready-made ones and those of the user's own file."""

import dataclasses
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import Any

from oofline.config import CFG, RUNTIME_FIELDS
from oofline.errors import ConfigError
from oofline.sources import check_value, nearest, read_toml

SAME_IN_ALL = RUNTIME_FIELDS | {
    "comp", "exp", "task", "metric", "id_col", "target_col", "group_col", "time_col", "encoding",
    "submission_asks", "n_folds", "fold_scheme", "fold_seed", "fold_bins", "near_duplicates",
    "pair_groups",
}  # fmt: skip
"""Settings that no arm may change: arms share rows, folds, metric and machine."""


@dataclass(frozen=True)
class Arm:
    """One arm.

    Attributes:
        name: as the user calls it.
        settings: what it changes.
        cfg: all its settings; its experiment is ``<ablation>-<name>``.
    """

    name: str
    settings: dict[str, Any]
    cfg: CFG

    @property
    def changes(self) -> str:
        """Its settings in one line."""
        return ", ".join(f"{key} = {value}" for key, value in self.settings.items())


def read_arms(path: Path) -> dict[str, dict[str, Any]]:
    """Arm -> its settings, from a file of tables ``[arms.<name>]``.

    Raises:
        ConfigError: not there, not of this form, or a setting that is unknown, of the wrong type
            or the same in all arms; names the file and the arm.
    """
    if not path.is_file():
        raise ConfigError(f"{path} does not exist: --file names a file with tables [arms.<name>]")
    content = read_toml(path)
    arms = content.get("arms", {})
    if set(content) - {"arms"} or not isinstance(arms, dict):
        raise ConfigError(f"{path}: it must hold tables [arms.<name>] and nothing else")
    return {name: _settings(f"{path}: arm {name}", table) for name, table in arms.items()}


def _settings(source: str, table: Any) -> dict[str, Any]:
    if not isinstance(table, dict):
        raise ConfigError(f"{source} must be a table of settings: [arms.<name>]")
    settings = {key: check_value(key, value, source) for key, value in table.items()}
    for key in settings:
        if key in SAME_IN_ALL:
            raise ConfigError(
                f"{source}: {key} must be the same in all arms: leave it out and give it to all, "
                f"as --{key.replace('_', '-')} or in cfg.toml"
            )
    return settings


def known_arms(file: str = "") -> dict[str, tuple[str, dict[str, Any]]]:
    """Arm -> (file, settings): the ready-made ones, replaced by the user's of the same name.

    Args:
        file: the user's own file; "" = none.
    """
    ready = resources.files("oofline.techniques") / "arms.toml"
    with resources.as_file(ready) as path:
        arms = {name: (str(path), settings) for name, settings in read_arms(path).items()}
    own = read_arms(Path(file)) if file else {}
    return arms | {name: (file, settings) for name, settings in own.items()}


def choose_arms(cfg: CFG, ablation: str, names: str, file: str = "", base: str = "") -> list[Arm]:
    """The arms asked for, the base first, the others in the order given.

    Args:
        cfg: settings that all start from.
        ablation: name of the ablation, the first part of the experiments' names.
        names: "base,awp,fgm".
        file: the user's own file of arms; "" = none.
        base: what the others are compared with; "" = the first of ``names``.

    Raises:
        ConfigError: an unknown arm (the nearest is named), a base that is not among the arms, or
            settings that contradict each other.
    """
    known = known_arms(file)
    chosen = list(dict.fromkeys(part.strip() for part in names.split(",") if part.strip()))
    there = ", ".join(known)
    if not chosen:
        raise ConfigError(f"which arms? give ARMS=base,awp (--arms base,awp) of: {there}")
    for name in chosen:
        if name not in known:
            hint = nearest(name, list(known)) or ":"
            raise ConfigError(f"unknown arm {name}{hint} there are {there}")
    base = base or chosen[0]
    if base not in chosen:
        raise ConfigError(f"base = {base} is not among the arms ({', '.join(chosen)}): add it")
    ordered = [base, *(name for name in chosen if name != base)]
    return [_arm(cfg, ablation, name, *known[name]) for name in ordered]


def _arm(cfg: CFG, ablation: str, name: str, source: str, settings: dict[str, Any]) -> Arm:
    try:
        made = dataclasses.replace(cfg, exp=f"{ablation}-{name}", **settings)
    except ConfigError as error:
        raise ConfigError(f"{source}: arm {name}: {error}") from None
    return Arm(name, settings, made)
