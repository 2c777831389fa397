"""Long texts as windows: nothing is lost or doubled but the overlap, and memory stays bounded."""

import itertools

import numpy as np
import pytest
import torch
from transformers import AutoTokenizer

from oofline.data.batches import collate, padding_waste, sorted_batches, split_by_inputs
from oofline.data.tokens import Cutting, tokenize
from oofline.data.windows import cut_windows
from oofline.models.backbone import load_tokenizer
from oofline.storage import Paths


@pytest.mark.parametrize("n", [0, 3, 8, 9, 14, 15, 30])
def test_windows_cover_a_text_and_share_the_overlap(n):
    ids = list(range(100, 100 + n))
    flat = cut_windows(ids, [1], [2], 10, 99, 2)
    windows = [flat[i : i + 10] for i in range(0, len(flat), 10)]
    assert all(w[0] == 1 and w[-1] == 2 for w in windows)
    bodies = [w[1:-1] for w in windows]
    assert bodies[0] + [i for body in bodies[1:] for i in body[2:]] == ids
    assert all(a[-2:] == b[:2] for a, b in itertools.pairwise(bodies))
    assert all(len(body) > 2 for body in bodies[1:])  # no window of nothing but overlap


def test_more_windows_than_allowed_are_cut():
    flat = cut_windows(list(range(100, 200)), [1], [2], 10, 3, 2)
    assert len(flat) == 30
    assert flat[-2] == 100 + 2 * 6 + 8 - 1


@pytest.fixture
def tokens(tmp_path, tiny_model):
    tokenizer = AutoTokenizer.from_pretrained(tiny_model("bert"))
    texts = ["good", "bad " * 6, "the " * 20, "fire " * 9]
    return tokenize(Paths("c", tmp_path), texts, tokenizer, Cutting(8, windows=3, overlap=2), "x")


def test_what_is_still_cut_is_reported(tokens):
    assert tokens.n_windows.tolist() == [1, 1, 3, 2]
    assert tokens.n_tokens.tolist() == [3, 8, 22, 11]
    lost = 20 - (3 * 6 - 2 * 2)
    report = tokens.truncation_report()
    assert "1.75 windows a row (3 at most): 1 of 4 rows (25.0%)" in report
    assert f"{lost / (3 + 8 + 22 + 11):.1%} of all tokens" in report


def test_a_batch_holds_the_windows_of_a_row_behind_each_other(tokens):
    batch = collate(tokens, np.array([2, 0, 3]), torch.device("cpu"))
    assert batch.input_ids.shape == (6, 8)
    assert batch.windows.tolist() == [3, 1, 2]
    flat = [
        i for ids, m in zip(batch.input_ids, batch.attention_mask, strict=True) for i in ids[m == 1]
    ]
    assert flat == [*tokens[2].tolist(), *tokens[0].tolist(), *tokens[3].tolist()]
    twice = batch.repeat(2)
    assert twice.input_ids.shape == (12, 8)
    assert twice.windows.tolist() == [3, 1, 2] * 2
    assert collate(tokens, np.array([0, 1]), torch.device("cpu")).windows is None


def test_a_pass_holds_a_bounded_number_of_windows(tokens):
    rows, windows = np.array([2, 0, 3, 1, 2]), tokens.n_windows
    parts = split_by_inputs(rows, windows, 4)
    assert [part.tolist() for part in parts] == [[2, 0], [3, 1], [2]]
    assert [p.tolist() for p in split_by_inputs(rows, windows, 1)] == [[2], [0], [3], [1], [2]]
    for part in sorted_batches(tokens.lengths, 3, windows):
        assert windows[part].sum() <= 3
    assert [p.tolist() for p in split_by_inputs(rows, None, 2)] == [[2, 0], [3, 1], [2]]


def test_padding_counts_windows(tokens):
    computed = 8 * 3 + 8 * 2  # rows 2 and 3 in one batch: five windows of 8
    kept = tokens.lengths[[2, 3]].sum()
    waste = padding_waste(tokens.lengths[[2, 3]], [np.arange(2)], 8)
    assert waste == pytest.approx(1 - kept / computed)


def test_windows_as_rows_hold_every_token_once(tmp_path, tiny_model):
    tokenizer = load_tokenizer(str(tiny_model("bert")))
    texts = ["good", "the bad fire a b c " * 5, "fire"]
    tokens = tokenize(Paths("c", tmp_path), texts, tokenizer, Cutting(8, windows=100), "train")
    rows, owner = tokens.as_windows()
    assert owner.tolist() == [0] + [1] * 5 + [2]
    assert rows.lengths.max() == 8
    bare = [i for i in rows[2] if i not in (tokenizer.cls_token_id, tokenizer.sep_token_id)]
    assert bare == tokenizer(texts[1], add_special_tokens=False)["input_ids"][6:12]
    joined = np.concatenate([rows[i] for i in range(len(rows)) if owner[i] == 1])
    assert joined.tolist() == tokens[1].tolist()
