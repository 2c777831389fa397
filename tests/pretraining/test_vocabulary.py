"""Vocabularies made from texts load as ordinary tokenizers."""

import pytest

from oofline.models.backbone import load_tokenizer
from oofline.pretraining.vocabulary import make_vocabulary, save_vocabulary

ENGLISH = ["The forest fire is near La Ronge", "Fires and forests, a forester's fire"] * 5
JAPANESE = [
    "この商品は本当に良かったです。",
    "届いた商品は壊れていました。",
    "本当に良い商品です。",
] * 5


def test_a_vocabulary_of_spaces_and_marks(tmp_path):
    save_vocabulary(make_vocabulary(ENGLISH, 150, japanese=False), tmp_path, japanese=False)
    tokenizer = load_tokenizer(str(tmp_path))
    assert len(tokenizer) <= 150
    assert tokenizer.tokenize("The FIRE") == ["the", "fire"]
    found = tokenizer("fire", "forest")
    pieces = tokenizer.convert_ids_to_tokens(found["input_ids"])
    assert pieces == ["[CLS]", "fire", "[SEP]", "forest", "[SEP]"]
    assert (tokenizer.pad_token_id, tokenizer.mask_token_id) == (0, 4)


def test_the_same_texts_give_the_same_vocabulary():
    texts = [f"the fire a b c good {number} {number * 7}" for number in range(60)]
    first, *others = (make_vocabulary(texts, 60, False).get_vocab() for _ in range(6))
    assert all(other == first for other in others)
    assert len(first) == 60


def test_a_japanese_vocabulary_is_laid_out_as_bert_base_japanese(tmp_path):
    pytest.importorskip("fugashi", reason="Japanese words need fugashi")
    pytest.importorskip("ipadic", reason="Japanese words need ipadic")
    save_vocabulary(make_vocabulary(JAPANESE, 200, japanese=True), tmp_path, japanese=True)
    tokenizer = load_tokenizer(str(tmp_path))
    assert type(tokenizer).__name__ == "BertJapaneseTokenizer"
    assert tokenizer.tokenize("商品は良かったです") == ["商品", "は", "良かっ", "た", "です"]
    assert (tmp_path / "vocab.txt").read_text().splitlines()[:5] == [
        "[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]",
    ]  # fmt: skip
