import pytest

from oofline.config import CFG
from oofline.data import words
from oofline.data.words import analyse, split_words, splitter_of
from oofline.storage import Paths

TEXTS = ["この商品はとても良い", "美しくなかった。", "", "スマホが壊れた！", "the fire"]


@pytest.fixture
def paths(tmp_path):
    pytest.importorskip("fugashi", reason="fugashi is not installed")
    pytest.importorskip("ipadic", reason="ipadic is not installed")
    return Paths("toy", tmp_path)


@pytest.mark.parametrize(("setting", "texts", "splitter"), [
    ("auto", TEXTS[:3], "mecab"), ("auto", ["the fire is out"], "spaces"),
    ("spaces", TEXTS, "spaces"), ("mecab", ["the fire"], "mecab"),
])  # fmt: skip
def test_the_language_chooses_the_splitter(setting, texts, splitter):
    assert splitter_of(CFG(word_splitter=setting), texts) == splitter


def test_words_between_spaces_and_marks(tmp_path):
    (found,) = split_words(CFG(), Paths("toy", tmp_path), ["Don't go - #fire!! été 🔥"], "spaces")
    assert found == ["Don't", "go", "-", "#", "fire", "!", "!", "été", "🔥"]
    assert not list(tmp_path.iterdir())


def test_base_form_surface_and_parts_of_speech(paths):
    text = ["とても美しくなかった"]
    assert split_words(CFG(), paths, text, "mecab")[0][:2] == ["とても", "美しい"]
    surface = split_words(CFG(word_form="surface"), paths, text, "mecab")[0]
    assert "".join(surface) == text[0]
    adjectives = split_words(CFG(word_pos="形容詞, 名詞"), paths, text, "mecab")
    assert adjectives == [["美しい"]]
    assert split_words(CFG(word_pos="名詞"), paths, text, "mecab") == [[]]


def test_texts_are_analysed_once_for_all_settings(paths, monkeypatch):
    first = split_words(CFG(), paths, TEXTS, "mecab")
    monkeypatch.setattr(words, "_analysed", lambda *_: pytest.fail("it stands in the cache"))
    assert split_words(CFG(), paths, TEXTS, "mecab") == first
    split_words(CFG(word_form="surface", word_pos="名詞"), paths, TEXTS, "mecab")


def test_other_texts_and_another_dictionary_are_analysed_anew(paths):
    analyse(paths, TEXTS, "ipadic")
    analyse(paths, TEXTS[::-1], "ipadic")
    assert len(list((paths.cache / "words").iterdir())) == 2
    pytest.importorskip("unidic_lite", reason="unidic-lite is not installed")
    analyse(paths, TEXTS, "unidic-lite")
    assert len(list((paths.cache / "words").iterdir())) == 3


def test_several_processes_find_the_same_words_in_the_same_order(paths, monkeypatch):
    texts = [f"{text} {number}" for number in range(8) for text in TEXTS]
    alone = analyse(paths, texts, "ipadic")
    for path in (paths.cache / "words").iterdir():
        path.unlink()
    monkeypatch.setattr(words, "PARALLEL_CHARACTERS", 10)
    monkeypatch.setattr(words, "_CHUNK", 7)
    monkeypatch.setattr(words.os, "sched_getaffinity", lambda _: {0, 1}, raising=False)
    monkeypatch.setattr(words, "Mecab", lambda *_: pytest.fail("not in this process"))
    assert analyse(paths, texts, "ipadic") == alone
