"""Inner rows: a part of a fold's training rows that chooses rounds and penalties."""

import numpy as np
from sklearn.model_selection import GroupShuffleSplit

from oofline.data.folds import Folds


def inner_split(
    folds: Folds, rows: np.ndarray, share: float, seed: int
) -> tuple[np.ndarray, np.ndarray]:
    """Split a fold's training rows into rows to fit on and rows to choose by.

    Duplicates and groups stay on one side, as between folds. In scheme "time" the latest block
    chooses, as the validation rows come later too.

    Args:
        folds: of the competition.
        rows: (r,) int64 training rows of a fold.
        share: of them to choose by.
        seed: of the draw.

    Returns:
        (fit rows, inner rows), int64, none of them empty where r >= 2.
    """
    blocks = np.unique(folds.fold[rows])
    if folds.scheme == "time" and len(blocks) > 1:
        late = folds.fold[rows] == blocks[-1]
        return rows[~late], rows[late]
    groups = folds.groups[rows]
    if len(np.unique(groups)) < 2:
        groups = np.arange(len(rows))
    split = GroupShuffleSplit(1, test_size=share, random_state=seed)
    fit, inner = next(split.split(rows, groups=groups))
    return rows[np.sort(fit)], rows[np.sort(inner)]
