import pytest

from oofline.data.language import (
    language_notes,
    language_of,
    main_language,
    sample,
    script_of,
    script_shares,
)

JAPANESE = "この商品はとても良いです。スマホカバー"


@pytest.mark.parametrize(("character", "script"), [
    ("a", "Latin"), ("é", "Latin"), ("Ａ", "Latin"), ("あ", "Hiragana"), ("ア", "Katakana"),
    ("ｱ", "Katakana"), ("ー", "Katakana"), ("漢", "Han"), ("々", "Han"), ("한", "Hangul"),
    ("ж", "Cyrillic"), ("1", ""), ("。", ""), (" ", ""), ("🔥", ""),
])  # fmt: skip
def test_scripts(character, script):
    assert script_of(character) == script


def test_shares_are_of_letters_only():
    assert script_shares(["ab!!", "漢字  12"]) == {"Latin": 0.5, "Han": 0.5}
    assert script_shares(["12 !?", ""]) == {}


@pytest.mark.parametrize(("text", "language"), [
    (JAPANESE, "Japanese"), ("我们今天去学校", "Chinese"), ("안녕하세요 여러분", "Korean"),
    ("the fire is in the forest and it was not out", "English"),
    ("der Wald ist nicht mit dem Auto auf der Karte", "German"),
    ("le chat est dans la maison et il ne dort pas", "French"),
    ("Привет как дела", "Cyrillic script"), ("xyzzy plugh", ""), ("123 !!", ""), ("", ""),
])  # fmt: skip
def test_languages(text, language):
    assert language_of(text) == language


def test_a_japanese_corpus_may_hold_texts_in_kanji_alone():
    assert main_language([JAPANESE, "最高", "満足", "満足", JAPANESE]) == "Japanese"
    assert main_language(["最高", "满足"]) == "Chinese"
    assert main_language(["", "12"]) == ""


def test_notes_name_language_and_scripts():
    (note,) = language_notes([JAPANESE] * 3, [JAPANESE])
    assert note.startswith("language: Japanese; letters: Hiragana ")
    assert "Katakana" in note
    assert "Han" in note


def test_texts_that_are_written_differently_in_test_are_reported():
    notes = language_notes(["the fire is out"], [JAPANESE])
    assert len(notes) == 2
    assert "train and test are written differently" in notes[1]
    assert "Latin 100% and 0%" in notes[1]
    assert language_notes([], [])[0].startswith("language: not recognised; letters: none")


def test_samples_are_spread_over_all_texts():
    texts = [str(i) for i in range(1001)]
    assert sample(texts, 3) == ["0", "500", "1000"]
    assert sample(texts, 2000) == texts
