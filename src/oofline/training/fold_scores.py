"""The figures of a finished fold, as scores.json holds them."""

from typing import Any

import numpy as np

from oofline.blocks import Block
from oofline.config import CFG
from oofline.results import Task
from oofline.scoring.metrics import get_metric, score, score_targets
from oofline.training.fold_files import fold_interval
from oofline.training.state import Predictions, Progress


def fold_scores(
    cfg: CFG, task: Task, y: np.ndarray, valid: Block, predictions: Predictions, progress: Progress
) -> dict[str, Any]:
    """Scores under the checkpoint rule, of the last and of the best evaluation, and the cost.

    Args:
        cfg: reads bootstrap_samples.
        task: names the metric.
        y: targets of the n_v validation rows.
        valid: their predictions under the checkpoint rule.
        predictions: of the last and of the best evaluation.
        progress: at the end of training.
    """
    metric = get_metric(task.metric, task.kind)
    train_seconds = max(1e-9, progress.seconds - progress.eval_seconds)
    return {
        "metric": metric.name,
        "greater_is_better": metric.greater_is_better,
        "score": score(task, y, valid),
        "score_last": score(task, y, predictions.last),
        "score_best": score(task, y, predictions.best),
        "ci95": fold_interval(task, y, valid, cfg.bootstrap_samples),
        **({"target_scores": t} if (t := score_targets(task, y, valid)) else {}),
        "n_rows": len(y),
        "minutes": progress.seconds / 60,
        "samples_per_s": progress.rows_trained / train_seconds,
        "best_step": progress.best_step,
        "steps": progress.step,
        "micro_batch": progress.micro_batch,
    }
