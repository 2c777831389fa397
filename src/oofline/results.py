"""What flows between the layers: the task, and the predictions of a fold or an experiment."""

from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np
import pandas as pd

Kind = Literal["binary", "multiclass", "regression"]
Asks = Literal["label", "probability", "value"]


@dataclass(frozen=True)
class Task:
    """What is predicted, how it is scored, and what the submission asks for.

    Attributes:
        kind: "binary", "multiclass" or "regression".
        targets: target columns of train.csv (one for each of these kinds).
        labels: the original class labels as text, in class order (binary: negative, positive);
            empty for regression.
        outputs: names of the T prediction columns: the target for binary and regression, the
            labels for multiclass.
        metric: name of the metric in `oofline.scoring.metrics`.
        asks: what sample_submission wants: class labels, probabilities or values.
    """

    kind: Kind
    targets: tuple[str, ...]
    labels: tuple[str, ...]
    outputs: tuple[str, ...]
    metric: str
    asks: Asks

    @property
    def n_outputs(self) -> int:
        """T, the width of every prediction array."""
        return len(self.outputs)


@dataclass(frozen=True)
class FoldResult:
    """One trained fold: predictions joined by id, and its scores.

    Attributes:
        fold: fold index, from 0.
        seed: training seed.
        valid_ids: (n_v,) str, the fold's validation rows.
        valid_pred: (n_v, T) float64, under the configured checkpoint rule. Probabilities for
            classes, values in target units for regression.
        valid_last: (n_v, T) float64, the same by the last weights.
        valid_best: (n_v, T) float64, the same by the weights with the best validation score.
        test_ids: (n_test,) str.
        test_pred: (n_test, T) float64, under the configured checkpoint rule.
        scores: contents of scores.json.
        history: one dict per evaluation (step, epoch, train_loss, valid_loss, score, lr, ...).
    """

    fold: int
    seed: int
    valid_ids: np.ndarray
    valid_pred: np.ndarray
    valid_last: np.ndarray
    valid_best: np.ndarray
    test_ids: np.ndarray
    test_pred: np.ndarray
    scores: dict[str, Any] = field(default_factory=dict)
    history: list[dict[str, float]] = field(default_factory=list)


def prediction_frame(
    task: Task, ids: np.ndarray, seed: int, fold: int, **blocks: np.ndarray
) -> pd.DataFrame:
    """Lay predictions out as the parquet files hold them.

    Args:
        task: gives the output names.
        ids: (n,) str.
        seed: training seed, a column of the frame.
        fold: fold index, a column of the frame.
        **blocks: prefix -> (n, T) predictions; columns are named ``<prefix>_<output>``
            (``pred_target``, ``last_target``, ``best_target``).

    Returns:
        DataFrame with columns ``id, seed, fold, <prefix>_<output>...``, n rows.
    """
    columns: dict[str, Any] = {"id": ids.astype(str), "seed": seed, "fold": fold}
    for prefix, block in blocks.items():
        for index, name in enumerate(task.outputs):
            columns[f"{prefix}_{name}"] = block[:, index]
    return pd.DataFrame(columns)


def prediction_array(task: Task, frame: pd.DataFrame, prefix: str = "pred") -> np.ndarray:
    """The (n, T) float64 block with that prefix, in the frame's row order."""
    return frame[[f"{prefix}_{name}" for name in task.outputs]].to_numpy(dtype=np.float64)
