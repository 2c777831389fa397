"""Japanese BERT folders, in the layouts that the hub has them in."""

import json
import shutil
from pathlib import Path

import pytest

from oofline.data.tokens import Cutting, cache_key
from oofline.errors import ConfigError
from oofline.models import japanese
from oofline.models.backbone import load_tokenizer

SHARED = Path(__file__).parents[3] / "shared" / "data" / "vocab-ja"
WORDS = ["日本", "商品", "予定", "満足", "残念", "値段", "とても", "良い", "美しい", "です"]
SENTENCE = "商品はとても良い"
OLD = {"do_lower_case": False, "word_tokenizer_type": "mecab",
       "subword_tokenizer_type": "wordpiece"}  # fmt: skip


@pytest.fixture(autouse=True)
def packages():
    for name in ("fugashi", "ipadic", "unidic_lite"):
        pytest.importorskip(name, reason=f"{name} is not installed")


@pytest.fixture
def folder(tmp_path):
    """folder(config, tokenizer config) -> a folder with a Japanese vocabulary."""

    def make(config=None, tokenizer=None, words=WORDS):
        path = tmp_path / f"model{len(list(tmp_path.iterdir()))}"
        path.mkdir()
        characters = sorted(set("".join(words) + "はがを。0123456789"))
        vocabulary = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *words, *characters]
        vocabulary += [f"##{c}" for c in characters]
        (path / "vocab.txt").write_text("\n".join(dict.fromkeys(vocabulary)), encoding="utf-8")
        base = {"model_type": "bert", "vocab_size": len(vocabulary)}
        (path / "config.json").write_text(json.dumps(base | (config or {})))
        if tokenizer is not None:
            (path / "tokenizer_config.json").write_text(json.dumps(tokenizer))
        return path

    return make


def test_the_class_may_stand_in_either_file(folder):
    new = {"tokenizer_class": "BertJapaneseTokenizer", **OLD,
           "mecab_kwargs": {"mecab_dic": "unidic_lite"}}  # fmt: skip
    for path in (folder({}, new), folder({"tokenizer_class": "BertJapaneseTokenizer"}, OLD)):
        assert load_tokenizer(str(path)).tokenize(SENTENCE) == ["商品", "は", "とても", "良い"]


def test_a_folder_without_a_dictionarys_name_was_made_with_ipadic(folder):
    old = load_tokenizer(str(folder({"tokenizer_class": "BertJapaneseTokenizer"}, OLD)))
    assert old.mecab_kwargs == {"mecab_dic": "ipadic"}
    named = OLD | {"tokenizer_class": "BertJapaneseTokenizer",
                   "mecab_kwargs": {"mecab_dic": "unidic_lite"}}  # fmt: skip
    assert load_tokenizer(str(folder({}, named))).mecab_kwargs == {"mecab_dic": "unidic_lite"}


def test_what_is_saved_beside_a_model_keeps_its_dictionary(folder, tmp_path):
    path = folder({"tokenizer_class": "BertJapaneseTokenizer"}, OLD)
    load_tokenizer(str(path)).save_pretrained(tmp_path / "saved")
    shutil.copy(path / "config.json", tmp_path / "saved")
    again = load_tokenizer(str(tmp_path / "saved"))
    assert again.mecab_kwargs == {"mecab_dic": "ipadic"}
    assert again.tokenize(SENTENCE) == ["商品", "は", "とても", "良い"]


def test_token_caches_of_two_dictionaries_are_told_apart(folder):
    def make(dictionary):
        named = {
            "tokenizer_class": "BertJapaneseTokenizer",
            "mecab_kwargs": {"mecab_dic": dictionary},
        }
        return load_tokenizer(str(folder({}, OLD | named)))

    keys = [cache_key([SENTENCE], make(d), Cutting(8)) for d in ("ipadic", "unidic_lite", "ipadic")]
    assert keys[0] == keys[2] != keys[1]


@pytest.mark.parametrize("tokenizer", [None, OLD, {"do_lower_case": False}])
def test_a_folder_that_would_load_as_single_characters_is_refused(folder, tokenizer):
    with pytest.raises(ConfigError, match="has the word 日本, but its tokenizer") as error:
        load_tokenizer(str(folder({}, tokenizer)))
    assert '"tokenizer_class": "BertJapaneseTokenizer"' in str(error.value)
    assert "\n" not in str(error.value)


def test_a_folder_that_does_not_say_how_words_are_found_is_refused(folder):
    path = folder({"tokenizer_class": "BertJapaneseTokenizer"}, {"do_lower_case": False})
    with pytest.raises(ConfigError, match="names no word tokenizer"):
        load_tokenizer(str(path))


def test_a_vocabulary_of_single_characters_is_meant_so(folder):
    path = folder({}, {"do_lower_case": False}, words=list("日本商品予定満足"))
    assert load_tokenizer(str(path)).tokenize("日本") == ["日", "本"]


@pytest.mark.parametrize(("dictionary", "package"), [
    ("ipadic", "ipadic"), ("unidic_lite", "unidic-lite"), ("ipadic", "fugashi"),
])  # fmt: skip
def test_a_missing_package_is_named(folder, monkeypatch, dictionary, package):
    found = japanese.importlib.util.find_spec
    missing = package.replace("-", "_")
    monkeypatch.setattr(
        japanese.importlib.util, "find_spec", lambda n: None if n == missing else found(n)
    )
    settings = OLD | {"tokenizer_class": "BertJapaneseTokenizer",
                      "mecab_kwargs": {"mecab_dic": dictionary}}  # fmt: skip
    with pytest.raises(ConfigError, match=f"needs the package {package}: pip install"):
        load_tokenizer(str(folder({}, settings)))


@pytest.mark.skipif(not SHARED.is_dir(), reason="the vocabulary of bert-base-japanese-v3 is absent")
def test_the_vocabulary_of_bert_base_japanese_v3(tmp_path):
    tokenizer = load_tokenizer(str(SHARED))
    text = "とても美しいスマホカバーが届きました。"
    assert tokenizer.tokenize(text) == [
        "とても", "美しい", "スマホ", "##カ", "##バー", "が", "届", "##き", "まし", "た", "。",
    ]  # fmt: skip
    for name in ("vocab.txt", "config.json"):
        shutil.copy(SHARED / name, tmp_path)
    with pytest.raises(ConfigError, match="as single characters"):
        load_tokenizer(str(tmp_path))
