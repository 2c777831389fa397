import pytest

from oofline.data.normalization import normalize, parse_steps
from oofline.errors import ConfigError


@pytest.mark.parametrize(("step", "before", "after"), [
    ("nfkc", "ＡＢＣ１２ｱｲｳ㌔", "ABC12アイウキロ"),
    ("nfc", "か\u3099", "が"), ("lower", "ABC", "abc"),
    ("digits", "10日 2024", "00日 0000"), ("repeats", "わーーーーーい!!!!!", "わーーーい!!!"),
    ("urls", "見て https://t.co/xyz。はい", "見て URL。はい"), ("kana", "すごいネ", "スゴイネ"),
    ("spaces", " a \n b\t\tc ", "a b c"),
])  # fmt: skip
def test_steps(step, before, after):
    assert normalize([before], [step]) == [after]


def test_steps_act_in_the_order_given():
    assert normalize(["ＡＡＡＡＡ"], parse_steps("NFKC, lower ,repeats")) == ["aaa"]
    assert normalize(["Ａ"], parse_steps("")) == ["Ａ"]


def test_an_unknown_step_is_named_with_those_there_are():
    with pytest.raises(ConfigError, match="no step 'nfkd'; there are nfc, nfkc, lower"):
        parse_steps("nfkd")
