"""``oofline pseudo``: soft labels for unlabelled rows, fold by fold, with their provenance."""

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from oofline.claim import check_inputs
from oofline.config import CFG
from oofline.conflicts import check_name
from oofline.data.competition import Competition, read_competition
from oofline.data.encoding import Row
from oofline.data.folds import Folds, ensure_folds
from oofline.data.tokens import cutting_of, tokenize
from oofline.data.unlabelled import TEST, unlabelled_path, unlabelled_rows
from oofline.errors import ConfigError, DataError
from oofline.inference.files import check_files, check_outputs
from oofline.inference.fold import usable_precision
from oofline.models.backbone import load_tokenizer
from oofline.models.text_model import WEIGHTS_FILE, load_model
from oofline.progress import bar, say
from oofline.results import Task, prediction_array, prediction_frame
from oofline.scoring.oof import complete_seeds, join, read_parquet
from oofline.scoring.summary import write_frame
from oofline.sources import load_cfg
from oofline.storage import PSEUDO_LABELS, Paths, sha256_of, write_json
from oofline.training.predict import predict
from oofline.training.pseudo import PROVENANCE, confident, refuse_other_links

Unit = tuple[str, int, int]
"""(experiment, seed, fold)."""
SURE = 0.9
"""Confidence that the last line counts rows by."""


def run_pseudo(options: Any, paths: Paths) -> None:
    """``oofline pseudo``: writes output/<comp>/pseudo/<name>.

    Raises:
        ConfigError: no teacher is named, or it is an ensemble, or a baseline that should label
            another file than test.
        DataError: a teacher is not there, not complete, or was trained on other folds or files.
    """
    cfg, file = options.cfg, options.file
    teachers = [part.strip() for part in options.teacher.split(",") if part.strip()]
    if not teachers:
        raise ConfigError("which teacher? add --teacher EXP (make: TEACHER=EXP)")
    name = options.name or "+".join(teachers)
    check_name("NAME", name)
    if not paths.folds.exists():
        raise DataError(f"{paths.folds} does not exist: make folds COMP={paths.comp}")
    competition = read_competition(cfg, paths)
    refuse_other_links(competition.task)
    folds, _ = ensure_folds(cfg, paths, competition)
    source = unlabelled_path(paths, file)
    hashes = {"train file": competition.train_sha256, "folds.csv": sha256_of(paths.folds)}
    units = [u for exp in teachers for u in _units(paths, exp, folds, hashes, source, file)]
    ids, rows = unlabelled_rows(cfg, paths, competition, file)
    by_fold: dict[int, np.ndarray] = {}
    with bar(f"pseudo-labels {name}", len(units)) as progress:
        for fold in sorted({fold for *_, fold in units}):
            mine = [unit for unit in units if unit[2] == fold]
            found = []
            for unit in mine:
                found.append(_teach(cfg, paths, competition, unit, ids, rows, file))
                progress.advance()
            by_fold[fold] = np.mean(found, axis=0)
    folder, task = paths.pseudo(name), competition.task
    (folder / PROVENANCE).unlink(missing_ok=True)
    frames = [prediction_frame(task, ids, -1, fold, pred=p) for fold, p in by_fold.items()]
    write_frame(folder / PSEUDO_LABELS, frames)
    write_json(folder / PROVENANCE, hashes | {
        "labels": sha256_of(folder / PSEUDO_LABELS), "unlabelled rows": sha256_of(source),
        "file": file, "outputs": list(task.outputs), "teachers": _entries(paths, units),
    })  # fmt: skip
    _say_result(cfg, task, name, by_fold, folder)


