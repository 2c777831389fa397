"""Ranges from the command line and from TOML, and what is refused."""

import re

import pytest

from oofline.config import CFG
from oofline.errors import ConfigError
from oofline.tuning.space import Parameter, read_space, too_few


def test_every_form_is_read():
    space = read_space(
        CFG(),
        "lr=log(5e-6,5e-4), epochs=range(1,4); pooling=choice(mean, cls) dropout=range(0,0.3)",
    )
    assert space == (
        Parameter("lr", "log", (5e-6, 5e-4)),
        Parameter("epochs", "range", (1, 4)),
        Parameter("pooling", "choice", ("mean", "cls")),
        Parameter("dropout", "range", (0.0, 0.3)),
    )
    assert [p.whole for p in space] == [False, True, False, False]
    assert space[0].holds(5e-4)
    assert not space[0].holds(1e-3)
    assert not space[3].holds(None)


def test_the_command_line_comes_before_the_file(tmp_path):
    path = tmp_path / "space.toml"
    path.write_text('[space]\nlr = "log(1e-6, 1e-4)"\nweight_decay = "range(0, 0.1)"\n')
    space = read_space(CFG(), "lr=log(5e-6,5e-4)", str(path))
    assert [str(p) for p in space] == ["lr=log(5e-06,0.0005)", "weight_decay=range(0.0,0.1)"]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "what is searched?"),
        ("lr=5e-5", "cannot read 'lr=5e-5'"),
        ("lr=log(5e-4,5e-6)", "needs low below high"),
        ("lr=log(0,1)", "needs low below high and above 0"),
        ("lr=log(1e-5)", "takes two numbers"),
        ("lrr=log(1e-5,1e-3)", "did you mean lr?"),
        ("lr=wide(1e-5,1e-3)", "unknown form wide"),
        ("epochs=range(1,2.5)", "must be int"),
        ("pooling=choice(mean,meen)", "is not one of"),
        ("pooling=choice(mean)", "two or more"),
        ("n_folds=range(2,5)", "the same in all trials"),
        ("batch_size=range(0,8)", "batch_size"),
        ("lr=log(1e-5,1e-3), lr=log(1e-6,1e-4)", "lr is given twice"),
    ],
)
def test_what_cannot_be_searched_is_refused(text, message):
    with pytest.raises(ConfigError, match=re.escape(message)):
        read_space(CFG(), text)


def test_many_settings_with_few_trials_are_warned_of():
    three = read_space(CFG(), "lr=log(1e-6,1e-4) epochs=range(1,4) dropout=range(0,0.3)")
    assert "TRIALS=45" in too_few(three, 30)
    assert too_few(three, 45) is None
    assert too_few(three[:1], 10) is None
