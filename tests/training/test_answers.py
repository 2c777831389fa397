"""Question answering is learnt: windows, labels, characters and spans fit together."""

import json
import random

import pandas as pd
import pytest
import torch
import transformers

from oofline.crossval import train_units
from oofline.models.backbone import load_tokenizer
from oofline.storage import read_json


@pytest.mark.parametrize(("family", "max_len"), [("bert", 64), ("bert", 26), ("modernbert", 80)])
def test_a_rule_is_learnt(write_competition, load_settings, tiny_model, family, max_len):
    """The answer is what stands behind one word; far away it is in a later window."""
    paths = write_competition("qa", n=150, n_test=6, n_folds=2)
    model = str(tiny_model(family))
    cfg = load_settings(
        paths, model=model, max_len=max_len, doc_stride=6, epochs=8, lr=5e-3, warmup_fraction=0.2
    )
    train_units(cfg, paths, [0], [1])
    scores = read_json(paths.fold("base", 1, 0) / "scores.json")
    assert scores["score"] > 0.8


@pytest.fixture
def characters(tmp_path):
    """A Japanese encoder whose tokenizer is written in Python and knows no characters."""
    words = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *"赤青火良質問はの0123456789年。、ガ"]
    folder = tmp_path / "japanese"
    folder.mkdir()
    (folder / "vocab.txt").write_text("\n".join(words))
    settings = {"tokenizer_class": "BertJapaneseTokenizer", "word_tokenizer_type": "basic",
                "subword_tokenizer_type": "character", "do_lower_case": False}  # fmt: skip
    (folder / "tokenizer_config.json").write_text(json.dumps(settings))
    config = transformers.BertConfig(
        vocab_size=len(words), hidden_size=32, num_hidden_layers=2, num_attention_heads=4,
        intermediate_size=48, max_position_embeddings=64,
    )  # fmt: skip
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(3)
        transformers.AutoModel.from_config(config).save_pretrained(folder)
    return folder


def test_japanese_without_offsets(write_competition, load_settings, characters):
    """Answers in full-width digits and half-width kana come back letter by letter."""
    paths = write_competition("qa", n=120, n_test=6, n_folds=2)
    rng = random.Random(1)
    for stem in ("train", "test"):
        frame = pd.read_csv(paths.input / f"{stem}.csv", dtype=str, na_filter=False)
        answers = [
            rng.choice("赤青") + rng.choice("１２３") + rng.choice("年鬱") for _ in frame["id"]
        ]
        heads = [rng.choice(["の火", "火、", "火は火の"]) for _ in answers]
        frame["question"] = "質問"
        frame["context"] = [f"{h}ｶﾞ良{a}。火の" for h, a in zip(heads, answers, strict=True)]
        if stem == "train":
            frame["answer_text"] = answers
            frame["answer_start"] = [len(head) + 3 for head in heads]
        frame.to_csv(paths.input / f"{stem}.csv", index=False)
    cfg = load_settings(paths, model=str(characters), epochs=6, lr=5e-3, metric="answer_char_f1")
    train_units(cfg, paths, [0], [1])
    folder = paths.fold("base", 1, 0)
    assert read_json(folder / "scores.json")["score"] > 0.8
    stored = load_tokenizer(str(folder))
    assert not stored.is_fast
    assert stored.get_vocab() == load_tokenizer(cfg.model).get_vocab()
