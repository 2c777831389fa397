"""Every picture of an experiment, and its run in the tracker."""

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from oofline.blocks import average
from oofline.config import CFG
from oofline.data.competition import Competition
from oofline.errors import DataError
from oofline.report.answers import draw_answers
from oofline.report.calibration import calibration
from oofline.report.curves import learning_curves, lr_schedule
from oofline.report.importance import draw_baseline
from oofline.report.predictions import confusion, predicted_vs_true, score_by_length
from oofline.report.targets import target_scores, values_by_target
from oofline.report.worst import worst_rows, worst_table
from oofline.results import Task
from oofline.scoring.decisions import cross_fitted_decision
from oofline.scoring.metrics import hard_labels
from oofline.scoring.oof import Oof
from oofline.storage import Paths, read_json, write_text
from oofline.tracking import Tracker, oof_tracker
from oofline.training.optim import group_rates
from oofline.training.plan import make_plan, rate_factor

WORST = 20
"""Rows that are shown as the worst."""
_LAYER_COUNTS = ("num_hidden_groups", "num_hidden_layers", "n_layers")
_PLAIN_FIGURES = (
    "score", "score_last", "score_best", "optimism", "fold_std", "seed_std", "n_rows", "minutes",
    "samples_per_s", "threshold", "metric", "greater_is_better",
)  # fmt: skip


def report_experiment(
    cfg: CFG, paths: Paths, competition: Competition, oof: Oof, scores: dict[str, Any]
) -> Path:
    """Draw the pictures of an experiment and log them with its score and tables.

    Args:
        cfg: of the experiment.
        paths: of the competition.
        competition: its rows.
        oof: out-of-fold predictions.
        scores: contents of scores.json.

    Returns:
        The folder output/<comp>/<exp>/pictures/.
    """
    pictures = draw_experiment(cfg, paths, competition, oof, scores)
    folder = pictures[0].parent
    with oof_tracker(cfg, paths) as tracker:
        _track(tracker, scores, pictures, read_worst(folder))
    return folder


def draw_experiment(
    cfg: CFG, paths: Paths, competition: Competition, oof: Oof, scores: dict[str, Any]
) -> list[Path]:
    """Draw the pictures of an experiment; arguments as in `report_experiment`.

    Returns:
        learning_curves, lr_schedule (of a baseline: importance), confusion (classes, scales),
        calibration (classes, labels), predicted_vs_true (values, scales), target_scores (several
        targets), score_by_answer and score_by_question (answers), score_by_length and worst_rows,
        all .png; worst_rows.csv, with whole texts, is written beside them.
    """
    folder = paths.experiment(cfg.exp) / "pictures"
    pictures = draw_training(cfg, paths, competition, oof, scores, folder)
    return pictures + draw_predictions(cfg, paths, competition, oof, folder)


def draw_training(
    cfg: CFG, paths: Paths, competition: Competition, oof: Oof, scores: dict[str, Any], folder: Path
) -> list[Path]:
    """Learning curves of all folds and seeds, and the learning rates of the last fold.

    Of a baseline: what it looks at, and learning curves where it was boosted.
    """
    histories = read_histories(cfg, paths, oof)
    if cfg.kind != "transformer":
        return draw_baseline(cfg, paths, oof, scores, histories, folder)
    curves = learning_curves(
        folder / "learning_curves.png", histories, scores["metric"], scores["greater_is_better"]
    )
    seed, fold = oof.seeds[-1], oof.folds[-1]  # the last fold trains on all others in any scheme
    plan = make_plan(cfg, len(competition.train_ids) - int((oof.fold == fold).sum()))
    steps = np.arange(plan.total_steps)
    factors = np.array([rate_factor(cfg, plan, int(step)) for step in steps])
    peaks = peak_rates(cfg, paths.fold(cfg.exp, seed, fold))
    rates = {name: peak * factors for name, peak in peaks.items()}
    note = f"seed {seed} fold {fold}"
    path = folder / "lr_schedule.png"
    return [curves, lr_schedule(path, steps, rates, sorted(plan.eval_steps), note)]


def read_histories(cfg: CFG, paths: Paths, oof: Oof) -> list[pd.DataFrame]:
    """history.csv of every seed and fold."""
    return [
        read_history(paths.fold(cfg.exp, seed, fold), seed, fold)
        for seed in oof.seeds
        for fold in oof.folds
    ]


