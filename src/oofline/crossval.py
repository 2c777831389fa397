"""Folds x seeds: which are left to do, and doing them one after the other."""

import dataclasses
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from oofline.claim import check_settings, claim_experiment, inputs_of
from oofline.config import CFG
from oofline.data.batches import padding_report
from oofline.data.competition import Competition, read_competition
from oofline.data.folds import ensure_folds
from oofline.data.tokens import Row, Tokens, cutting_of, tokenize
from oofline.errors import ConfigError, Stopped
from oofline.models.backbone import load_tokenizer
from oofline.models.losses import build_loss
from oofline.models.text_model import build_model
from oofline.progress import say
from oofline.scoring.metrics import get_metric
from oofline.storage import Paths
from oofline.techniques import build_techniques
from oofline.training.fold import train_fold
from oofline.training.fold_files import remove_working_files
from oofline.training.guard import Guard
from oofline.training.material import Material
from oofline.training.optim import parameter_groups
from oofline.training.precision import choose_precision
from oofline.training.pseudo import read_pseudo

Unit = tuple[int, int]
"""(seed, fold)."""


def parse_folds(text: str, n_folds: int) -> list[int]:
    """Fold indices from "all", "0", "0,2" or "1-3".

    Raises:
        ConfigError: not a fold list, or a fold that does not exist.
    """
    if text.strip() == "all":
        return list(range(n_folds))
    folds = sorted(set(_numbers(text, "FOLD", 'all, 0, "0,2" or 1-3')))
    if folds[-1] >= n_folds:
        raise ConfigError(f"FOLD={text}: there is no fold {folds[-1]}, they are 0-{n_folds - 1}")
    return folds


def parse_seeds(text: str) -> list[int]:
    """Seeds from "42" or "42,43", in the order given, each once."""
    return list(dict.fromkeys(_numbers(text, "SEED", '42 or "42,43"')))


def _numbers(text: str, name: str, forms: str) -> Iterator[int]:
    for part in text.split(","):
        low, dash, high = part.strip().partition("-")
        high = high if dash else low
        if not (low.isdecimal() and high.isdecimal()) or int(high) < int(low):
            raise ConfigError(f"{name}={text} is not a list: use {forms}")
        yield from range(int(low), int(high) + 1)


def prepare(cfg: CFG, paths: Paths) -> Material:
    """Read the competition, make sure of the folds, and tokenise train and test.

    A new experiment is checked as a whole before anything is written: the metric, the loss, the
    encoder and the optimizer's groups.
    """
    competition = read_competition(cfg, paths)
    for note in competition.notes:
        say(note)
    get_metric(competition.task.metric, competition.task.kind)
    tokenizer = load_tokenizer(cfg.model)
    if not (paths.experiment(cfg.exp) / "cfg.json").exists():
        check_parts(cfg, competition)
    pseudo = read_pseudo(cfg, paths, competition) if cfg.pseudo else None
    folds, created = ensure_folds(cfg, paths, competition)
    if created:
        for line in folds.summary:
            say(line)
        say(f"made {paths.folds}; {paths.folds.with_suffix('.md')} holds the leak audit")
    if pseudo:
        say(pseudo.description)
    train, test = tokenize_both(cfg, paths, competition, tokenizer, pseudo.rows if pseudo else [])
    say(f"train: {train.truncation_report()}")
    say(f"test: {test.truncation_report()}")
    say(padding_report(train.lengths, cfg.batch_size, max_len=cfg.max_len))
    return Material(paths, competition, folds, tokenizer, train, test, pseudo)


def tokenize_both(
    cfg: CFG, paths: Paths, competition: Competition, tokenizer: Any, further: list[Row]
) -> tuple[Tokens, Tokens]:
    """Token ids of the training and the test rows, pairs in both orders where that is asked.

    Rows to train on besides (``further``) stand behind the training rows.
    """
    train, test = [*competition.train_rows, *further], competition.test_rows
    return (
        tokenize(paths, train, tokenizer, cutting_of(cfg, trained_on=True), "train"),
        tokenize(paths, test, tokenizer, cutting_of(cfg), "test"),
    )


def check_parts(cfg: CFG, competition: Competition) -> None:
    """Build loss, encoder, techniques and the optimizer's groups once, to see that they fit.

    Raises:
        ConfigError: one of them refuses the settings.
    """
    build_loss(cfg, competition.task, competition.y)
    model = build_model(cfg, competition.task, competition.y)
    for technique in build_techniques(cfg, competition.task):
        technique.prepare(model)
    parameter_groups(cfg, model)


