"""A small competition's columns, and problems with an answer."""

import dataclasses

import numpy as np
import pytest

from oofline.data.competition import read_competition
from oofline.data.folds import ensure_folds


@pytest.fixture
def setting(write_competition, load_settings):
    """setting(toy, **settings) -> (cfg, paths, competition, folds) of the toy competition."""

    made = {}

    def _competition(toy, n):
        return made.get((toy, n)) or made.setdefault((toy, n), write_competition(toy, n))

    def make(toy="binary", n=90, **settings):
        paths = _competition(toy, n)
        cfg = load_settings(paths, **({"kind": "ridge", "lgbm_min_rows": 3} | settings))
        competition = read_competition(cfg, paths)
        folds, _ = ensure_folds(cfg, paths, competition)
        return cfg, paths, competition, folds

    return make


@pytest.fixture
def with_column():
    """with_column(competition, name, train values, test values) -> the same with that column."""

    def add(competition, name, train, test):
        return dataclasses.replace(
            competition,
            train=competition.train.assign(**{name: train}),
            test=competition.test.assign(**{name: test}),
        )

    return add


@pytest.fixture
def rng():
    return np.random.default_rng(3)
