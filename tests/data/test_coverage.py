import pytest

from oofline.data.coverage import coverage, coverage_notes
from oofline.data.tokens import Cutting, tokenize
from oofline.models.backbone import load_tokenizer
from oofline.storage import Paths


@pytest.fixture
def tokenizer(tiny_model):
    return load_tokenizer(str(tiny_model("bert")))


@pytest.fixture
def tokens(tokenizer, tmp_path):
    return lambda texts, **how: tokenize(
        Paths("toy", tmp_path), texts, tokenizer, Cutting(**({"max_len": 64} | how)), "train"
    )


def test_shares_of_tokens(tokenizer, tokens):
    texts = ["good fire", "good 猫", "a"]
    seen = coverage(tokenizer, tokens(texts), texts)
    assert seen.unknown == pytest.approx(1 / 5)
    assert seen.single == pytest.approx(1 / 4)
    assert seen.characters == pytest.approx((8 + 5 + 1) / 5)


def test_windows_change_nothing(tokenizer, tokens):
    texts = ["the good fire and the bad fire is a good fire " * 3] * 2
    whole = coverage(tokenizer, tokens(texts), texts)
    parts = tokens(texts, max_len=12, windows=9, overlap=2)
    assert parts.n_windows.tolist() == [5, 5]
    assert coverage(tokenizer, parts, texts).characters == pytest.approx(whole.characters)


def test_a_backbone_of_another_language_is_warned_about(tokenizer, tokens):
    texts = ["この商品はとても良い", "すぐ壊れた"] * 5
    notes = coverage_notes(tokenizer, tokens(texts), texts)
    assert "100.0% of the tokens unknown" in notes[0]
    assert "warning: the backbone hardly knows Japanese texts (100% of the tokens are" in notes[1]
    assert len(notes) == 2


def test_single_characters_are_warned_about(tokenizer, tokens):
    texts = ["xylophone quartz the and is"] * 3
    notes = coverage_notes(tokenizer, tokens(texts), texts)
    assert "% are single characters" in notes[1]


def test_a_backbone_that_knows_the_texts_is_not_warned_about(tokenizer, tokens):
    texts = ["good fire the bad good fire", "the fire"] * 5
    assert len(coverage_notes(tokenizer, tokens(texts), texts)) == 1


def test_a_tokenizer_of_characters_is_meant_so(tokenizer, tokens):
    texts = ["この商品はとても良い"] * 2
    tokenizer.subword_tokenizer_type = "character"
    assert len(coverage_notes(tokenizer, tokens(texts), texts)) == 1


def test_texts_without_tokens_have_shares_too(tokenizer, tokens):
    seen = coverage(tokenizer, tokens(["", " "]), ["", " "])
    assert (seen.unknown, seen.single) == (0.0, 0.0)
