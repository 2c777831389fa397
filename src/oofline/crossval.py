"""Folds x seeds: which are left to do, and doing them one after the other."""

import dataclasses
from collections.abc import Iterator
from pathlib import Path

from filelock import FileLock, Timeout

from oofline.config import CFG, RUNTIME_FIELDS
from oofline.data.batches import padding_report
from oofline.data.competition import read_competition
from oofline.data.folds import ensure_folds
from oofline.data.tokens import tokenize
from oofline.errors import ConfigError, Stopped
from oofline.models.backbone import load_tokenizer
from oofline.progress import say
from oofline.storage import Paths, read_json, write_json
from oofline.training.fold import Material, train_fold
from oofline.training.guard import Guard
from oofline.training.precision import choose_precision


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


def claim_experiment(cfg: CFG, paths: Paths) -> None:
    """Store cfg.json in a new experiment, or check it against the one that is there.

    Raises:
        ConfigError: the experiment was started with other settings; the message lists them.
    """
    path = paths.experiment(cfg.exp) / "cfg.json"
    mine = dataclasses.asdict(cfg)
    if not path.exists():
        write_json(path, mine)
        return
    stored = read_json(path)
    names = [n for n in {**stored, **mine} if n not in RUNTIME_FIELDS]
    differing = [
        f"{n}: {stored.get(n, '(none)')!r} there, {mine.get(n, '(none)')!r} now"
        for n in names
        if stored.get(n) != mine.get(n)
    ]
    if differing:
        raise ConfigError(
            f"experiment {cfg.exp} was started with other settings ({'; '.join(differing)}): "
            f"choose another EXP, or delete {path.parent}"
        )
    write_json(path, mine)


def prepare(cfg: CFG, paths: Paths) -> Material:
    """Read the competition, make sure of the folds, and tokenise train and test."""
    competition = read_competition(cfg, paths)
    folds, _ = ensure_folds(cfg, paths, competition)
    tokenizer = load_tokenizer(cfg.model)
    train, test = (
        tokenize(paths, texts, tokenizer, cfg.max_len, cfg.truncation, name)
        for name, texts in (("train", competition.train_texts), ("test", competition.test_texts))
    )
    say(f"train: {train.truncation_report()}")
    say(f"test: {test.truncation_report()}")
    say(padding_report(train.lengths, cfg.batch_size))
    return Material(paths, competition, folds, tokenizer, train, test)


def is_done(folder: Path) -> bool:
    """Whether a fold is finished: scores.json is written last."""
    return (folder / "scores.json").exists()


def train_units(cfg: CFG, paths: Paths, folds: list[int], seeds: list[int]) -> int:
    """Train every (seed, fold) that is not finished.

    A unit that another process is training is passed over: two shells share the work.

    Returns:
        Number of units trained now.

    Raises:
        Stopped: time limit or interrupt, with a resumable state.
    """
    choose_precision(cfg)  # a device that is not there is refused before anything is written
    units = [(seed, fold) for seed in seeds for fold in folds]
    todo = [u for u in units if not is_done(paths.fold(cfg.exp, *u))]
    if skipped := len(units) - len(todo):
        say(f"{skipped} of {len(units)} folds are finished already")
    if not todo:
        claim_experiment(cfg, paths)
        return 0
    material = prepare(cfg, paths)
    claim_experiment(cfg, paths)
    guard = Guard(cfg.time_limit_hours)
    with guard.signals():
        return sum(_train_unit(cfg, material, guard, seed, fold) for seed, fold in todo)


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
    say(
        f"seed {seed} fold {fold}: {scores['metric']} {scores['score']:.5f} "
        f"(best {scores['score_best']:.5f}, last {scores['score_last']:.5f}), "
        f"{scores['minutes']:.1f} min, {scores['samples_per_s']:.0f} samples/s"
    )
    return True
