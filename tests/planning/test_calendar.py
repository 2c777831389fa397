"""What a fold consists of, and what its parts cost together."""

import dataclasses
import math

import numpy as np
import pytest

from oofline.config import CFG
from oofline.planning.calendar import (
    Fold,
    Rates,
    Stretch,
    fold_of,
    fold_seconds,
    other_seconds,
    predict_tokens,
    stretches,
    train_seconds,
)
from oofline.results import Task

BINARY = Task("binary", ("target",), ("0", "1"), ("target",), "f1", "label")
VALUES = Task("regression", ("target",), (), ("target",), "rmse", "value")
RATES = Rates((0.01,), 1000.0, build_s=3.0, interval_s=0.5, save_s=2.0, write_s=1.0)


@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        ({}, [("", 0, 4)]),
        ({"awp_last_epochs": 1}, [("", 0, 3), ("awp", 3, 1)]),
        ({"awp_last_epochs": 4}, [("awp", 0, 4)]),
        ({"fgm_eps": 1.0}, [("fgm", 0, 4)]),
        ({"fgm_eps": 1.0, "fgm_last_epochs": 3}, [("", 0, 1), ("fgm", 1, 3)]),
    ],
)
def test_epochs_are_grouped_by_what_acts_in_them(settings, expected):
    parts = stretches(CFG(epochs=4, **settings), BINARY)
    assert [(part.name, part.first, part.epochs) for part in parts] == expected


@pytest.mark.parametrize(("task", "score"), [(BINARY, math.inf), (VALUES, -math.inf)])
def test_what_waits_for_a_score_is_an_upper_bound(task, score):
    (part,) = stretches(CFG(epochs=4, awp_start_score=0.8), task)
    assert part == Stretch("awp", 0, 4, (score,))


def test_a_stretch_weighs_by_its_epochs():
    fold = Fold(4, 10, train_tokens=1000, evaluations=0, valid_tokens=0, test_tokens=0,
                n_valid=0, n_test=0)  # fmt: skip
    rates = dataclasses.replace(RATES, seconds_per_token=(0.01, 0.02))
    parts = [Stretch("", 0, 3), Stretch("awp", 3, 1)]
    assert train_seconds(parts, fold, rates) == pytest.approx(3 * 10 + 20)
    assert train_seconds([Stretch("", 0, 4)], fold, RATES) == pytest.approx(40)


def test_a_fold_counts_real_tokens_and_every_evaluation():
    lengths = np.array([5, 7, 9, 11, 100])  # the last one is pseudo-labelled
    cfg = CFG(epochs=2, batch_size=2, evals_per_epoch=2)
    rows, valid, test = np.array([0, 1, 4]), np.array([2, 3]), np.array([4, 4])
    fold = fold_of(cfg, lengths, rows, valid, test)
    assert fold == Fold(2, 2, 112, 4, 20, 8, 2, 2)
    assert predict_tokens(fold) == 4 * 20 + 8
    averaged = dataclasses.replace(cfg, checkpoint="average")
    assert fold_of(averaged, lengths, rows, valid, test).evaluations == 5
    both = dataclasses.replace(cfg, pair_swap="train+test")
    assert predict_tokens(fold_of(both, lengths, rows, valid, test)) == 2 * (4 * 20 + 8)


def test_states_are_saved_as_often_as_the_settings_say():
    fold = Fold(2, 10, 1000, 1, 100, 100, n_valid=4, n_test=4)
    besides = 3.0 + 4 * 0.5 + 1.0
    assert other_seconds(fold, RATES, 299, save_minutes=1) == pytest.approx(besides + 4 * 2)
    assert other_seconds(fold, RATES, 59, save_minutes=1) == pytest.approx(besides)
    assert other_seconds(fold, RATES, 59, save_minutes=0) == pytest.approx(besides + 20 * 2)


def test_the_seconds_of_a_fold_are_the_sum_of_its_parts():
    fold = Fold(2, 10, 1000, evaluations=3, valid_tokens=500, test_tokens=500, n_valid=4, n_test=4)
    seconds = fold_seconds([Stretch("", 0, 2)], fold, RATES, save_minutes=60)
    assert seconds == pytest.approx(2 * 1000 * 0.01 + 2000 / 1000 + 3 + 4 * 0.5 + 1)
