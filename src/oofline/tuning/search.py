"""One search: what is asked for, and how its experiments are scored."""

import dataclasses
from dataclasses import dataclass
from typing import Any

import numpy as np

from oofline.config import CFG
from oofline.crossval import Unit, parse_folds, parse_seeds
from oofline.data.competition import Competition
from oofline.data.folds import Folds
from oofline.errors import ConfigError
from oofline.progress import say
from oofline.scoring.oof import collect
from oofline.scoring.summary import write_oof
from oofline.storage import Paths
from oofline.tuning.pruning import Pruning
from oofline.tuning.space import Parameter, default_name, read_space, too_few
from oofline.tuning.study import Sampler, storage_url


@dataclass(frozen=True)
class Search:
    """One tuning; picklable.

    Attributes:
        name: its folder below output/<comp>/tuning, and the start of its experiments' names.
        cfg: settings that all trials start from.
        space: what is searched.
        units: (seed, fold) of every trial, in this order.
        n_trials: trials in all.
        sampler: what proposes values.
        pruning: what stops trials early.
        prune_p: level of the test over folds.
        sampler_seed: of the sampler.
        url: of the storage.
        keep_models: whether trials keep their weights.
    """

    name: str
    cfg: CFG
    space: tuple[Parameter, ...]
    units: tuple[Unit, ...]
    n_trials: int
    sampler: Sampler
    pruning: Pruning
    prune_p: float
    sampler_seed: int
    url: str
    keep_models: bool

    def exp(self, number: int) -> str:
        """Name of a trial's experiment."""
        return f"{self.name}-t{number:04d}"


def plan_search(options: Any, paths: Paths) -> Search:
    """The search that the options ask for.

    Raises:
        ConfigError: an option is out of range, or nothing is searched.
    """
    cfg: CFG = options.cfg
    for name, least in (("trials", 1), ("parallel", 1), ("confirm", 0)):
        if getattr(options, name) < least:
            raise ConfigError(f"{name} = {getattr(options, name)} must be at least {least}")
    if not 0 < options.prune_p <= 0.5:
        raise ConfigError(f"prune_p = {options.prune_p} must lie above 0 and be 0.5 at most")
    space = read_space(cfg, options.space, options.file)
    name = options.name or default_name(cfg.exp, space)
    dataclasses.replace(cfg, exp=f"{name}-t0000")  # refuses what is no name of a folder
    folds = parse_folds(options.fold, cfg.n_folds)
    units = tuple((seed, fold) for seed in parse_seeds(options.seed) for fold in folds)
    _check_storage(cfg, options.storage)
    if warning := too_few(space, options.trials):
        say(f"warning: {warning}")
    return Search(
        name, cfg, space, units, options.trials, options.sampler, options.prune, options.prune_p,
        options.sampler_seed, storage_url(paths, name, options.storage), options.keep_models,
    )  # fmt: skip


def _check_storage(cfg: CFG, url: str) -> None:
    """Refuse a file as the database of nodes that share no disk (ConfigError)."""
    if cfg.engine == "ray" and cfg.shared_storage and (not url or url.startswith("sqlite")):
        raise ConfigError(
            "with shared_storage the nodes need not share a disk, so a SQLite file is no database "
            "for them: give one that all of them reach, as in --storage postgresql://host/name"
        )


def check_apply(cfg: CFG, exp: str, paths: Paths) -> None:
    """Refuse to apply to what is no name, to an ensemble, or to a trained experiment (ConfigError).

    One that an earlier search applied its best to, and that was not trained yet, is replaced.
    """
    dataclasses.replace(cfg, exp=exp)
    if any(paths.experiment(exp).glob("seed*")):
        raise ConfigError(f"apply = {exp}: this experiment has trained folds: choose another name")
    if paths.ensemble(exp).exists():
        raise ConfigError(f"apply = {exp}: this is the name of an ensemble: choose another")


def further_settings(search: Search) -> tuple[CFG, ...]:
    """Settings of which each names a model or pseudo-labels that trials need."""
    return tuple(
        dataclasses.replace(search.cfg, **{parameter.name: value})
        for parameter in search.space
        if parameter.name in ("model", "pseudo")
        for value in parameter.values
    )


def trial_settings(search: Search, number: int, values: dict[str, Any], device: str) -> CFG:
    """All settings of a trial (ConfigError where its values contradict each other)."""
    try:
        return dataclasses.replace(search.cfg, exp=search.exp(number), device=device, **values)
    except ConfigError as error:
        raise ConfigError(f"these values do not go together: {error}") from None


def score_units(
    cfg: CFG, paths: Paths, competition: Competition, folds: Folds, search: Search,
    seeds: list[int] | None = None,
) -> dict[str, Any]:  # fmt: skip
    """Score an experiment on the folds of the search, as `oofline oof` does; writes its files.

    Args:
        cfg: of the experiment.
        paths: of the competition.
        competition: its rows.
        folds: which row validates where.
        search: gives folds and seeds.
        seeds: other seeds than those of the search; None = the search's.
    """
    known = [fold for _, fold in search.units]
    fold = np.where(np.isin(folds.fold, known), folds.fold, -1)
    seeds = seeds or list(dict.fromkeys(seed for seed, _ in search.units))
    task, groups = competition.task, folds.groups if competition.group_col else None
    oof = collect(
        paths, cfg.exp, task, competition.train_ids, fold, competition.test_ids, seeds
    )  # fmt: skip
    return write_oof(paths, task, oof, competition.y, groups, cfg.bootstrap_samples)
