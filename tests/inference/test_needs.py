"""What stands behind a name: members that count, each once, with their own settings."""

import dataclasses

import pytest

from oofline.errors import ConfigError, DataError
from oofline.inference.needs import needs_of, settings_of, starting_settings
from oofline.storage import read_json, write_json


def test_an_experiment_needs_all_its_scored_seeds(trained):
    needs = needs_of(trained, "base")
    assert needs.units == [("base", s, k) for s in (1, 2) for k in (0, 1)]
    assert (needs.whole, needs.ensembles) == ({"base"}, {})


def test_an_ensemble_of_a_seed_and_an_experiment(trained):
    needs = needs_of(trained, "blend")
    assert needs.seeds == {"base": [2], "other": [1]}
    assert needs.whole == {"other"}
    assert list(needs.ensembles) == ["blend"]


def test_an_ensemble_of_an_ensemble_needs_each_model_once(trained):
    needs = needs_of(trained, "both")
    assert needs.seeds == {"base": [1, 2], "other": [1]}
    assert needs.whole == {"base", "other"}
    assert list(needs.ensembles) == ["blend", "both"]


def test_a_member_of_weight_zero_predicts_nothing(project):
    path = project.ensemble("blend") / "weights.json"
    write_json(path, read_json(path) | {"weights": [0.0, 1.0]})
    assert needs_of(project, "blend").seeds == {"other": [1]}


def test_a_seed_that_is_not_there(project):
    path = project.ensemble("blend") / "weights.json"
    write_json(path, read_json(path) | {"members": ["base@7", "other"]})
    with pytest.raises(DataError, match="has no seed 7; there: 1, 2"):
        needs_of(project, "blend")


def test_members_keep_their_own_settings(trained):
    given = starting_settings(trained, "both")
    assert given.device == "auto"
    cfgs = settings_of(trained, needs_of(trained, "both"), given)
    assert (cfgs["other"].pooling, cfgs["other"].text_template) == ("max", "{text} {id}")
    assert (cfgs["base"].pooling, cfgs["base"].exp) == ("mean", "base")
    given = dataclasses.replace(given, precision="bf16", eval_batch_size=7)
    cfgs = settings_of(trained, needs_of(trained, "both"), given)
    assert {(cfg.precision, cfg.eval_batch_size) for cfg in cfgs.values()} == {("bf16", 7)}


def test_settings_of_training_cannot_be_given(trained):
    given = dataclasses.replace(starting_settings(trained, "base"), max_len=8, lr=1.0)
    with pytest.raises(ConfigError, match="leave out --lr, --max-len"):
        settings_of(trained, needs_of(trained, "base"), given)
