"""Which tokens are hidden: shares, words, padding, and never a special token."""

import pytest
import torch

from oofline.errors import ConfigError
from oofline.models.backbone import load_tokenizer
from oofline.models.masking import build_masking, continuations


@pytest.fixture
def tokenizer(tiny_model):
    return load_tokenizer(str(tiny_model("bert")))


def batch(tokenizer, texts):
    found = tokenizer(texts, padding=True, return_tensors="pt")
    return found["input_ids"], found["attention_mask"]


def test_shares_are_those_of_the_paper(tokenizer):
    masking = build_masking(tokenizer, len(tokenizer), 0.15, False)
    ids, mask = batch(tokenizer, ["the good fire " * 60] * 64)
    seen, chosen = masking(ids, mask, torch.Generator().manual_seed(1))
    share = chosen.sum() / (mask.sum() - 2 * len(ids))
    assert share == pytest.approx(0.15, abs=0.01)
    hidden = (seen == tokenizer.mask_token_id) & chosen
    changed = chosen & (seen != ids) & ~hidden
    assert hidden.sum() / chosen.sum() == pytest.approx(0.8, abs=0.03)
    assert changed.sum() / chosen.sum() == pytest.approx(0.1, abs=0.03)
    assert seen[~chosen].equal(ids[~chosen])


def test_special_tokens_and_padding_are_neither_chosen_nor_drawn(tokenizer):
    masking = build_masking(tokenizer, len(tokenizer) + 7, 0.9, False)  # rows beyond the tokens
    ids, mask = batch(tokenizer, ["good", "bad fire the good bad " * 9])
    special = torch.tensor(tokenizer.all_special_ids)
    for seed in range(20):
        seen, chosen = masking(ids, mask, torch.Generator().manual_seed(seed))
        assert not chosen[torch.isin(ids, special)].any()
        assert not chosen[mask == 0].any()
        replaced = seen[chosen & (seen != tokenizer.mask_token_id)]
        assert not torch.isin(replaced, special).any()
        assert replaced.max() < len(tokenizer)


def test_every_text_hides_a_token_and_no_text_can_hide_none(tokenizer):
    masking = build_masking(tokenizer, len(tokenizer), 0.01, False)
    ids, mask = batch(tokenizer, ["good bad", "the", "fire fire fire"])
    for seed in range(10):
        chosen = masking(ids, mask, torch.Generator().manual_seed(seed))[1]
        assert chosen.any(dim=1).all()
    bare = torch.tensor([[tokenizer.cls_token_id, tokenizer.sep_token_id]])
    assert not masking(bare, None, None)[1].any()


def test_masks_are_drawn_anew_and_a_seed_repeats_them(tokenizer):
    masking = build_masking(tokenizer, len(tokenizer), 0.15, False)
    ids, mask = batch(tokenizer, ["good bad the fire " * 10] * 4)
    draws = [masking(ids, mask, torch.Generator().manual_seed(s))[0] for s in (1, 1, 2)]
    assert draws[0].equal(draws[1])
    assert not draws[0].equal(draws[2])


def test_whole_words_are_hidden_with_all_their_pieces(tokenizer):
    masking = build_masking(tokenizer, len(tokenizer), 0.3, True)
    ids, mask = batch(tokenizer, ["firing goods the fires badxyz " * 4] * 8)
    pieces = [tokenizer.convert_ids_to_tokens(row) for row in ids.tolist()]
    assert any(piece.startswith("##") for piece in pieces[0])
    for seed in range(5):
        chosen = masking(ids, mask, torch.Generator().manual_seed(seed))[1].tolist()
        for row, flags in zip(pieces, chosen, strict=True):
            for at, piece in enumerate(row):
                if piece.startswith("##"):
                    assert flags[at] == flags[at - 1]
    plain = build_masking(tokenizer, len(tokenizer), 0.3, False)
    flags = plain(ids, mask, torch.Generator().manual_seed(0))[1].tolist()
    assert any(
        flags[r][at] != flags[r][at - 1]
        for r, row in enumerate(pieces) for at, piece in enumerate(row) if piece.startswith("##")
    )  # fmt: skip


def test_where_words_begin_by_the_marks_of_a_vocabulary():
    assert continuations(["[CLS]", "a", "##b", "##"]) == [False, False, True, False]
    assert continuations(["Ġthe", "re"]) == [False, True]
    assert continuations(["▁the", "re"]) == [False, True]
    with pytest.raises(ConfigError, match="leave out pretrain_whole_words"):
        continuations(["a", "b"])
