"""What --gpus takes, and which number format trains where."""

import pytest

from oofline.errors import ConfigError
from oofline.planning.machines import GPUS, KAGGLE, parse_gpus


@pytest.mark.parametrize(
    ("text", "count", "name"),
    [
        ("2xT4", 2, "T4"), ("8 x A100", 8, "A100"), (" l4 ", 1, "L4"), ("1xrtx4090", 1, "RTX4090"),
        ("4", 4, None),
    ],
)  # fmt: skip
def test_gpus_are_a_number_and_a_kind(text, count, name):
    machine = parse_gpus(text)
    assert machine.count == count
    assert machine.gpu == (GPUS[name] if name else None)


def test_no_gpus_are_no_machine():
    assert parse_gpus("") is None


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("0xT4", "not a number of GPUs"), ("-1", "not a number of GPUs"), ("2xT4,1xP100", "not a"),
        ("x", "no peak rate of x"), ("2xT5", "did you mean T4?"), ("two", "no peak rate of two"),
    ],
)  # fmt: skip
def test_anything_else_is_one_line(text, says):
    with pytest.raises(ConfigError, match=says.replace("?", r"\?")) as error:
        parse_gpus(text)
    assert "\n" not in str(error.value)
    assert "T4" in str(error.value)  # an example, or what is known


def test_the_format_is_the_one_that_training_takes_there():
    assert GPUS["T4"].format_of("auto") == "fp16"
    assert GPUS["P100"].format_of("auto") == "fp16"
    assert GPUS["A100"].format_of("auto") == "bf16"
    assert GPUS["A100"].format_of("fp32") == "fp32"
    with pytest.raises(ConfigError, match="a T4 has no bf16 units"):
        GPUS["T4"].format_of("bf16")


def test_kaggles_machines_are_known():
    assert [(m.count, m.gpu.name) for m in KAGGLE] == [(2, "T4"), (1, "P100")]
