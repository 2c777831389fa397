"""One fold of a baseline from its columns to its files: the same files as any fold's."""

import time
from pathlib import Path
from typing import Any

import numpy as np

from oofline.baselines.fitting import (
    Baseline,
    Stage,
    fit_baseline,
    importance_frame,
    stages,
)
from oofline.baselines.problems import problems_of
from oofline.baselines.stored import save_baseline
from oofline.config import CFG
from oofline.errors import OoflineError, Stopped
from oofline.progress import say
from oofline.results import FoldResult
from oofline.scoring.metrics import get_metric, score, score_targets
from oofline.storage import remove_temporaries, write_text
from oofline.tracking import fold_tracker
from oofline.training.fold_files import fold_interval, write_results
from oofline.training.guard import Guard
from oofline.training.material import BaselineMaterial


def train_baseline_fold(
    cfg: CFG, material: BaselineMaterial, seed: int, fold: int, guard: Guard
) -> FoldResult:
    """Fit one fold and write its files; a killed fold starts again, with the same result.

    Raises:
        Stopped: time limit or interrupt; the fold starts again next time.
        OoflineError: predictions are not finite, or a file cannot be written.
    """
    folder = material.paths.fold(cfg.exp, seed, fold)
    remove_temporaries(folder)
    started = time.monotonic()

    def check() -> None:
        """Leave in time."""
        if guard.must_stop(0.0):
            raise Stopped(
                f"{guard.reason} in seed {seed} fold {fold}; the same command starts this fold "
                "again",
                guard.exit_code,
            )

    with fold_tracker(cfg, material.paths, seed, fold) as tracker:
        unit_seed = int(np.random.SeedSequence([seed, fold]).generate_state(1)[0] >> 1)
        baseline = fit_baseline(
            cfg, material.competition.task, material.source, material.competition.y,
            material.folds, fold, unit_seed, check,
        )  # fmt: skip
        result = _result(cfg, material, baseline, seed, fold, started)
        _write(material, folder, baseline, result)
        for row in result.history:
            figures = {k: v for k, v in row.items() if "loss" in k or "score" in k}
            tracker.log(figures, int(row["step"]))
        tracker.summary(result.scores)
    return result


def _write(
    material: BaselineMaterial, folder: Path, baseline: Baseline, result: FoldResult
) -> None:
    task = material.competition.task
    rows = material.folds.train_rows(result.fold)
    frame = importance_frame(baseline, task, material.source, rows)
    write_text(folder / "importance.csv", frame.to_csv(index=False))
    write_results(folder, task, result, save_baseline(baseline, folder))


def _result(
    cfg: CFG, material: BaselineMaterial, baseline: Baseline, seed: int, fold: int, started: float
) -> FoldResult:
    competition, folds, source = material.competition, material.folds, material.source
    rows, valid_rows = folds.train_rows(fold), folds.valid_rows(fold)
    problems = problems_of(competition.task, competition.y)
    curve = stages(baseline, problems, source, rows, valid_rows)
    valid = baseline.predict(baseline.features.transform(source, valid_rows))
    test_rows = np.arange(source.n_train, source.n_train + len(competition.test_ids))
    test = baseline.predict(baseline.features.transform(source, test_rows))
    if not (np.isfinite(valid).all() and np.isfinite(test).all()):
        raise OoflineError(f"seed {seed} fold {fold}: predictions are not finite; lower lgbm_lr")
    y, seconds = competition.y[valid_rows], time.monotonic() - started
    chosen = ", ".join(f"{choice:g}" for choice in baseline.choices)
    what = "rounds" if cfg.kind == "lightgbm" else "penalty"
    say(f"seed {seed} fold {fold}: {len(baseline.features.names)} columns; {what} {chosen}")
    speed = len(rows) / max(1e-9, seconds)
    history = [_row(competition.task, stage, y, speed) for stage in curve]
    scores = _scores(cfg, material, y, valid, seed, fold) | {
        "minutes": seconds / 60, "samples_per_s": speed, "columns": len(baseline.features.names),
        f"chosen_{what}": list(baseline.choices), "steps": curve[-1].rounds,
    }  # fmt: skip
    return FoldResult(
        fold, seed, folds.ids[valid_rows], valid, valid, valid, competition.test_ids, test, scores,
        history,
    )  # fmt: skip


def _row(task: Any, stage: Stage, y: np.ndarray, speed: float) -> dict[str, float]:
    return {
        "step": float(stage.rounds), "train_loss": stage.train_loss,
        "valid_loss": stage.valid_loss, "score": score(task, y, stage.valid),
        "samples_per_s": speed, "epoch": float(stage.rounds),
        **{f"score/{name}": v for name, v in score_targets(task, y, stage.valid).items()},
    }  # fmt: skip


def _scores(
    cfg: CFG, material: BaselineMaterial, y: np.ndarray, valid: np.ndarray, seed: int, fold: int
) -> dict[str, Any]:
    """There is one state of the model: best and last are what was fitted."""
    task = material.competition.task
    metric, value = get_metric(task.metric, task.kind), score(task, y, valid)
    return {
        "metric": metric.name,
        "greater_is_better": metric.greater_is_better,
        "score": value,
        "score_last": value,
        "score_best": value,
        "ci95": fold_interval(task, y, valid, cfg.bootstrap_samples),
        **({"target_scores": t} if (t := score_targets(task, y, valid)) else {}),
        "n_rows": len(y),
        "folds": [fold],
        "seeds": [seed],
        "kind": cfg.kind,
    }
