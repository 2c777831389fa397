import numpy as np
import pytest
from transformers import AutoTokenizer

from oofline.data.tokens import Cutting, cache_key, special_tokens, tokenize, truncate
from oofline.storage import Paths

TEXTS = ["good fire", "", "the bad the bad the bad", "a b c d e f g h", "good"] * 500


@pytest.fixture
def tokenizer(tiny_model):
    return AutoTokenizer.from_pretrained(tiny_model("bert"))


def test_rows_equal_the_tokenizers_own_ids(tmp_path, tokenizer):
    tokens = tokenize(Paths("c", tmp_path), TEXTS, tokenizer, Cutting(64), "train")
    assert len(tokens) == len(TEXTS)
    for row in (0, 1, 3, 999, 1000, 1001, 2499):  # across the chunks of the Arrow file
        assert tokens[row].tolist() == tokenizer(TEXTS[row])["input_ids"]
    assert tokens.lengths.tolist() == [len(tokenizer(t)["input_ids"]) for t in TEXTS]


def test_second_call_reads_the_cache_as_a_memory_map(tmp_path, tokenizer, monkeypatch):
    paths = Paths("c", tmp_path)
    first = tokenize(paths, TEXTS, tokenizer, Cutting(64), "train")
    monkeypatch.setattr("oofline.data.tokens._write", lambda *a: pytest.fail("tokenised twice"))
    second = tokenize(paths, TEXTS, tokenizer, Cutting(64), "train")
    assert all((first[i] == second[i]).all() for i in range(0, len(TEXTS), 97))
    assert not second[0].flags.writeable  # a view into the file, not a copy
    assert [p.suffix for p in (paths.cache / "tokens").iterdir()] == [".arrow"]


def test_cache_key_follows_everything_that_the_ids_depend_on(tokenizer, tiny_model):
    key = cache_key(TEXTS, tokenizer, Cutting(64))
    other = AutoTokenizer.from_pretrained(tiny_model("roberta"))
    assert key == cache_key(list(TEXTS), tokenizer, Cutting(64))
    assert len({
        key, cache_key(TEXTS, tokenizer, Cutting(63)), cache_key(TEXTS, other, Cutting(64)),
        cache_key(TEXTS, tokenizer, Cutting(64, "head+tail")),
        cache_key(TEXTS[1:], tokenizer, Cutting(64)),
        cache_key(["good fir", "e", *TEXTS[1:]], tokenizer, Cutting(64)),
    }) == 6  # fmt: skip


def test_an_earlier_call_with_truncation_changes_nothing(tmp_path, tokenizer):
    key = cache_key(TEXTS, tokenizer, Cutting(64))
    tokenizer(TEXTS[:3], truncation=True, max_length=4, padding=True)
    assert cache_key(TEXTS, tokenizer, Cutting(64)) == key
    tokens = tokenize(Paths("c", tmp_path), TEXTS, tokenizer, Cutting(64), "train")
    assert tokens.lengths.max() > 4


@pytest.mark.parametrize(
    ("how", "kept"),
    [("head", [0, 1, 2, 3, 4, 5, 6, 7]), ("head+tail", [0, 1, 14, 15, 16, 17, 18, 19])],
)
def test_truncation_keeps_what_it_says(how, kept):
    assert truncate(list(range(20)), 8, how) == kept
    assert truncate(list(range(8)), 8, how) == list(range(8))


def test_truncated_rows_keep_their_special_tokens_and_are_counted(tmp_path, tokenizer):
    texts = ["a b c d e f g h i j", "a b", "c"]
    tokens = tokenize(Paths("c", tmp_path), texts, tokenizer, Cutting(6, "head+tail"), "train")
    ids = tokenizer.convert_ids_to_tokens(tokens[0].tolist())
    assert ids == ["[CLS]", "a", "h", "i", "j", "[SEP]"]
    assert tokens.n_tokens.tolist() == [12, 4, 3]
    assert "1 of 3 rows (33.3%) lose tokens, 31.6% of all tokens (longest 12)" in (
        tokens.truncation_report()
    )


@pytest.mark.parametrize("family", ["bert", "roberta", "modernbert"])
def test_special_tokens_of_each_family(tiny_model, family):
    tokenizer = AutoTokenizer.from_pretrained(tiny_model(family))
    assert special_tokens(tokenizer) == ([2], [3])


def test_empty_texts_alone_do_not_break(tmp_path, tokenizer):
    tokens = tokenize(Paths("c", tmp_path), ["", ""], tokenizer, Cutting(8), "test")
    assert np.array_equal(tokens[1], [2, 3])


@pytest.mark.parametrize(("family", "ids"), [("llama", [2]), ("qwen2", [3]), ("gemma", [2])])
def test_an_empty_text_of_a_decoder_is_one_token(tmp_path, tiny_model, family, ids):
    """Qwen's tokenizer adds no special tokens: the end of text stands for nothing."""
    tokenizer = AutoTokenizer.from_pretrained(tiny_model(family))
    tokens = tokenize(Paths("c", tmp_path), ["", "", "ab"], tokenizer, Cutting(8), "train")
    assert [tokens[row].tolist() for row in (0, 1)] == [ids, ids]
    assert tokens[2].tolist() == tokenizer("ab")["input_ids"]
    assert tokens.lengths.tolist()[:2] == tokens.n_tokens.tolist()[:2] == [1, 1]
