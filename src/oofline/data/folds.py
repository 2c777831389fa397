"""folds.csv: made once, checked ever after, never silently remade."""

from dataclasses import replace
from typing import Any

import numpy as np
import pandas as pd

from oofline.config import CFG
from oofline.data.audit import audit_report
from oofline.data.competition import Competition
from oofline.data.duplicates import duplicate_groups
from oofline.data.pairs import with_shared_sentences
from oofline.data.reading import read_table
from oofline.data.splits import Folds, choose_scheme, make_folds
from oofline.errors import ConfigError, DataError
from oofline.storage import Paths, read_json, replacing, write_json, write_text

__all__ = ["Folds", "ensure_folds", "make_folds"]


def ensure_folds(cfg: CFG, paths: Paths, competition: Competition) -> tuple[Folds, bool]:
    """Read the competition's folds, or make them and write the leak audit beside them.

    Four files below ``paths.output``: ``folds_groups.csv`` (``id,group``), ``folds.json`` (how
    the folds were made), ``folds.md`` (the audit) and last ``folds.csv`` (``id,fold``), whose
    presence means that all are complete.

    Returns:
        The folds, and whether they were made just now.

    Raises:
        ConfigError: the fold settings differ from those the folds were made with.
        DataError: train.csv changed since, or a file was damaged.
    """
    if paths.folds.exists():
        return _read(cfg, paths, competition), False
    told_by = competition.train_keys
    if competition.answered:  # questions about one context, or nearly one, stay together
        told_by = [context for _, context in competition.train_pairs]
    duplicates = duplicate_groups(told_by, cfg.near_duplicates)
    if cfg.pair_groups and competition.train_pairs:
        duplicates = with_shared_sentences(competition.train_pairs, duplicates)
    folds = make_folds(cfg, competition, duplicates)
    report, summary = audit_report(competition, folds, duplicates)
    folds = replace(folds, summary=summary)
    _write(cfg, paths, competition, folds, report)
    return folds, True


def _write(cfg: CFG, paths: Paths, competition: Competition, folds: Folds, report: str) -> None:
    counts = {str(k): int((folds.fold == k).sum()) for k in np.unique(folds.fold)}
    groups = pd.DataFrame({"id": folds.ids, "group": folds.groups})
    with replacing(paths.output / "folds_groups.csv") as temporary:
        groups.to_csv(temporary, index=False)
    write_json(
        paths.folds.with_suffix(".json"),
        {
            "scheme": folds.scheme,
            "reason": folds.reason,
            "settings": _settings(cfg, competition, folds.scheme),
            "train_sha256": competition.train_sha256,
            "rows": len(folds.ids),
            "rows_per_fold": counts,
            "groups": int(folds.groups.max()) + 1,
            "text": competition.text_description,
            "summary": folds.summary,
        },
    )
    write_text(paths.folds.with_suffix(".md"), report)
    with replacing(paths.folds) as temporary:
        pd.DataFrame({"id": folds.ids, "fold": folds.fold}).to_csv(temporary, index=False)


def _settings(cfg: CFG, competition: Competition, scheme: str) -> dict[str, Any]:
    """The settings that shape these folds; what the scheme does not read may differ."""
    settings: dict[str, Any] = {
        "fold_scheme": scheme,
        "n_folds": cfg.n_folds,
        "near_duplicates": cfg.near_duplicates,
        "group_col": competition.group_col,
    }
    if cfg.pair_groups:
        settings["pair_groups"] = True
    if scheme == "time":
        return settings | {"time_col": cfg.time_col}
    settings["fold_seed"] = cfg.fold_seed
    binned = scheme in ("binned", "multilabel-stratified") and competition.task.truth == "values"
    return settings | ({"fold_bins": cfg.fold_bins} if binned else {})


def _read(cfg: CFG, paths: Paths, competition: Competition) -> Folds:
    made = read_json(paths.folds.with_suffix(".json"))
    if not isinstance(made, dict) or not {"scheme", "settings", "train_sha256"} <= set(made):
        raise DataError(
            f"{paths.folds.with_suffix('.json')} is not as it was written: {_remake(paths)}"
        )
    if made["train_sha256"] != competition.train_sha256:
        raise DataError(
            f"{paths.input}: the train file changed since {paths.folds} was made: restore it, "
            f"or {_remake(paths)}"
        )
    _check_settings(cfg, paths, competition, made["settings"])
    fold = _column(paths, "folds", "fold", competition)
    if (
        fold.min() < -1
        or fold.max() != cfg.n_folds - 1
        or len(np.unique(fold[fold >= 0])) != (cfg.n_folds)
    ):
        raise DataError(
            f"{paths.folds}: folds are not 0 to {cfg.n_folds - 1}, each with rows: {_remake(paths)}"
        )
    if made["scheme"] != "time" and fold.min() < 0:
        raise DataError(f"{paths.folds}: fold -1 is for scheme time only: {_remake(paths)}")
    groups = _column(paths, "folds_groups", "group", competition)
    summary = [str(line) for line in made.get("summary", [])]
    ids = competition.train_ids
    return Folds(ids, fold, made["scheme"], str(made.get("reason", "")), groups, summary)


def _remake(paths: Paths) -> str:
    return f"move {paths.folds} away to make new folds (what was trained on the old ones is void)"


def _check_settings(cfg: CFG, paths: Paths, competition: Competition, made: dict[str, Any]) -> None:
    now = _settings(cfg, competition, choose_scheme(cfg, competition)[0])
    different = [
        f"{name} was {made.get(name)!r}, is {now.get(name)!r}"
        for name in {**made, **now}
        if made.get(name) != now.get(name)
    ]
    if different:
        raise ConfigError(
            f"{paths.folds} was made with other settings ({'; '.join(different)}): set them "
            f"back, or {_remake(paths)}"
        )


def _column(paths: Paths, stem: str, name: str, competition: Competition) -> np.ndarray:
    """A whole-number column of a csv with an id column, in train order, (n,) int64."""
    table = read_table(paths.output, stem)
    path = paths.output / f"{stem}.csv"
    if list(table.columns) != ["id", name]:
        raise DataError(f"{path} needs the columns id,{name}: {_remake(paths)}")
    index = pd.Index(table["id"])
    rows = index.get_indexer(competition.train_ids) if index.is_unique else np.array([-1])
    if len(index) != len(rows) or rows.min() < 0:
        raise DataError(f"{path} does not hold the ids of train, each once: {_remake(paths)}")
    numbers = pd.to_numeric(table[name], errors="coerce").to_numpy(dtype=np.float64)
    if not (numbers == np.round(numbers)).all():
        raise DataError(f"{path}: column {name} holds more than whole numbers: {_remake(paths)}")
    return numbers[rows].astype(np.int64)
