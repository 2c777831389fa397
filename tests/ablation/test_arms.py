"""Arms: the ready-made ones are usable, and a wrong one is refused in one line."""

import tomllib
from pathlib import Path

import pytest

from oofline.ablation.arms import choose_arms, known_arms, read_arms
from oofline.config import CFG
from oofline.errors import ConfigError

ROOT = Path(__file__).parents[2]


@pytest.fixture
def own(tmp_path):
    """own(text) -> path of a file of arms."""

    def write(text):
        path = tmp_path / "mine.toml"
        path.write_text(text)
        return str(path)

    return write


def test_every_ready_made_arm_makes_settings_of_its_own():
    names = list(known_arms())
    assert set(names) >= {
        "base", "awp", "awp-replace", "fgm", "sift", "mixout", "mixconnect", "rdrop",
        "multi-sample-dropout", "no-dropout", "dropout", "layer-decay", "ema", "reinit", "freeze",
        "unstable", "stable",
    }  # fmt: skip
    arms = choose_arms(CFG(comp="c"), "study", ",".join(names))
    assert [arm.name for arm in arms] == names
    assert [arm.cfg.exp for arm in arms] == [f"study-{name}" for name in names]
    changed = {arm.name for arm in arms if arm.cfg != CFG(comp="c", exp=f"study-{arm.name}")}
    assert set(names) - changed == {"base", "stable"}  # stable is what the defaults are
    assert arms[0].changes == ""
    assert arms[1].changes == "awp_last_epochs = 1, awp_lr = 0.01, awp_eps = 0.01"


def test_the_ready_made_arms_travel_with_the_package():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    assert "arms.toml" in project["tool"]["setuptools"]["package-data"]["oofline.techniques"]
    assert (ROOT / "src" / "oofline" / "techniques" / "arms.toml").is_file()


def test_the_users_arms_come_over_the_ready_made(own):
    file = own("[arms.awp]\nawp_last_epochs = 2\n[arms.slow]\nlr = 1e-6\n")
    arms = choose_arms(CFG(comp="c", epochs=4), "a", "base, awp,slow,awp", file)
    assert [arm.name for arm in arms] == ["base", "awp", "slow"]
    assert arms[1].settings == {"awp_last_epochs": 2}
    assert (arms[2].cfg.lr, arms[2].cfg.epochs) == (1e-6, 4)


def test_the_base_stands_first_and_is_the_first_named_by_default():
    named = choose_arms(CFG(comp="c"), "a", "fgm,base,sift", base="base")
    assert [arm.name for arm in named] == ["base", "fgm", "sift"]
    assert choose_arms(CFG(comp="c"), "a", "fgm,base")[0].name == "fgm"


@pytest.mark.parametrize(("names", "base", "text", "says"), [
    ("", "", "", r"which arms\? give ARMS=.*base, awp, awp-replace"),
    ("base,awpp", "", "", r"unknown arm awpp, did you mean awp\? there are base, awp"),
    ("base,qqqqqq", "", "", r"unknown arm qqqqqq: there are base"),
    ("awp,fgm", "base", "", r"base = base is not among the arms \(awp, fgm\)"),
    ("a", "", "[arms.a]\nlrr = 1.0\n", r"mine.toml: arm a: unknown setting lrr, did you mean lr\?"),
    ("a", "", '[arms.a]\nlr = "x"\n', r"mine.toml: arm a: lr = 'x' is of type str"),
    ("a", "", "[arms.a]\nepochs = 0\n", r"mine.toml: arm a: epochs = 0 is out of range"),
    ("a", "", "[arms.a]\nepochs = 1\nawp_last_epochs = 2\n", r"arm a: awp_last_epochs = 2, but"),
    ("a", "", "[arms.a]\nn_folds = 9\n", r"arm a: n_folds must be the same in all arms.*--n-folds"),
    ("a", "", '[arms.a]\ndevice = "cpu"\n', r"arm a: device must be the same in all arms"),
    ("a", "", "[arms]\na = 1\n", r"arm a must be a table"),
    ("a", "", "lr = 1.0\n", r"it must hold tables \[arms.<name>\]"),
    ("a", "", "arms = 1\n", r"it must hold tables"),
    ("a", "", "[arms.a\n", r"mine.toml is not valid TOML"),
])  # fmt: skip
def test_wrong_arms_are_one_clear_line(own, names, base, text, says):
    with pytest.raises(ConfigError, match=says) as error:
        choose_arms(CFG(comp="c"), "study", names, own(text) if text else "", base)
    assert "\n" not in str(error.value)


def test_a_contradiction_with_the_common_settings_names_the_arm():
    with pytest.raises(ConfigError, match=r"arms.toml: arm mixout: mixout takes the place of drop"):
        choose_arms(CFG(comp="c", dropout=0.1), "a", "base,mixout")
    with pytest.raises(ConfigError, match="must be a plain folder name"):
        choose_arms(CFG(comp="c"), "a/b", "base")


def test_a_file_that_is_not_there(tmp_path):
    with pytest.raises(ConfigError, match=r"none.toml does not exist: --file names"):
        read_arms(tmp_path / "none.toml")
