import numpy as np
import pytest
import torch
from transformers import AutoTokenizer

from oofline.data.batches import collate, padding_waste, shuffled_batches, sorted_batches
from oofline.data.tokens import Cutting, tokenize
from oofline.storage import Paths

LENGTHS = np.random.default_rng(0).lognormal(3.3, 0.5, 3001).astype(np.int64) + 4


def test_every_row_once_in_full_batches_but_one():
    batches = shuffled_batches(LENGTHS, 16, seed=1, epoch=0)
    assert sorted(np.concatenate(batches).tolist()) == list(range(3001))
    assert sorted(len(b) for b in batches)[:2] == [9, 16]


def test_order_is_seeded_and_other_each_epoch():
    def flat(seed, epoch):
        return np.concatenate(shuffled_batches(LENGTHS, 16, seed, epoch)).tolist()

    assert flat(1, 0) == flat(1, 0)
    assert flat(1, 0) != flat(1, 1)
    assert flat(1, 0) != flat(2, 0)


def test_which_rows_meet_differs_between_epochs():
    def pairs(epoch):
        return {frozenset(b[:2].tolist()) for b in shuffled_batches(LENGTHS, 16, 1, epoch)}

    assert len(pairs(0) & pairs(1)) <= 2


def test_global_random_state_is_neither_used_nor_changed():
    np.random.seed(3)
    before = np.random.get_state()[1].copy()
    first = shuffled_batches(LENGTHS, 16, 1, 0)
    torch.manual_seed(9)
    second = shuffled_batches(LENGTHS, 16, 1, 0)
    assert all((a == b).all() for a, b in zip(first, second, strict=True))
    assert (np.random.get_state()[1] == before).all()


def test_bucketing_wastes_little():
    random = [np.arange(i, min(i + 16, 3001)) for i in range(0, 3001, 16)]
    assert padding_waste(LENGTHS, random) > 0.5
    assert padding_waste(LENGTHS, shuffled_batches(LENGTHS, 16, 1, 0)) < 0.05


def test_short_batches_are_not_all_at_one_end():
    means = [LENGTHS[b].mean() for b in shuffled_batches(LENGTHS, 16, 1, 0)]
    assert abs(np.corrcoef(means, np.arange(len(means)))[0, 1]) < 0.25


def test_prediction_batches_start_with_the_longest():
    batches = sorted_batches(LENGTHS, 64)
    assert LENGTHS.max() == LENGTHS[batches[0][0]]
    assert sorted(np.concatenate(batches).tolist()) == list(range(3001))


@pytest.fixture
def tokens(tmp_path, tiny_model):
    tokenizer = AutoTokenizer.from_pretrained(tiny_model("bert"))
    texts = ["a b c", "a", "d e f", "good fire"]
    return tokenize(Paths("c", tmp_path), texts, tokenizer, Cutting(16), "train")


def test_collate_pads_to_the_longest_and_masks_the_rest(tokens):
    ids, mask, *_ = collate(tokens, np.array([1, 0]), torch.device("cpu"))
    assert ids.dtype == mask.dtype == torch.int64
    assert ids.shape == (2, 5)
    assert mask.tolist() == [[1, 1, 1, 0, 0], [1, 1, 1, 1, 1]]
    assert ids[0, 3:].tolist() == [tokens.pad_id] * 2


def test_collate_without_padding_needs_no_mask(tokens):
    assert collate(tokens, np.array([0, 2]), torch.device("cpu"))[1] is None
    ids, mask, *_ = collate(tokens, np.array([0, 2]), torch.device("cpu"), multiple=8)
    assert ids.shape == (2, 8)
    assert mask.sum(1).tolist() == [5, 5]
