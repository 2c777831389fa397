"""What flows between the layers: the task, and the predictions of a fold or an experiment."""

from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import pandas as pd

from oofline.blocks import Block, column_names, from_columns, to_columns
from oofline.tasks import KINDS, ORDINAL_LINKS, Asks, Kind, Link, OrdinalForm, Truth

__all__ = [
    "Answer", "Asks", "FoldResult", "Kind", "Task", "prediction_array", "prediction_columns",
    "prediction_frame",
]  # fmt: skip


@dataclass(frozen=True)
class Task:
    """What is predicted, how it is scored, and what the submission asks for.

    Attributes:
        kind: one of `oofline.tasks.KINDS`.
        targets: target columns of train.csv: T for multilabel and multi-target, else one.
        labels: the original labels as text, in class order (binary and multilabel: negative,
            positive; ordinal: from low to high); empty for values.
        outputs: names of the T prediction columns: the labels for multiclass, else the targets.
        metric: name of the metric in `oofline.scoring.metrics`.
        asks: what sample_submission wants: class labels, probabilities or values.
        ordinal: form of the head of an ordinal task. In every form its one prediction is the
            expected position on the scale, 0 for the lowest label: so the forms can be blended,
            and one set of cut points turns each into labels.
        longest: most characters of an answer (qa): those of the longest one in train.
    """

    kind: Kind
    targets: tuple[str, ...]
    labels: tuple[str, ...]
    outputs: tuple[str, ...]
    metric: str
    asks: Asks
    ordinal: OrdinalForm = "regression"
    longest: int = 0

    @property
    def truth(self) -> Truth:
        """What y is: "class", "labels", "values" or "answer"."""
        return KINDS[self.kind].truth

    @property
    def link(self) -> Link:
        """How logits become predictions."""
        return ORDINAL_LINKS[self.ordinal] if self.kind == "ordinal" else KINDS[self.kind].link

    @property
    def n_logits(self) -> int:
        """Width of the output layer."""
        ordinal = {"expected": len(self.labels), "corn": len(self.labels) - 1}
        return ordinal.get(self.link, self.n_outputs)

    @property
    def several(self) -> bool:
        """Whether each prediction column belongs to a target of its own."""
        return self.truth in ("labels", "values") and self.n_outputs > 1

    def one(self, target: int) -> "Task":
        """The same task for the target with this index alone (where there are several)."""
        name = (self.targets[target],)
        return replace(self, targets=name, outputs=name)

    @property
    def n_outputs(self) -> int:
        """T, the width of every prediction array."""
        return len(self.outputs)


@dataclass(frozen=True)
class Answer:
    """What y holds for a row of a qa task.

    Attributes:
        context: the text in which the answer is found.
        text: the answer, letter by letter as it stands there.
        start: position of its first character in ``context``, from 0.
    """

    context: str
    text: str
    start: int

    @property
    def end(self) -> int:
        """Position behind its last character."""
        return self.start + len(self.text)


@dataclass(frozen=True)
class FoldResult:
    """One trained fold: predictions joined by id, and its scores.

    Attributes:
        fold: fold index, from 0.
        seed: training seed.
        valid_ids: (n_v,) str, the fold's validation rows.
        valid_pred: `Block`, (n_v, T) float64 as a rule, under the configured checkpoint rule.
            Probabilities for classes, values in target units for regression.
        valid_last: `Block`, the same by the last weights.
        valid_best: `Block`, the same by the weights with the best validation score.
        test_ids: (n_test,) str.
        test_pred: `Block`, under the configured checkpoint rule.
        scores: contents of scores.json.
        history: one dict per evaluation (step, epoch, train_loss, valid_loss, score, lr, ...).
    """

    fold: int
    seed: int
    valid_ids: np.ndarray
    valid_pred: Block
    valid_last: Block
    valid_best: Block
    test_ids: np.ndarray
    test_pred: Block
    scores: dict[str, Any] = field(default_factory=dict)
    history: list[dict[str, float]] = field(default_factory=list)


def prediction_frame(
    task: Task, ids: np.ndarray, seed: int, fold: int, **blocks: Block
) -> pd.DataFrame:
    """Lay predictions out as the parquet files hold them.

    Args:
        task: gives the output names.
        ids: (n,) str.
        seed: training seed, a column of the frame.
        fold: fold index, a column of the frame.
        **blocks: prefix -> predictions; columns are named ``<prefix>_<output>``
            (``pred_target``, ``last_target``, ``best_target``), of answers ``pred_start`` and
            ``pred_end`` (lists of probabilities), each with ``_at`` (their characters).

    Returns:
        DataFrame with columns ``id, seed, fold, <prefix>_<output>...``, n rows.
    """
    columns: dict[str, Any] = {"id": ids.astype(str), "seed": seed, "fold": fold}
    for prefix, block in blocks.items():
        columns |= to_columns(prefix, task.outputs, block)
    return pd.DataFrame(columns)


def prediction_array(task: Task, frame: pd.DataFrame, prefix: str = "pred") -> Block:
    """The block with that prefix, (n, T) float64 as a rule, in the frame's row order."""
    return from_columns(prefix, task.outputs, frame)


def prediction_columns(task: Task, prefix: str = "pred") -> list[str]:
    """Names of the columns that hold the block with that prefix."""
    return column_names(prefix, task.outputs, task.truth == "answer")
