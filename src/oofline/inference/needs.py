"""What stands behind a name: the experiments, seeds and folds that must predict for it."""

from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from oofline.config import CFG, RUNTIME_FIELDS
from oofline.errors import ConfigError, DataError
from oofline.scoring.stored import members_that_count, stored_folder
from oofline.sources import load_cfg
from oofline.storage import Paths, read_json

FREE = RUNTIME_FIELDS | {"comp", "exp", "precision"}
"""Settings that may differ from those of the training."""

Unit = tuple[str, int, int]
"""(experiment, seed, fold)."""


@dataclass
class Needs:
    """What a name needs to be predicted.

    Attributes:
        seeds: experiment -> the seeds that must predict, in the order of its scores.json.
        folds: experiment -> its folds.
        whole: experiments of which every scored seed is needed.
        ensembles: (folder's name, contents of its weights.json), inner ones first.
        extra: further models that predict without being averaged.
    """

    seeds: dict[str, list[int]] = field(default_factory=dict)
    folds: dict[str, list[int]] = field(default_factory=dict)
    whole: set[str] = field(default_factory=set)
    ensembles: dict[str, dict[str, Any]] = field(default_factory=dict)
    extra: list[Unit] = field(default_factory=list)

    @property
    def units(self) -> list[Unit]:
        """(experiment, seed, fold) of every model that must predict, each once."""
        averaged = [(e, s, k) for e in self.seeds for s in self.seeds[e] for k in self.folds[e]]
        return averaged + self.extra


def needs_of(stored: Paths, name: str) -> Needs:
    """Find out what an experiment or ensemble needs.

    Members of an ensemble that have weight 0 predict nothing; one that several ensembles or seeds
    share predicts once.

    Args:
        stored: where the models are.
        name: "awp", "blend"; members of an ensemble may be "awp@42" too.

    Raises:
        DataError: no such name (those there are listed), not scored, or files are missing.
    """
    needs = Needs()
    _add(needs, stored, name)
    return needs


def _add(needs: Needs, stored: Paths, spec: str) -> None:
    name, _, seed = spec.partition("@")
    folder = stored_folder(stored, name)
    scores = read_json(folder / "scores.json")
    if folder.parent == stored.ensemble("x").parent:
        _add_ensemble(needs, stored, folder)
        return
    scored = [int(s) for s in scores["seeds"]]
    wanted = [int(seed)] if seed else scored
    if not set(wanted) <= set(scored):
        raise DataError(f"{folder} has no seed {seed}; there: {', '.join(map(str, scored))}")
    chosen = {*needs.seeds.get(name, []), *wanted}
    needs.seeds[name] = [s for s in scored if s in chosen]
    needs.folds[name] = [int(k) for k in scores["folds"]]
    if chosen >= set(scored):
        needs.whole.add(name)


def _add_ensemble(needs: Needs, stored: Paths, folder: Path) -> None:
    blend = read_json(folder / "weights.json")
    for member in members_that_count(blend):
        _add(needs, stored, member)
    needs.ensembles[folder.name] = blend


def starting_settings(stored: Paths, name: str) -> CFG:
    """Settings of the first experiment behind a name, to be run on any device.

    Raises:
        ConfigError, DataError: see `needs_of`; or the stored settings are not valid.
    """
    return replace(load_cfg(stored, next(iter(needs_of(stored, name).seeds))), device="auto")


def settings_of(stored: Paths, needs: Needs, given: CFG) -> dict[str, CFG]:
    """The settings that each experiment was trained with, and how it is run now.

    Args:
        stored: where the models are.
        needs: names the experiments.
        given: what differs in it from `starting_settings` holds for all; see `FREE`.

    Raises:
        ConfigError: a setting is given that only training has, or stored ones are not valid.
        DataError: a cfg.json is missing.
    """
    cfgs = {exp: replace(load_cfg(stored, exp), exp=exp) for exp in needs.seeds}
    first = vars(next(iter(cfgs.values())))
    changes = {k: v for k, v in vars(given).items() if v != first[k]} | {"device": given.device}
    changed = sorted(set(changes) - FREE)
    if changed:
        raise ConfigError(
            f"predict takes its settings from those that {first['exp']} was trained with: leave "
            f"out {', '.join('--' + name.replace('_', '-') for name in changed)}"
        )
    changes.pop("exp", None)
    return {exp: replace(cfg, **changes) for exp, cfg in cfgs.items()}
