"""Japanese BERT folders in the two layouts of Tohoku University, trained and predicted with."""

import json

import numpy as np
import pandas as pd
import pytest
import torch
import transformers
from matplotlib import font_manager

from oofline.cli import run
from oofline.report import fonts
from oofline.storage import Paths, read_json

WORDS = ["商品", "とても", "良い", "悪い", "残念", "満足", "届き", "まし", "でし", "この", "です"]
TINY = {
    "attention_probs_dropout_prob": 0.1, "hidden_act": "gelu", "hidden_dropout_prob": 0.1,
    "hidden_size": 32, "initializer_range": 0.02, "intermediate_size": 64, "layer_norm_eps": 1e-12,
    "max_position_embeddings": 64, "model_type": "bert", "num_attention_heads": 2,
    "num_hidden_layers": 2, "pad_token_id": 0, "type_vocab_size": 2,
}  # fmt: skip
SPLIT = {"do_lower_case": False, "word_tokenizer_type": "mecab",
         "subword_tokenizer_type": "wordpiece"}  # fmt: skip
V3 = (
    "BertForPreTraining", {},
    {"tokenizer_class": "BertJapaneseTokenizer", "model_max_length": 64, **SPLIT,
     "mecab_kwargs": {"mecab_dic": "unidic_lite"}},
    "unidic_lite",
)  # fmt: skip
"""bert-base-japanese-v3: all of it in tokenizer_config.json, with unidic-lite."""
WHOLE_WORD_MASKING = (
    "BertForMaskedLM", {"tokenizer_class": "BertJapaneseTokenizer"},
    {**SPLIT, "model_max_length": 64}, "ipadic",
)  # fmt: skip
"""bert-base-japanese-whole-word-masking: the class in config.json, no dictionary named (ipadic)."""


@pytest.fixture(autouse=True)
def packages():
    for name in ("fugashi", "ipadic", "unidic_lite"):
        pytest.importorskip(name, reason=f"{name} is not installed")


@pytest.fixture
def only_latin(monkeypatch):
    """only_latin(): from now on this machine has no Japanese font."""

    def forget():
        for cached in (fonts.families, fonts._fonts, fonts._advance):
            cached.cache_clear()

    def hide():
        only = [f for f in font_manager.fontManager.ttflist if f.name == fonts.LATIN]
        monkeypatch.setattr(font_manager.fontManager, "ttflist", only)
        monkeypatch.setattr(fonts, "_font_files", list)
        forget()

    yield hide
    monkeypatch.undo()
    forget()


def write_model(folder, layout):
    """config.json, tokenizer_config.json, vocab.txt and random weights with a pretraining head."""
    architecture, config, tokenizer, _ = layout
    folder.mkdir(parents=True)
    characters = sorted(set("".join(WORDS) + "はがをたも。、"))
    vocabulary = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *WORDS, *characters]
    vocabulary = list(dict.fromkeys([*vocabulary, *(f"##{c}" for c in characters)]))
    (folder / "vocab.txt").write_text("\n".join(vocabulary) + "\n", encoding="utf-8")
    sized = TINY | {"vocab_size": len(vocabulary)}
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(3)
        model = getattr(transformers, architecture)(transformers.BertConfig(**sized))
    model.save_pretrained(folder)
    (folder / "config.json").write_text(json.dumps({"architectures": [architecture], **sized,
                                                    **config}))  # fmt: skip
    (folder / "tokenizer_config.json").write_text(json.dumps(tokenizer))


@pytest.mark.filterwarnings("error:Glyph")  # a picture with empty boxes
@pytest.mark.parametrize("layout", [V3, WHOLE_WORD_MASKING], ids=["v3", "whole-word-masking"])
def test_it_trains_and_its_folds_predict(tmp_path, layout, capsys, only_latin):
    if layout is V3:
        only_latin()
    write_model(tmp_path / "input" / "models" / "bert", layout)
    paths = Paths("ja", tmp_path)
    paths.input.mkdir(parents=True)
    rng = np.random.default_rng(0)
    good = rng.integers(0, 2, 40)
    fillers = ["".join(rng.choice(list("はがをたもこの届商品"), 12)) for _ in good]
    ends = np.where(good, "とても良いです", "残念でした")
    texts = [f"{filler}。{end}。" for filler, end in zip(fillers, ends, strict=True)]
    frame = pd.DataFrame({"id": range(40), "text": texts, "label": np.where(good, "良", "悪")})
    frame[:28].to_csv(paths.input / "train.csv", index=False)
    frame[28:].drop(columns="label").to_csv(paths.input / "test.csv", index=False)
    frame[28:][["id"]].assign(label="良").to_csv(paths.input / "sample_submission.csv", index=False)
    model = str(tmp_path / "input" / "models" / "bert")
    argv = ["--comp", "ja", "--exp", "基準", "--wandb", "disabled"]
    assert run(["train", *argv, "--model", model, "--n-folds", "2", "--epochs", "1",
                "--max-len", "32", "--lr", "1e-3"], tmp_path) == 0  # fmt: skip
    out = capsys.readouterr().out
    assert "language: Japanese" in out
    assert "hardly knows" not in out
    stored = read_json(paths.fold("基準", 42, 0) / "tokenizer_config.json")
    assert stored["mecab_kwargs"]["mecab_dic"] == layout[-1]
    assert run(["predict", "--comp", "ja", "--exp", "基準", "--check"], tmp_path) == 0
    differences = read_json(paths.output / "predict.json")["max_difference"]
    assert set(differences.values()) == {0.0}
    assert run(["submission", "--comp", "ja", "--exp", "基準"], tmp_path) == 0
    assert set(pd.read_csv(paths.submission)["label"]) <= {"良", "悪"}
