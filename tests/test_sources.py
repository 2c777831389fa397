import dataclasses

import pytest

from oofline.config import CFG
from oofline.errors import ConfigError, DataError
from oofline.sources import check_value, load_cfg
from oofline.storage import Paths, write_json


@pytest.fixture
def paths(tmp_path):
    result = Paths("c", tmp_path)
    result.input.mkdir(parents=True)
    return result


def test_later_sources_win(paths):
    (paths.input / "cfg.toml").write_text("lr = 1e-4\nepochs = 5\n")
    write_json(paths.experiment("old") / "cfg.json", {"comp": "c", "exp": "old", "epochs": 7})
    assert load_cfg(paths) == CFG(comp="c", lr=1e-4, epochs=5)
    assert load_cfg(paths, "old") == CFG(comp="c", lr=1e-4, epochs=7)
    made = CFG(comp="c", exp="e", dropout=None, body_lr=0.0, text_template="{a} {b}")
    write_json(paths.experiment("e") / "cfg.json", dataclasses.asdict(made))
    assert dataclasses.replace(load_cfg(paths, "e"), exp="e") == made
    assert CFG().epochs == 3


@pytest.mark.parametrize(("toml", "says"), [
    ("lrr = 1", r"cfg.toml: unknown setting lrr, did you mean lr\?"),
    ('lr = "fast"', r"lr = 'fast' is of type str, it must be float"),
    ("epochs = 2.5", r"epochs = 2.5 is of type float, it must be int"),
    ("gradient_checkpointing = 1", r"it must be bool"),
    ('pooling = "maen"', r"'maen' is not one of cls, mean.*did you mean mean"),
    ("lr = ", r"cfg.toml is not valid TOML"),
    ("epochs = 0", r"epochs = 0 is out of range"),
])  # fmt: skip
def test_bad_toml_is_one_clear_line(paths, toml, says):
    (paths.input / "cfg.toml").write_text(toml)
    with pytest.raises(ConfigError, match=says) as error:
        load_cfg(paths)
    assert "\n" not in str(error.value)


def test_types_as_cfg_holds_them():
    assert check_value("lr", 1, "x") == 1.0
    assert isinstance(check_value("lr", 1, "x"), float)
    assert check_value("dropout", None, "x") is None
    with pytest.raises(ConfigError):
        check_value("epochs", True, "x")


def test_from_an_experiment_that_is_not_there(paths):
    with pytest.raises(DataError, match=r"nothing.cfg.json does not exist"):
        load_cfg(paths, "nothing")
