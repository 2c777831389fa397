"""The arithmetic of the comparison between plan and truth (the comparison itself takes minutes)."""

import runpy
from pathlib import Path

import pytest

MODULE = runpy.run_path(str(Path(__file__).with_name("plan.py")))


def test_the_error_is_that_of_the_middle_of_the_range():
    assert MODULE["error"](8.0, 12.5, 10.0) == pytest.approx(0.0)
    assert MODULE["error"](20.0, 20.0, 10.0) == pytest.approx(100.0)


def test_every_quantity_of_every_repeat_is_a_row():
    run = {"minutes": (1.0, 4.0, 2.5), "disk, GB": (1.0, 1.0, 2.0)}
    frame = MODULE["table"]([run, run])
    assert frame["case"].tolist()[1:3] == ["repeat 1, disk, GB", "repeat 2, minutes"]
    assert frame["within"].tolist() == ["yes", "no"] * 2
    assert frame["error %"].tolist() == pytest.approx([-20, -50] * 2)


def test_settings_are_options():
    assert MODULE["_option"]("n_folds=2") == ("--n-folds", "2")
    options = MODULE["parsed"](["--set", "lr=1e-4", "--repeats", "1"])
    assert (options.set, options.repeats, options.comp) == (["lr=1e-4"], 1, "demo")
