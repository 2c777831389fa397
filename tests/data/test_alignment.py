"""Tokens and their characters: white space, Japanese, normalisation, unknown tokens."""

import json

import pytest
import transformers

from oofline.data.alignment import align, skeleton, tokens_with_spans, trimmed


def shown(text, pieces):
    return [text[start:end] for start, end in align(text, pieces)]


def test_words_and_word_pieces():
    text = "The cafés re-opened."
    pieces = ["the", "cafe", "##s", "re", "-", "open", "##ed", "."]
    assert shown(text, pieces) == ["The", "café", "s", "re", "-", "open", "ed", "."]


def test_normalised_japanese_is_found_again():
    """NFKC turns half-width kana with marks, full-width digits and square signs into others."""
    text = "ｶﾞﾗｽの㍻時代　１９５８年①番"
    pieces = ["ガラス", "の", "平成", "時代", "1958", "年", "1", "番"]
    assert shown(text, pieces) == ["ｶﾞﾗｽ", "の", "㍻", "時代", "１９５８", "年", "①", "番"]


def test_one_character_that_becomes_several_tokens():
    assert shown("㍻", ["平", "##成"]) == ["㍻", "㍻"]


def test_unknown_tokens_take_what_lies_between():
    text = "鬱蒼😀😀とした𠮷野家"
    pieces = ["鬱", "##蒼", None, "と", "し", "た", None, "野", "家"]
    found = ["鬱", "蒼", "😀😀", "と", "し", "た", "𠮷", "野", "家"]
    assert shown(text, pieces) == found


def test_unknown_tokens_side_by_side_share_what_there_is():
    assert shown("x 😀🎉 y", ["x", None, None, "y"]) == ["x", "😀", "🎉", "y"]


def test_the_known_token_behind_an_unknown_one_is_not_taken_from_inside_it():
    """The unknown word holds the character of the next token once more, in front of its end."""
    assert shown("aのxのb", ["a", None, "の", "b"]) == ["a", "のx", "の", "b"]


def test_what_a_tokenizer_made_up_is_treated_as_unknown():
    assert shown("ab cd", ["ab", "zz", "cd"])[0] == "ab"
    assert shown("ab ½ cd", ["ab", "0.5", "cd"]) == ["ab", "½", "cd"]
    assert all(0 <= a < b <= 5 for a, b in align("ab cd", ["ab", "zz", "cd"]))


def test_an_unknown_token_without_a_character_stays_inside_the_text():
    assert align("は゛", ["は", None])[1] == (1, 2)
    assert align("", []) == []


def test_a_skeleton_does_not_see_form_case_accents_and_space():
    assert skeleton("Ｃａｆé ｶﾞ") == skeleton("cafe\u0301ガ") == "cafeカ"


@pytest.mark.parametrize(
    ("span", "wanted"), [((1, 5), (2, 4)), ((0, 2), (1, 2)), ((2, 2), (2, 3)), ((9, 9), (5, 6))]
)
def test_spans_hold_no_white_space_and_one_character_at_least(span, wanted):
    assert trimmed("  ab  ", span) == wanted


@pytest.fixture
def japanese(tmp_path):
    """A BertJapaneseTokenizer: MeCab words, then word pieces; it knows no offsets."""
    pytest.importorskip("fugashi", reason="Japanese tokenizers need fugashi")
    pytest.importorskip("unidic_lite", reason="this one needs the dictionary unidic-lite")
    words = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "東京", "タワー", "は", "、", "1958",
             "年", "に", "完成", "し", "た", "。", "鬱", "##蒼", "と"]  # fmt: skip
    (tmp_path / "vocab.txt").write_text("\n".join(words))
    settings = {"tokenizer_class": "BertJapaneseTokenizer", "do_lower_case": False,
                "word_tokenizer_type": "mecab", "subword_tokenizer_type": "wordpiece",
                "mecab_kwargs": {"mecab_dic": "unidic_lite"}}  # fmt: skip
    (tmp_path / "tokenizer_config.json").write_text(json.dumps(settings))
    (tmp_path / "config.json").write_text(json.dumps({"model_type": "bert"}))
    return transformers.AutoTokenizer.from_pretrained(tmp_path)


def test_a_mecab_tokenizer_gets_its_characters(japanese):
    assert not japanese.is_fast
    text = "東京タワーは、１９５８年に 完成した。鬱蒼と😀した"
    ids, spans = tokens_with_spans(japanese, [text])[0]
    tokens = japanese.convert_ids_to_tokens(ids)
    pairs = [(token, text[a:b]) for token, (a, b) in zip(tokens, spans, strict=True)]
    assert ("1958", "１９５８") in pairs
    assert ("完成", "完成") in pairs
    assert ("[UNK]", "😀") in pairs
    assert all(token in ("[UNK]", "1958") or token.removeprefix("##") == t for token, t in pairs)


def test_alignment_agrees_with_a_tokenizer_that_knows(tiny_model):
    fast = transformers.AutoTokenizer.from_pretrained(tiny_model("bert"))
    texts = ["The good fire, bad fires!", "a b  c ~ the 12 gooding", "Fire—the € fire", ""]
    for text, (ids, spans) in zip(texts, tokens_with_spans(fast, texts), strict=True):
        tokens = fast.convert_ids_to_tokens(ids)
        pieces = [None if token == "[UNK]" else token for token in tokens]
        assert [trimmed(text, span) for span in align(text, pieces)] == spans


def test_byte_level_tokens_leave_out_the_space(tiny_model):
    fast = transformers.AutoTokenizer.from_pretrained(tiny_model("modernbert"))
    text = "a é b"
    ids, spans = tokens_with_spans(fast, [text])[0]
    assert {text[start:end] for start, end in spans} <= {"a", "é", "b", " "}
    assert len(ids) == len(spans)
