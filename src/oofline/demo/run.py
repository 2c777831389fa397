"""The demo, from nothing to a table that holds the OOF score against the truth."""

import time
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import numpy as np
import pandas as pd

from oofline import pipeline
from oofline.config import CFG
from oofline.crossval import parse_seeds
from oofline.data.competition import Competition, read_competition
from oofline.data.reading import read_table
from oofline.progress import say
from oofline.report.comparison import oof_vs_private
from oofline.report.terminal import print_frame
from oofline.scoring.intervals import bootstrap_ci
from oofline.scoring.metrics import score
from oofline.scoring.stored import load_stored
from oofline.storage import Paths, write_text


def run_demo(options: Any, paths: Paths) -> None:
    """Split, train, score, blend, submit, and look at the truth last.

    Folds, fold trainings and token caches that are there are not made again; scores, pictures and
    tables are.
    """
    started = time.monotonic()
    cfg: CFG = options.cfg
    seeds = parse_seeds(options.seed)
    pipeline.run_folds(SimpleNamespace(cfg=cfg), paths)
    pipeline.run_train(SimpleNamespace(cfg=cfg, fold="all", seed=options.seed, state=""), paths)
    name = cfg.exp
    if len(seeds) > 1:
        name = f"{cfg.exp}-blend"
        members = ",".join(f"{cfg.exp}@{seed}" for seed in seeds)
        pipeline.run_ensemble(
            SimpleNamespace(cfg=cfg, exps=members, name=name, method="auto"), paths
        )
    pipeline.run_submission(SimpleNamespace(cfg=replace(cfg, exp=name)), paths)
    names = [*(f"{cfg.exp}@{seed}" for seed in seeds), *dict.fromkeys((cfg.exp, name))]
    frame = private_table(cfg, paths, names)
    print_frame(frame, "demo: out-of-fold score beside the private score")
    write_text(paths.output / "private.csv", frame.to_csv(index=False))
    picture = oof_vs_private(frame, paths.output / "private.png", "rmse")
    say(f"demo done in {time.monotonic() - started:.0f} s; open {picture}")


def private_table(cfg: CFG, paths: Paths, names: list[str]) -> pd.DataFrame:
    """OOF and private score of each result, with 95 % bootstrap intervals."""
    competition = read_competition(cfg, paths)
    truth = read_table(paths.input / "private", "truth").set_index("id")
    y = truth.loc[competition.test_ids].to_numpy(dtype=np.float64)
    return pd.DataFrame([_private_row(cfg, paths, competition, name, y) for name in names])


def _private_row(
    cfg: CFG, paths: Paths, competition: Competition, name: str, truth: np.ndarray
) -> dict[str, Any]:
    task = competition.task
    stored = load_stored(paths, name, task, competition.train_ids)
    test = stored.test[pd.Index(stored.test_ids).get_indexer(competition.test_ids)]
    row: dict[str, Any] = {"experiment": name}
    for key, y, pred in (("oof", competition.y, stored.pred), ("private", truth, test)):
        row[key] = score(task, y, pred)
        row[f"{key}_lo"], row[f"{key}_hi"] = bootstrap_ci(
            lambda rows, y=y, pred=pred: score(task, y[rows], pred[rows]),  # type: ignore[misc]
            len(y),
            n_samples=cfg.bootstrap_samples,
        )
    return row
