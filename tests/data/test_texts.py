import pandas as pd
import pytest

from oofline.config import CFG
from oofline.data.texts import build_texts
from oofline.errors import ConfigError, DataError

FRAME = pd.DataFrame(
    {
        "id": [f"a-long-identifier-of-a-row-{i}" for i in range(20)],
        "number": [f"{i}12345678901234567890123456789" for i in range(20)],
        "category": ["one and the same long category name of all rows"] * 20,
        "body": [f"words about thing {i}" for i in range(20)],
        "place": ["Rome"] * 10 + [""] * 10,
    },
    dtype="str",
)


def build(frame: pd.DataFrame = FRAME, **settings: str) -> list[str]:
    return build_texts(CFG(**settings), frame, frame, ("id",)).train


def test_found_by_length_and_variety_not_by_name() -> None:
    texts = build_texts(CFG(), FRAME, FRAME, ("id",))
    assert texts.columns == ("body",)
    assert texts.test[3] == "words about thing 3"


def test_a_column_of_train_alone_is_no_candidate() -> None:
    test = FRAME.drop(columns="body")
    assert build_texts(CFG(), FRAME, test, ("id",)).columns == ("category",)


def test_two_similar_columns_are_a_pair() -> None:
    frame = FRAME.assign(title=FRAME["body"].str.upper())
    texts = build_texts(CFG(), frame, frame, ("id",))
    assert texts.columns == ("body", "title")  # in the file's order
    assert texts.train_pairs[0] == ("words about thing 0", "WORDS ABOUT THING 0")
    assert texts.train[0] == "words about thing 0 || WORDS ABOUT THING 0"
    with pytest.raises(ConfigError, match=r'"body" .*"title".*text_col.*text_template'):
        build(frame, pair_col="none")
    single = build_texts(CFG(text_col="title"), frame, frame, ("id",))
    assert (single.train[0], single.train_pairs) == ("WORDS ABOUT THING 0", [])


def test_three_similar_columns_are_ambiguous() -> None:
    frame = FRAME.assign(title=FRAME["body"].str.upper(), last=FRAME["body"] + "!")
    with pytest.raises(ConfigError, match=r"text_col .and pair_col"):
        build(frame)


def test_a_pair_by_its_settings() -> None:
    texts = build_texts(CFG(text_col="body", pair_col="category"), FRAME, FRAME, ("id",))
    assert texts.columns == ("body", "category")
    with pytest.raises(ConfigError, match='did you mean "category"'):
        build_texts(CFG(text_col="body", pair_col="categori"), FRAME, FRAME, ("id",))
    with pytest.raises(ConfigError, match="need a sentence pair"):
        build_texts(CFG(pair_swap="train"), FRAME, FRAME, ("id",))


def test_no_text_column() -> None:
    with pytest.raises(DataError, match=r"no text column found among .*\(number\)"):
        build(FRAME[["id", "number"]])


def test_template_joins_and_collapses_what_empty_cells_leave() -> None:
    texts = build(text_template="{place} - {body}  ({place}) {{x}}")
    assert texts[0] == "Rome - words about thing 0  (Rome) {x}"
    assert texts[-1] == "- words about thing 19 () {x}"
    assert build(text_template="{place} {body}")[-1] == "words about thing 19"


@pytest.mark.parametrize("template", ["{body", "plain", "{}", "{body!r}", "{body:10}", "{bodi}"])
def test_bad_templates(template: str) -> None:
    with pytest.raises(ConfigError, match="text_template"):
        build(text_template=template)