def _units(
    paths: Paths, exp: str, folds: Folds, hashes: dict[str, str], source: Path, file: str
) -> list[Unit]:
    """The finished folds of a teacher, of its complete seeds.

    Raises:
        ConfigError: it is an ensemble, or a baseline that should label another file.
        DataError: it is not there, not complete, or was trained on other files.
    """
    folder = paths.experiment(exp)
    if not (folder / "cfg.json").is_file():
        if (paths.ensemble(exp) / "scores.json").is_file():
            raise ConfigError(
                f"teacher {exp} is an ensemble, whose test predictions mix all folds: name its "
                'members instead, as in TEACHER="base,awp"'
            )
        there = ", ".join(sorted(p.parent.name for p in paths.output.glob("*/cfg.json")))
        raise DataError(f"there is no experiment {exp} in {paths.output} (there: {there or '-'})")
    check_inputs(folder, hashes | ({"test file": sha256_of(source)} if file == TEST else {}))
    seeds, missing = complete_seeds(paths, exp, folds.fold)
    if not seeds:
        seed, left = next(iter(missing.items()))
        raise DataError(
            f"teacher {exp} is not complete: folds {', '.join(map(str, left))} of seed {seed} are "
            f"missing; make train COMP={paths.comp} EXP={exp}"
        )
    cfg = load_cfg(paths, exp)
    if cfg.kind != "transformer" and file != TEST:
        raise ConfigError(
            f"teacher {exp} is a baseline ({cfg.kind}), which has labels for the test rows alone: "
            "leave out --file"
        )
    if cfg.kind == "transformer" and (cfg.checkpoint == "best" or cfg.patience):
        say(
            f'warning: {exp} chose its weights by the validation rows (checkpoint = "best" or '
            "patience), so its labels know a little of them"
        )
    numbers = sorted(int(fold) for fold in np.unique(folds.fold[folds.fold >= 0]))
    return [(exp, seed, fold) for seed in seeds for fold in numbers]


def _entries(paths: Paths, units: list[Unit]) -> dict[str, list[dict[str, Any]]]:
    """Fold -> its teachers."""
    entries: dict[str, list[dict[str, Any]]] = {}
    for exp, seed, fold in units:
        entries.setdefault(str(fold), []).append({
            "exp": exp, "seed": seed, "fold": fold,
            "sha256": sha256_of(paths.fold(exp, seed, fold) / "scores.json"),
        })  # fmt: skip
    return entries


def _teach(
    cfg: CFG, paths: Paths, competition: Competition, unit: Unit, ids: np.ndarray,
    rows: list[Any], file: str,
) -> np.ndarray:  # fmt: skip
    """(m, T) predictions of one teacher: those stored for the test rows, or made now."""
    folder, task = paths.fold(*unit), competition.task
    if file == TEST:
        frame = read_parquet(folder / "test.parquet")
        check_outputs(folder, task)
        order = join(folder / "test.parquet", frame["id"], pd.Index(ids))
        return prediction_array(task, frame)[order]
    return _predict(cfg, paths, unit, task, rows)


def _predict(cfg: CFG, paths: Paths, unit: Unit, task: Task, rows: list[Row]) -> np.ndarray:
    """(m, T) predictions by a stored model for rows that it has never predicted."""
    folder = paths.fold(*unit)
    if not (folder / WEIGHTS_FILE).is_file():
        raise DataError(f"{folder} holds no model that could read new rows: leave out --file")
    check_files(folder)
    own = load_cfg(paths, unit[0])
    precision = usable_precision(own)
    model = load_model(own, task, folder).to(precision.device)
    tokens = tokenize(
        paths, rows, load_tokenizer(str(folder)), cutting_of(own), "unlabelled rows"
    )  # fmt: skip
    return predict(
        model, tokens, np.arange(tokens.n_rows), precision, cfg.eval_batch_size,
        orders=tokens.orders,
    ).pred  # fmt: skip


def _say_result(
    cfg: CFG, task: Task, name: str, by_fold: dict[int, np.ndarray], folder: Path
) -> None:
    """One line: how many labels, how sure they are, and how to use them."""
    n_rows, sure = len(next(iter(by_fold.values()))), ""
    if task.link in ("sigmoid", "softmax"):
        limit = CFG(pseudo=name, pseudo_threshold=SURE)
        share = np.mean([len(confident(limit, task, p)) / n_rows for p in by_fold.values()])
        sure = f", {share:.0%} of them at least {SURE:.0%} sure"
    say(
        f"pseudo-labels {name}: {n_rows} rows for each of {len(by_fold)} folds{sure}; open "
        f"{folder / PROVENANCE}, train a student with --pseudo {name}"
    )
