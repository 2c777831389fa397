"""Pairs: what makes two of them equal, which share a sentence, and how they are tokenised."""

import numpy as np
import pytest
import torch
from transformers import AutoTokenizer

from oofline.config import CFG
from oofline.data.batches import collate
from oofline.data.folds import ensure_folds
from oofline.data.pairs import crossing, key, with_shared_sentences
from oofline.data.tokens import Cutting, tokenize
from oofline.errors import ConfigError
from oofline.storage import Paths

PAIRS = [("a good day", "bad"), ("the", "fire"), ("bad", "the a"), ("x", "y")]


def test_the_order_of_a_symmetric_pair_means_nothing():
    assert key(("b", "a"), True) == key(("a", "b"), True)
    assert key(("b", "a"), False) != key(("a", "b"), False)


def test_groups_are_joined_by_a_shared_sentence():
    merged = with_shared_sentences(PAIRS, np.arange(4))
    assert merged.tolist() == [0, 1, 0, 2]  # "bad" stands in the first and in the third
    assert with_shared_sentences(PAIRS, np.array([0, 1, 2, 1])).tolist() == [0, 1, 0, 1]


def test_sentences_in_several_folds_are_counted():
    assert crossing(PAIRS, np.array([0, 0, 1, 1])) == (1, 7, 2)
    assert crossing(PAIRS, np.array([0, 1, 0, 1])) == (0, 7, 0)
    assert crossing([("A  b", "c"), ("d", "a b")], np.array([0, 1]))[0] == 1  # normalised


def pairs(write, n=60):
    left = [f"storm over bridge number {i // 2}" for i in range(n)]
    right = [f"quiet garden of market {i * 7}" for i in range(n)]
    train, test = {"text": left, "other": right}, {"other": ["quiet garden of market"] * 3}
    write(target=[0, 1, 1] * (n // 3), train=train, test=test)


@pytest.mark.parametrize("together", [False, True])
def test_pairs_that_share_a_sentence_can_stay_together(write, read, paths, together):
    pairs(write)
    cfg = CFG(comp="toy", n_folds=3, pair_groups=together, near_duplicates=0)
    competition = read(n_folds=3, pair_groups=together)
    folds, _ = ensure_folds(cfg, paths, competition)
    count = crossing(competition.train_pairs, folds.fold)[0]
    (line,) = [line for line in folds.summary if line.startswith("texts of pairs")]
    assert f"{count} of 90 different texts" in line
    assert (count == 0) == together
    assert ("pair_groups = true" in line) != together


@pytest.mark.parametrize("family", ["bert", "roberta"])
def test_pairs_are_encoded_as_the_tokenizer_does(tmp_path, tiny_model, family):
    tokenizer = AutoTokenizer.from_pretrained(tiny_model(family))
    tokens = tokenize(Paths("c", tmp_path), PAIRS, tokenizer, Cutting(64), "train")
    batch = collate(tokens, np.arange(4), torch.device("cpu"))
    for row, (left, right) in enumerate(PAIRS):
        own = tokenizer(left, right, return_token_type_ids=True)
        n = len(own["input_ids"])
        assert batch.input_ids[row, :n].tolist() == own["input_ids"]
        assert batch.token_type_ids[row, :n].tolist() == own["token_type_ids"]
        assert batch.attention_mask[row].sum() == n


@pytest.mark.parametrize("family", ["llama", "qwen2"])
def test_the_texts_of_a_pair_stay_apart_in_a_decoder(tmp_path, tiny_model, family):
    """Llama's tokenizer repeats the start token between them; Qwen's puts nothing there."""
    tokenizer = AutoTokenizer.from_pretrained(tiny_model(family))
    tokens = tokenize(Paths("c", tmp_path), PAIRS, tokenizer, Cutting(64), "train")
    between = "\n" if family == "qwen2" else ""
    for row, (left, right) in enumerate(PAIRS):
        assert tokens[row].tolist() == tokenizer(left, between + right)["input_ids"]
        assert tokens.first[row] == len(tokenizer(left)["input_ids"])
    assert tokenizer("\n")["input_ids"][-1] not in tokenizer("a good day")["input_ids"]


def test_the_longer_text_of_a_pair_is_cut_first(tmp_path, tiny_model):
    tokenizer = AutoTokenizer.from_pretrained(tiny_model("bert"))
    long = [("the a " * 20, "good bad"), ("fire", "good " * 30)]
    tokens = tokenize(Paths("c", tmp_path), long, tokenizer, Cutting(12), "train")
    for row, (left, right) in enumerate(long):
        own = tokenizer(left, right, truncation="longest_first", max_length=12)["input_ids"]
        assert tokens[row].tolist() == own
    assert tokens.lengths.tolist() == [12, 12]
    assert tokens.n_tokens.tolist() == [40 + 2 + 3, 1 + 30 + 3]
    assert "2 of 2 rows" in tokens.truncation_report()


def test_both_orders_are_stored_behind_each_other(tmp_path, tiny_model):
    tokenizer = AutoTokenizer.from_pretrained(tiny_model("bert"))
    cutting = Cutting(64, both_orders=True)
    tokens = tokenize(Paths("c", tmp_path), PAIRS, tokenizer, cutting, "train")
    assert (len(tokens), tokens.n_rows, tokens.orders) == (8, 4, 2)
    for row, (left, right) in enumerate(PAIRS):
        assert tokens[row].tolist() == tokenizer(left, right)["input_ids"]
        assert tokens[row + 4].tolist() == tokenizer(right, left)["input_ids"]


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"pair_col": "b", "truncation": "head+tail"}, "longest text first"),
        ({"pair_swap": "train", "windows": 2}, "longest text first"),
        ({"pair_col": "none", "pair_swap": "train"}, "leave one out"),
        ({"windows": 2, "truncation": "head+tail"}, "from its start"),
        ({"windows": 2, "max_len": 64, "window_stride": 40}, "hardly move on"),
    ],
)
def test_settings_that_contradict_each_other(settings, words):
    with pytest.raises(ConfigError, match=words):
        CFG(**settings)
