import numpy as np
import pytest

from oofline.baselines.inner import inner_split
from oofline.data.folds import Folds


def folds(fold, scheme="stratified", groups=None):
    n = len(fold)
    groups = np.arange(n) if groups is None else groups
    return Folds(np.arange(n).astype(str), np.asarray(fold), scheme, "", np.asarray(groups))


def test_inner_rows_are_a_share_of_the_training_rows_and_of_no_others():
    made = folds(np.arange(100) % 5)
    rows = made.train_rows(2)
    fit, inner = inner_split(made, rows, 0.25, 1)
    assert sorted([*fit, *inner]) == sorted(rows)
    assert len(inner) == 20
    assert not set(inner) & set(made.valid_rows(2))


def test_groups_stay_on_one_side():
    made = folds(np.zeros(60, dtype=int) + np.arange(60) % 2, groups=np.arange(60) // 6)
    fit, inner = inner_split(made, np.arange(60), 0.3, 4)
    assert not set(made.groups[fit]) & set(made.groups[inner])


def test_the_seed_decides():
    made = folds(np.arange(100) % 5)
    rows = made.train_rows(0)
    splits = [inner_split(made, rows, 0.2, seed)[1].tolist() for seed in (1, 1, 2)]
    assert splits[0] == splits[1] != splits[2]


def test_in_time_order_the_latest_block_chooses():
    made = folds(np.repeat([-1, 0, 1, 2], 10), scheme="time")
    fit, inner = inner_split(made, made.train_rows(2), 0.2, 1)
    assert inner.tolist() == list(range(20, 30))
    assert fit.tolist() == list(range(20))


@pytest.mark.parametrize("groups", [np.zeros(10, dtype=int), np.arange(10)])
def test_one_block_or_one_group_is_split_by_rows(groups):
    made = folds(np.full(10, -1), scheme="time", groups=groups)
    fit, inner = inner_split(made, np.arange(10), 0.2, 1)
    assert (len(fit), len(inner)) == (8, 2)
