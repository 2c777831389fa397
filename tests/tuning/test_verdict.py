"""Sentences about a search, on scores that are known."""

import numpy as np
import pandas as pd
import pytest

from oofline.ablation.contrast import Contrast
from oofline.tuning.space import Parameter
from oofline.tuning.verdict import Rerun, near_best, neighbourhood, sentences

LR = Parameter("lr", "log", (1e-6, 1e-2))


def frame_of(lr, score):
    return pd.DataFrame(
        {"trial": range(len(lr)), "lr": lr, "score": score, "estimate": score, "state": "complete"}
    )


def rerun(best, default, claimed, rows=(0.01, 0.07)):
    differences = np.array(best) - np.array(default)
    contrast = Contrast(
        float(np.mean(best)), (0, 1), np.array(best), float(differences.mean()), rows,
        differences, None, "no difference shown", 100, None, None,
    )  # fmt: skip
    return Rerun(contrast, claimed, 1)


def test_a_neighbourhood_ends_at_the_first_trial_that_is_worse():
    frame = frame_of([1e-6, 1e-5, 1e-4, 1e-3, 3e-3, 1e-2], [0.9, 0.7, 0.898, 0.9, 0.895, 0.5])
    near = near_best(frame, True)
    assert near.tolist() == [True, False, True, True, True, False]
    found = neighbourhood(frame, LR, 1e-3, near)
    assert (found.low, found.high, found.n, found.edge) == (1e-4, 3e-3, 3, "")
    assert found.width == pytest.approx(np.log10(30) / 4)
    assert neighbourhood(frame, LR, 1e-6, near).edge == "lower"


def test_a_trial_that_another_setting_may_have_spoilt_ends_no_neighbourhood():
    frame = frame_of([1e-6, 1e-4, 3e-4, 2e-3, 1e-2], [0.5, 0.9, 0.5, 0.895, 0.6])
    frame["epochs"] = [2, 2, 1, 3, 2]
    space = (LR, Parameter("epochs", "range", (1, 3)))
    text = sentences(frame, space, "f1", True, {"lr": 2e-5, "epochs": 2}, None)[1]
    assert "lr: 2 of them from 0.0001 to 0.002, 33 % of what was searched (flat)" in text
    assert "epochs: 2 of them from 2 to 3, 50 % of what was searched (flat)" in text
    alone = sentences(frame, (LR,), "f1", True, {"lr": 2e-5}, None)[1]
    assert "lr: no other trial beside 0.0001 does" in alone


@pytest.mark.parametrize(
    ("low", "says"), [(1, "lower end of its range, which is as far as it goes."),
                      (2, "lower end of its range: search further.")]
)  # fmt: skip
def test_an_end_that_cannot_be_passed_is_no_call_to_search_further(low, says):
    frame = frame_of([2e-5, 2e-5], [0.9, 0.8]).assign(epochs=[low, 5])
    space = (Parameter("epochs", "range", (low, 5)),)
    lines = sentences(frame, space, "f1", True, {"epochs": 3}, None)
    assert f"The best epochs lies at the {says}" in lines


def test_lower_scores_are_better_where_the_metric_says_so():
    frame = frame_of([1e-5, 1e-4, 1e-3], [0.500, 0.504, 0.506])
    assert near_best(frame, False).tolist() == [True, True, False]


def test_a_gain_that_seeds_agree_on_is_called_one():
    frame = frame_of([2e-5, 1e-4, 1e-2], [0.85, 0.90, 0.50])
    default = {"lr": 2e-5}
    lines = " ".join(
        sentences(frame, (LR,), "f1", True, default,
                  rerun([0.890, 0.892, 0.889], [0.850, 0.851, 0.849], 0.90))
    )  # fmt: skip
    assert "trial 1, lr = 0.0001: f1 0.90000 (the default: 0.85000)" in lines
    assert "a peak or luck" in lines
    assert "It beats the default beyond seed noise: on 3 new seeds it scores f1 0.89033" in lines
    assert "The search flattered it: 0.90000 found, 0.89033 on new seeds" in lines


def test_a_gain_within_seed_noise_is_not():
    frame = frame_of([2e-5, 1e-4], [0.85, 0.86])
    noisy = rerun([0.86, 0.84, 0.87], [0.85, 0.86, 0.84], 0.86)
    lines = " ".join(sentences(frame, (LR,), "f1", True, {"lr": 2e-5}, noisy))
    assert "It does not beat the default beyond seed noise" in lines
    nothing = " ".join(sentences(frame, (LR,), "f1", True, {"lr": 2e-5}, None))
    assert "not known" in nothing


def test_a_gain_that_other_rows_may_not_show_is_said_to_be_so():
    frame = frame_of([2e-5, 1e-4], [0.85, 0.89])
    again = rerun([0.890, 0.892, 0.889], [0.850, 0.851, 0.849], 0.89, rows=(-0.01, 0.09))
    lines = " ".join(sentences(frame, (LR,), "f1", True, {"lr": 2e-5}, again))
    assert "beats the default beyond seed noise, but not beyond the luck of these rows" in lines


@pytest.mark.parametrize(
    ("rows", "says"), [((-0.002, 0.01), "no difference shown."), ((0.001, 0.007), ", better.")]
)
def test_seeds_that_change_nothing_prove_nothing(rows, says):
    """As of ridge: the same score for every seed is no sign that the difference is real."""
    frame = frame_of([2e-5, 1e-4], [0.75, 0.754])
    again = rerun([0.754, 0.754], [0.75, 0.75], 0.754, rows)
    lines = " ".join(sentences(frame, (LR,), "f1", True, {"lr": 2e-5}, again))
    assert "No score depends on the seed" in lines
    assert says in lines
    assert "seed noise" not in lines
    assert "winner's optimism" not in lines