def draw_predictions(
    cfg: CFG, paths: Paths, competition: Competition, oof: Oof, folder: Path
) -> list[Path]:
    """Right and wrong, score by text length, and the worst rows; averaged over seeds."""
    task, y = competition.task, competition.y[oof.rows]
    pred = average(oof.blocks["pred"])
    texts = [competition.train_texts[row] for row in oof.rows]
    inputs = cross_fitted_decision(task, y, pred, oof.fold).inputs
    lengths = np.array([len(text) for text in texts])
    groups = _groups(competition, oof.rows)
    table = worst_table(task, oof.ids, oof.fold, texts, y, pred, WORST)
    write_text(folder / "worst_rows.csv", table.to_csv(index=False))
    title = f"{cfg.comp} {cfg.exp}: the {len(table)} rows predicted worst, out of fold"
    if task.truth == "answer":
        parts = draw_answers(folder, task, y, texts, inputs, groups, cfg.bootstrap_samples)
        return [*parts, worst_rows(folder / "worst_rows.png", table, title)]
    pictures = _right_and_wrong(folder, task, y, pred, inputs)
    if task.several:
        drawn = (read_histories(cfg, paths, oof), groups, cfg.bootstrap_samples)
        pictures.append(target_scores(folder / "target_scores.png", task, y, inputs, *drawn))
    return [
        *pictures,
        score_by_length(
            folder / "score_by_length.png", task, lengths, y, inputs, groups, cfg.bootstrap_samples
        ),
        worst_rows(folder / "worst_rows.png", table, title),
    ]


def _right_and_wrong(
    folder: Path, task: Task, y: np.ndarray, pred: np.ndarray, inputs: np.ndarray
) -> list[Path]:
    values = folder / "predicted_vs_true.png"
    probabilities = folder / "calibration.png"
    if task.kind == "multi-target":
        return [values_by_target(values, y, pred, task.targets)]
    if task.truth == "values":
        return [predicted_vs_true(values, y[:, 0], pred[:, 0], task.targets[0])]
    if task.truth == "labels":
        return [calibration(probabilities, task, y, pred)]
    labels = inputs if inputs.ndim == 1 else hard_labels(task.kind, pred)
    matrix = confusion(folder / "confusion.png", y, labels, list(task.labels))
    if task.kind == "ordinal":
        about = f"{task.targets[0]}, steps above {task.labels[0]}"
        return [matrix, predicted_vs_true(values, y.astype(np.float64), pred[:, 0], about)]
    return [matrix, calibration(probabilities, task, y, pred)]


def read_history(folder: Path, seed: int, fold: int) -> pd.DataFrame:
    """history.csv of a fold, with columns seed and fold added.

    Raises:
        DataError: it is missing or has no rows.
    """
    path = folder / "history.csv"
    if not path.exists():
        raise DataError(f"{path} does not exist: delete {folder} and train that fold again")
    frame = pd.read_csv(path)
    if frame.empty:
        raise DataError(f"{path} has no evaluations: delete {folder} and train that fold again")
    return frame.assign(seed=seed, fold=fold)


def read_worst(folder: Path) -> pd.DataFrame:
    """worst_rows.csv of a pictures folder, ids and texts as they are."""
    return pd.read_csv(folder / "worst_rows.csv", dtype={"id": str}, keep_default_na=False)


def peak_rates(cfg: CFG, folder: Path) -> dict[str, float]:
    """Peak learning rate of every layer, bottom to top, then the head; 0 = frozen.

    Args:
        cfg: of the experiment.
        folder: of a trained fold: its config.json knows the number of layers.

    Raises:
        DataError: it does not.
    """
    config = read_json(folder / "config.json")
    counts = [config.get(key) for key in _LAYER_COUNTS]
    n_layers = next((int(count) for count in counts if count), None)
    if n_layers is None:
        raise DataError(f"{folder / 'config.json'} does not say the number of layers: restore it")
    frozen = {"embeddings", *(f"layer.{i}" for i in range(1, cfg.freeze_layers + 1))}
    return {
        name.replace(".", " "): 0.0 if cfg.freeze_layers and name in frozen else rate
        for name, rate in group_rates(cfg, n_layers).items()
    }


def _groups(competition: Competition, rows: np.ndarray) -> np.ndarray | None:
    """(n,) number of each row's group, where there is a group column."""
    if not competition.group_col:
        return None
    return pd.factorize(competition.train[competition.group_col].iloc[rows])[0]


def _track(
    tracker: Tracker, scores: dict[str, Any], pictures: list[Path], worst: pd.DataFrame
) -> None:
    tracker.summary(summary_figures(scores))
    tracker.table("fold_scores", pd.DataFrame(scores["fold_scores"]))
    tracker.table("worst_rows", worst)
    for path in pictures:
        tracker.picture(f"pictures/{path.stem}", path)


def summary_figures(scores: dict[str, Any]) -> dict[str, Any]:
    """scores.json as flat figures for a table of runs; what is not there is left out."""
    lo, hi = scores["ci95"]
    figures = {key: scores.get(key) for key in _PLAIN_FIGURES}
    figures |= {"ci95_lo": lo, "ci95_hi": hi}
    figures |= {f"score/{name}": value for name, value in scores.get("target_scores", {}).items()}
    cuts = figures["threshold"]
    if isinstance(cuts, list):
        del figures["threshold"]
        figures |= {f"cut{i}": cut for i, cut in enumerate(cuts)}
    figures |= {f"score_seed{seed}": value for seed, value in scores["seed_scores"].items()}
    figures |= {"n_folds": len(scores["folds"]), "n_seeds": len(scores["seeds"])}
    return {key: value for key, value in figures.items() if value is not None}
