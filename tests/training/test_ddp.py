"""One fold on several devices: the same training as on one, files, stops and deaths included."""

import numpy as np
import pandas as pd
import pytest

from oofline.crossval import train_units

EXACT = {"dropout": 0.0, "accumulation": 2, "evals_per_epoch": 3.0, "save_minutes": 60.0}


@pytest.fixture
def setup(write_competition, load_settings, forked):
    paths = write_competition("binary", n=66)
    return paths, lambda exp, **changes: load_settings(paths, exp=exp, **(EXACT | changes))


def history(paths, exp):
    return pd.read_csv(paths.fold(exp, 42, 0) / "history.csv")


def test_same(setup):
    paths, cfg = setup
    train_units(cfg("one"), paths, [0], [42])
    train_units(cfg("two", device="cpu+cpu"), paths, [0], [42])
    one, two = history(paths, "one"), history(paths, "two")
    print(one.to_string(), two.to_string())
    print(np.abs(one["train_loss"] - two["train_loss"]).max())