def is_done(folder: Path) -> bool:
    """Whether a fold is finished: scores.json is written last."""
    return (folder / "scores.json").exists()


def units_left(cfg: CFG, paths: Paths, folds: list[int], seeds: list[int]) -> list[Unit]:
    """The (seed, fold) that are not finished, seeds one after the other.

    Raises:
        ConfigError: the settings are not those of the experiment, or the device is absent.
    """
    check_settings(cfg, paths)
    choose_precision(cfg)
    units = [(seed, fold) for seed in seeds for fold in folds]
    todo = [u for u in units if not is_done(paths.fold(cfg.exp, *u))]
    for unit in set(units) - set(todo):
        remove_working_files(paths.fold(cfg.exp, *unit))
    if len(todo) < len(units):
        say(f"{len(units) - len(todo)} of {len(units)} folds are finished already")
    return todo


def begin(cfg: CFG, paths: Paths) -> Material:
    """Prepare what all units share, and store settings and inputs of the experiment.

    Raises:
        ConfigError, DataError: settings or inputs are wrong, or not those of the experiment.
    """
    material = prepare(cfg, paths)
    claim_experiment(cfg, paths, inputs_of(cfg, paths, material.competition))
    return material


def train_units(cfg: CFG, paths: Paths, folds: list[int], seeds: list[int]) -> int:
    """Train every (seed, fold) that is not finished, in this process.

    A unit that another process is training is passed over: two shells share the work.

    Returns:
        Number of units trained now.

    Raises:
        Stopped: time limit or interrupt, with a resumable state.
        ConfigError, DataError: settings or inputs are wrong, or not those of the experiment.
    """
    return train_here(cfg, paths, units_left(cfg, paths, folds, seeds))


def train_here(cfg: CFG, paths: Paths, todo: list[Unit]) -> int:
    """Train these units one after the other in this process (see `train_units`)."""
    if not todo:
        return 0
    material = begin(cfg, paths)
    guard = Guard(cfg.time_limit_hours)
    with guard.signals():
        done = sum(_train_unit(cfg, material, guard, *unit) for unit in todo)
    stop_if_interrupted(guard)
    return done


def stop_if_interrupted(guard: Guard) -> None:
    """Say of an interrupt that came too late to leave anything undone (Stopped)."""
    if guard.interrupted:
        raise Stopped("interrupted: every fold that was asked for is trained", guard.exit_code)


def unit_trainer(cfg: CFG, paths: Paths, device: str, guard: Guard) -> Callable[[Unit], bool]:
    """What trains units in a worker process, after `begin` was called in another.

    Args:
        cfg: settings of the experiment.
        paths: of the competition.
        device: the worker's own.
        guard: the worker's own.

    Returns:
        A function that trains one unit; it returns False where another process trains it.
    """
    cfg = dataclasses.replace(cfg, device=device)
    return trainer_of(cfg, prepare(cfg, paths), guard)


def trainer_of(cfg: CFG, material: Material, guard: Guard) -> Callable[[Unit], bool]:
    """A function that trains one unit; it returns False where it is done or another trains it."""
    return lambda unit: _train_unit(cfg, material, guard, *unit)


def _train_unit(cfg: CFG, material: Material, guard: Guard, seed: int, fold: int) -> bool:
    folder = material.paths.fold(cfg.exp, seed, fold)
    folder.mkdir(parents=True, exist_ok=True)
    if guard.must_stop(0.0):
        raise Stopped(
            f"{guard.reason}: seed {seed} fold {fold} and what follows is left; the same command "
            "goes on from there",
            guard.exit_code,
        )
    try:
        with FileLock(folder / ".lock", timeout=0):
            if is_done(folder):
                return False
            result = train_fold(cfg, material, seed, fold, guard)
    except Timeout:
        say(f"seed {seed} fold {fold}: another process is training it, passed over")
        return False
    scores = result.scores
    figures = {key: scores[key] for key in ("score", "score_best", "score_last")}
    shown = {k: "undefined" if v is None else f"{v:.5f}" for k, v in figures.items()}
    say(
        f"seed {seed} fold {fold}: {scores['metric']} {shown['score']} "
        f"(best {shown['score_best']}, last {shown['score_last']}), "
        f"{scores['minutes']:.1f} min, {scores['samples_per_s']:.0f} samples/s"
    )
    return True
