"""The table of samplers counts what it says it counts."""

import importlib.util
from pathlib import Path

import numpy as np
import pytest

SPEC = importlib.util.spec_from_file_location("tuning_bench", Path(__file__).with_name("tuning.py"))
tuning = importlib.util.module_from_spec(SPEC)
SPEC.loader.exec_module(tuning)


@pytest.mark.parametrize(
    ("scores", "greater", "needed"),
    [
        ([0.5, 0.895, 0.9], True, 2), ([0.9, 0.1, 0.2], True, 1), ([0.5, 0.6, 0.7], True, 4),
        ([np.nan, 0.9, 0.5], True, 2), ([1.2, 0.95, 0.905], False, 3),
    ],
)  # fmt: skip
def test_trials_up_to_the_first_near_the_best(scores, greater, needed):
    assert tuning.trials_to_reach(np.array(scores), 0.9, 0.99, greater) == needed


def test_all_samplers_are_measured_against_the_same_best():
    runs = {
        "tpe": [np.array([0.5, 0.9, 0.8]), np.array([0.895, 0.5, 0.5])],
        "random": [np.array([0.5, 0.6, 0.7]), np.array([0.5, 0.5, 0.895])],
    }
    frame = tuning.table(runs, 0.99, True).set_index("case")
    assert frame["needed"].to_dict() == {"tpe": "2, 1", "random": "4, 3"}
    assert frame["reached"].to_dict() == {"tpe": 2, "random": 1}
    assert frame.loc["random", "mean best"] == pytest.approx(0.7975)
