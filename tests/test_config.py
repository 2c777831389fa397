import dataclasses

import pytest

from oofline.config import CFG, RUNTIME_FIELDS
from oofline.errors import ConfigError
from oofline.limits import RANGES, parse_overrides
from oofline.report.settings import field_docs, settings_markdown, settings_text


def test_every_field_has_a_docstring_and_the_defaults_are_valid():
    docs = field_docs()
    fields = [field.name for field in dataclasses.fields(CFG)]
    assert sorted(docs) == sorted(fields)
    assert list(docs)[:3] == ["comp", "exp", "kind"]
    assert [name for name in fields if len(docs[name][1]) < 10] == []


def test_every_number_has_a_range():
    numbers = {
        f.name
        for f in dataclasses.fields(CFG)
        if f.type in (int, float, float | None) and f.name != "fold_seed"
    }
    assert numbers == set(RANGES)


@pytest.mark.parametrize(("name", "value"), [
    ("n_folds", 1), ("lr", -1e-5), ("lr", 2.0), ("epochs", 0), ("warmup_fraction", 1.5),
    ("dropout", 1.0), ("batch_size", 0), ("evals_per_epoch", 0.0), ("lr", float("nan")),
])  # fmt: skip
def test_out_of_range_is_refused_with_the_bounds(name, value):
    with pytest.raises(ConfigError, match=f"{name} = .* is out of range: use"):
        CFG(**{name: value})


@pytest.mark.parametrize(("settings", "says"), [
    ({"dropout_samples": 4}, "dropout_sample_p"),
    ({"fold_scheme": "group", "group_col": "none"}, "needs group_col"),
    ({"fold_scheme": "time"}, "needs time_col"),
    ({"patience": 4, "epochs": 3}, "patience = 4 can never act"),
    ({"cosine_cycles": 2}, 'schedule = "cosine"'),
    ({"dropout": 0.1, "body_lr": 0.0}, "leave one out"),
    ({"exp": "a/b"}, "plain folder name"),
    ({"exp": "ensembles"}, "choose another"),
    ({"kind": "ridge", "lora_r": 4}, "^lora_r = 4 acts on kind .transformer. alone.* with ridge$"),
    ({"kind": "lightgbm", "pseudo": "soft"}, "^pseudo = soft acts on kind .* with lightgbm$"),
])  # fmt: skip
def test_contradictions_are_refused_at_construction(settings, says):
    with pytest.raises(ConfigError, match=says):
        CFG(**settings)


@pytest.mark.parametrize("name", ["group_lrs", "group_decays"])
@pytest.mark.parametrize(("text", "says"), [
    ("head", "'head' is not a group and a number"),
    ("head=fast", "'head=fast' is not a group and a number"),
    ("head=nan", "'head=nan' is not a group and a number"),
    ("=1e-3", "'=1e-3' is not a group and a number"),
    ("head=1e-3,", "'' is not a group and a number"),
    ("head=-1e-3", "head = -1e-3 is out of range"),
    ("head=inf", "head = inf is out of range"),
    ("head=1e-3, head=1e-4", "names head twice"),
])  # fmt: skip
def test_overrides_that_are_not_numbers_are_refused_at_construction(name, text, says):
    with pytest.raises(ConfigError, match=f"^{name}:? .*{says}|^{name} {says}") as caught:
        CFG(**{name: text})
    assert "\n" not in str(caught.value)


def test_overrides_of_single_groups_are_read():
    assert parse_overrides("group_lrs", "") == {}
    assert parse_overrides("group_lrs", " embeddings=0,layer.6 = 1e-5 ") == {
        "embeddings": 0.0, "layer.6": 1e-5
    }  # fmt: skip
    with pytest.raises(ConfigError, match="head = 2 is out of range: use 0 to 1"):
        CFG(group_lrs="head=2")
    assert CFG(group_decays="head=2")
    with pytest.raises(ConfigError, match="which group_lrs freezes"):
        CFG(fgm_eps=0.5, group_lrs="embeddings=0")


def test_runtime_fields_exist():
    assert {field.name for field in dataclasses.fields(CFG)} >= RUNTIME_FIELDS


def test_settings_are_shown_with_what_differs_marked():
    text = settings_text(CFG(lr=5e-5))
    assert "* lr = 5e-05" in text
    assert "  epochs = 3" in text
    table = settings_markdown(CFG())
    assert table.count("\n| `") == len(dataclasses.fields(CFG))
