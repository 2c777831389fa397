import importlib

import pytest

from oofline.data import mecab
from oofline.data.mecab import Mecab, Word, dictionary_version
from oofline.errors import ConfigError

DICTIONARIES = {"ipadic": "ipadic", "unidic-lite": "unidic_lite"}


@pytest.fixture(params=list(DICTIONARIES))
def dictionary(request):
    pytest.importorskip("fugashi", reason="fugashi is not installed")
    pytest.importorskip(DICTIONARIES[request.param], reason=f"{request.param} is not installed")
    return request.param


def test_words_with_base_form_and_part_of_speech(dictionary):
    words = Mecab(dictionary).words("昨日走った。美しくない")
    assert words[:4] == [
        Word("昨日", "昨日", "名詞"), Word("走っ", "走る", "動詞"), Word("た", "た", "助動詞"),
        words[3],
    ]  # fmt: skip
    assert words[3].surface == "。"
    assert words[4] == Word("美しく", "美しい", "形容詞")


def test_unknown_words_keep_their_surface(dictionary):
    assert Mecab(dictionary).words("xyzzyplugh")[0][:2] == ("xyzzyplugh", "xyzzyplugh")


@pytest.mark.parametrize("text", ["", " ", "\n\t", "\u3000"])
def test_white_space_is_no_word(dictionary, text):
    assert Mecab(dictionary).words(text) == []


def test_nothing_behind_a_line_break_a_tab_or_a_zero_byte_is_lost(dictionary):
    surfaces = [word.surface for word in Mecab(dictionary).words("猫\n犬\t鳥\0馬 魚\u3000虫")]
    assert surfaces == list("猫犬鳥馬魚虫")


def test_a_very_long_text_is_analysed_whole(dictionary, monkeypatch):
    monkeypatch.setattr(mecab, "_LONGEST", 6)
    surfaces = [word.surface for word in Mecab(dictionary).words("猫と犬。" * 9)]
    assert "".join(surfaces) == "猫と犬。" * 9


def test_the_version_is_known(dictionary):
    name, _, version = dictionary_version(dictionary).partition(" ")
    assert name == dictionary
    assert version[0].isdigit()


@pytest.mark.parametrize("package", ["fugashi", "ipadic", "unidic-lite"])
def test_a_missing_package_is_named(package, monkeypatch):
    pytest.importorskip("fugashi", reason="fugashi is not installed")
    missing, real = package.replace("-", "_"), importlib.import_module

    def absent(name, *rest):
        if name == missing:
            raise ImportError(name)
        return real(name, *rest)

    monkeypatch.setattr(importlib, "import_module", absent)
    with pytest.raises(ConfigError, match=f"need the package {package}: pip install") as error:
        Mecab("unidic-lite" if package == "unidic-lite" else "ipadic")
    assert "\n" not in str(error.value)
