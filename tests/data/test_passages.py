"""Questions with contexts: windows that hold every token, and tokens that know their characters."""

import numpy as np
import pytest
import torch
import transformers

from oofline.data.batches import collate
from oofline.data.pairs import Passage
from oofline.data.passages import pair_tokens, places, token_labels
from oofline.data.tokens import Cutting, tokenize
from oofline.errors import ConfigError
from oofline.results import Answer
from oofline.storage import Paths

CPU = torch.device("cpu")
CONTEXT = "the good fire a b c the bad 12 fires and so on a b c d e f g h the end"


@pytest.fixture
def read(tmp_path, tiny_model):
    """read(passages, max_len, doc_stride, family) -> (tokenizer, Tokens)."""

    def make(passages, max_len=16, doc_stride=4, family="bert"):
        tokenizer = transformers.AutoTokenizer.from_pretrained(tiny_model(family))
        cutting = Cutting(max_len, doc_stride=doc_stride)
        return tokenizer, tokenize(Paths("c", tmp_path), passages, tokenizer, cutting, "train")

    return make


def windows_of(tokens, row):
    ids = tokens[row].tolist()
    return [ids[i : i + tokens.max_len] for i in range(0, len(ids), tokens.max_len)]


def test_a_short_pair_is_what_the_tokenizer_makes_of_it(read):
    tokenizer, tokens = read([Passage("a b", "the fire")], max_len=24)
    assert tokens[0].tolist() == tokenizer("a b", "the fire")["input_ids"]
    assert tokens.n_windows.tolist() == [1]


@pytest.mark.parametrize("doc_stride", [0, 3, 99])
def test_windows_hold_every_token_and_overlap(read, doc_stride):
    tokenizer, tokens = read([Passage("what is good", CONTEXT)], 16, doc_stride)
    question, context = (
        tokenizer(t, add_special_tokens=False)["input_ids"] for t in ("what is good", CONTEXT)
    )
    head = [2, *question[:6], 3]  # a question may take half of what special tokens leave
    windows = windows_of(tokens, 0)
    assert all(len(window) == 16 for window in windows[:-1])
    assert all(window[: len(head)] == head and window[-1] == 3 for window in windows)
    parts = [window[len(head) : -1] for window in windows]
    shared = min(doc_stride, (16 - len(head) - 1) // 2)
    joined = parts[0] + [token for part in parts[1:] for token in part[shared:]]
    assert joined == context
    if shared:
        assert parts[0][-shared:] == parts[1][:shared]


def test_places_point_at_the_tokens_of_every_window(read):
    passages = [Passage("a", CONTEXT), Passage("a b c", "the fire"), Passage("", CONTEXT[:30])]
    tokenizer, tokens = read(passages)
    batch = collate(tokens, np.array([2, 0, 1]), CPU)
    flat = batch.input_ids.flatten()
    for row, source in enumerate([2, 0, 1]):
        ids = tokenizer(passages[source].context, add_special_tokens=False)["input_ids"]
        found = batch.places[row]
        for token, copies in enumerate(found[: len(ids)]):
            held = [flat[place].item() for place in copies if place >= 0]
            assert held
            assert set(held) == {ids[token]}
        assert (found[len(ids) :] == -1).all()
    assert (batch.places[1, :, 1] >= 0).any()  # some stand in two windows


def test_no_token_stands_in_more_than_two_windows():
    for part, overlap, count in [(5, 2, 23), (4, 9, 17), (7, 3, 7), (6, 0, 20)]:
        step = part - min(overlap, part // 2)
        n_windows = 1 + max(0, -(-(count - part) // step))
        found = places(
            np.array([count]), np.array([2]), np.array([n_windows]), np.array([part]), overlap, 50
        )
        for token in range(count):
            wanted = {
                w * 50 + 2 + token - w * step
                for w in range(n_windows)
                if w * step <= token < w * step + part
            }
            assert set(found[0, token].tolist()) - {-1} == wanted


def test_copies_of_a_batch_point_into_their_own_windows(read):
    _, tokens = read([Passage("a", CONTEXT), Passage("b", "the fire")])
    batch = collate(tokens, np.array([0, 1]), CPU)
    twice = batch.repeat(2)
    size = batch.input_ids.numel()
    first, second = twice.places.chunk(2)
    assert torch.equal(first, batch.places)
    assert torch.equal(second, torch.where(batch.places < 0, -1, batch.places + size))
    flat = twice.input_ids.flatten()
    assert torch.equal(flat[first[0, :, 0]], flat[second[0, :, 0]])


@pytest.mark.parametrize("family", ["bert", "modernbert"])
def test_labels_are_the_tokens_of_the_answer(read, family):
    _, tokens = read([Passage("q", CONTEXT)] * 3, family=family)
    answers = ["bad 12 fires", "the good", "the end"]
    starts = [CONTEXT.index(text) for text in answers]
    y = np.array([Answer(CONTEXT, *pair) for pair in zip(answers, starts, strict=True)], object)
    spans = tokens.characters(0)
    for answer, (first, last) in zip(y, tokens.labels(y), strict=True):
        assert CONTEXT[spans[first, 0] : spans[last, 1]] == answer.text


def test_answers_inside_tokens_take_the_token():
    spans = np.array([[0, 3], [4, 9], [9, 10], [11, 15]])
    assert token_labels(spans, 5, 7) == (1, 1)
    assert token_labels(spans, 3, 10) == (1, 2)  # starts at a space
    assert token_labels(spans, 12, 99) == (3, 3)
    assert token_labels(spans, 40, 41) == (3, 3)


def test_the_report_counts_windows_and_cut_questions(read):
    _, tokens = read([Passage("a", CONTEXT), Passage("a b c d e f g h i j", "the fire")])
    report = tokens.truncation_report()
    assert "windows a row" in report
    assert "1 of 2 rows (50.0%) lose tokens" in report


def test_another_stride_is_another_cache(read, tmp_path):
    read([Passage("a", CONTEXT)], doc_stride=2)
    read([Passage("a", CONTEXT)], doc_stride=4)
    assert len(list((tmp_path / "output" / ".cache" / "tokens").glob("*.arrow"))) == 2


def test_an_empty_context_has_no_tokens_and_no_answer(read):
    _, tokens = read([Passage("a", ""), Passage("a", "the fire")])
    assert tokens.n_windows.tolist() == [1, 1]
    assert len(tokens.characters(0)) == 0
    assert (collate(tokens, np.array([0]), CPU).places == -1).all()


def test_no_room(read):
    with pytest.raises(ConfigError, match="max_len = 6 leaves no room"):
        read([Passage("a", "b")], max_len=6)


def test_special_tokens_of_a_pair(tiny_model):
    tokenizer = transformers.AutoTokenizer.from_pretrained(tiny_model("bert"))
    assert pair_tokens(tokenizer) == ([2], [3], [3])
