"""Shared by all tests: tiny random encoders, and a small competition that can be learnt."""

import functools
import multiprocessing
import os
import random
import string
import sys

for name, value in {
    "OMP_NUM_THREADS": "1", "OMP_WAIT_POLICY": "PASSIVE", "HF_HUB_OFFLINE": "1",
    "WANDB_MODE": "offline", "WANDB_SILENT": "true", "TOKENIZERS_PARALLELISM": "false",
}.items():  # fmt: skip
    os.environ.setdefault(name, value)

import pandas as pd
import pytest
import torch
import transformers
from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, processors

torch.set_num_threads(1)

SPECIAL = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
BASE = {
    "hidden_size": 32,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "intermediate_size": 48,
    "max_position_embeddings": 300,
    "pad_token_id": 0,
}
DEBERTA = {
    "relative_attention": True,
    "pos_att_type": ["p2c", "c2p"],
    "position_buckets": 16,
    "norm_rel_ebd": "layer_norm",
    "share_att_key": True,
    "position_biased_input": False,
    "type_vocab_size": 0,
    "max_relative_positions": -1,
}
MODERN = {"bos_token_id": 2, "cls_token_id": 2, "eos_token_id": 3, "sep_token_id": 3}
DECODER = {"num_key_value_heads": 2, "head_dim": 8, "pad_token_id": None}
FAMILIES = {
    "bert": (transformers.BertConfig, {}, "wordpiece"),
    "roberta": (transformers.RobertaConfig, {"bos_token_id": 2, "eos_token_id": 3}, "bpe"),
    "deberta": (transformers.DebertaV2Config, DEBERTA, "wordpiece"),
    "electra": (transformers.ElectraConfig, {"embedding_size": 16}, "wordpiece"),
    "modernbert": (transformers.ModernBertConfig, MODERN, "bpe"),
    "mpnet": (transformers.MPNetConfig, {}, "wordpiece"),
    "distilbert": (transformers.DistilBertConfig, {}, "wordpiece"),
    "albert": (transformers.AlbertConfig, {"embedding_size": 16}, "wordpiece"),
    "llama": (transformers.LlamaConfig, DECODER, "bpe, start"),
    "qwen2": (transformers.Qwen2Config, DECODER, "bpe, bare"),
    "gemma": (transformers.GemmaConfig, DECODER | {"pad_token_id": 0}, "bpe, left"),
    "gpt2": (transformers.GPT2Config, {"bos_token_id": 2, "eos_token_id": 3}, "bpe, bare"),
}
DISTILBERT = {"hidden_size": "dim", "num_hidden_layers": "n_layers",
              "num_attention_heads": "n_heads", "intermediate_size": "hidden_dim"}  # fmt: skip


def _tokenizer(kind):
    if kind == "wordpiece":
        words = [*string.printable.strip(), "the", "good", "bad", "fire", "##ing", "##s"]
        pieces = SPECIAL + words + [f"##{c}" for c in string.ascii_lowercase + string.digits]
        vocab = {piece: index for index, piece in enumerate(dict.fromkeys(pieces))}
        result = Tokenizer(models.WordPiece(vocab, unk_token="[UNK]"))
        result.normalizer = normalizers.BertNormalizer()
        result.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
        result.decoder = decoders.WordPiece()
    else:
        alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
        vocab = {piece: index for index, piece in enumerate(SPECIAL + alphabet)}
        result = Tokenizer(models.BPE(vocab, [], unk_token="[UNK]"))
        result.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
        result.decoder = decoders.ByteLevel()
    single, pair = "[CLS] $A [SEP]", "[CLS] $A [SEP] $B:1 [SEP]:1"
    if kind in ("bpe, start", "bpe, left"):
        single, pair = "[CLS] $A", "[CLS] $A [CLS]:1 $B:1"
    if kind != "bpe, bare":
        result.post_processor = processors.TemplateProcessing(
            single=single, pair=pair, special_tokens=[("[CLS]", 2), ("[SEP]", 3)]
        )
    names = {"unk_token": "[UNK]", "cls_token": "[CLS]", "sep_token": "[SEP]"}
    if kind != "bpe, start":  # Llama's tokenizer has no padding token
        names["pad_token"] = "[PAD]"
    if "," in kind:
        names |= {"bos_token": "[CLS]", "eos_token": "[SEP]"}
    return transformers.PreTrainedTokenizerFast(
        tokenizer_object=result, mask_token="[MASK]", model_max_length=128,
        padding_side="left" if kind == "bpe, left" else "right", **names,
    )  # fmt: skip


def _save(family, folder):
    config_class, extra, kind = FAMILIES[family]
    base = {DISTILBERT.get(k, k) if family == "distilbert" else k: v for k, v in BASE.items()}
    tokenizer = _tokenizer(kind)
    config = config_class(**(base | {"vocab_size": len(tokenizer)} | extra))
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(7)
        transformers.AutoModel.from_config(config).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


@pytest.fixture(autouse=True)
def no_log_file():
    """A command's log file ends with the test that ran it."""
    from oofline.progress import log_to

    yield
    log_to(None)


@pytest.fixture(scope="session")
def tiny_model(tmp_path_factory):
    """tiny_model(family) -> folder of a random 3-layer, 32-wide model; made once, read only.

    Encoders: bert, roberta, deberta, electra, modernbert, mpnet, distilbert, albert. Decoders:
    llama (no padding token), qwen2 and gpt2 (no special tokens added), gemma (padding on the left).
    """
    root = tmp_path_factory.mktemp("tiny-models")

    def folder(family):
        path = root / family
        return path if path.exists() else _save(family, path)

    return folder


@pytest.fixture
def write_competition(tmp_path, write_competition_at):
    """write_competition(kind, n, n_test) -> Paths of a competition "toy" below tmp_path."""
    return functools.partial(write_competition_at, tmp_path)


@pytest.fixture(scope="session")
def write_competition_at(tiny_model):
    """write_competition_at(root, kind, n, n_test) -> Paths of a competition "toy" below root.

    Kinds: binary, multiclass, regression, multilabel, multi-target, ordinal, pair, qa. The label
    follows from the words, so a model that trains can learn it; cfg.toml holds a tiny
    encoder and settings that take a second.
    """
    return competition_writer(tiny_model)


def competition_writer(tiny_model):
    """What `write_competition_at` gives, for models from ``tiny_model(family)``."""
    from oofline.storage import Paths

    def write(root, kind="binary", n=90, n_test=21, **settings):
        rng = random.Random(5)
        paths = Paths("toy", root)
        paths.input.mkdir(parents=True)
        frame = pd.DataFrame([_row(kind, rng, i) for i in range(n + n_test)])
        shared = ("id", "text", "left", "right", "title", "context", "question")
        targets = [name for name in frame if name not in shared]
        train, test = frame.iloc[:n], frame.iloc[n:].drop(columns=targets)
        asked = {"binary": "0", "pair": "0", "ordinal": "1", "multiclass": "low"}.get(kind, "0.5")
        sample = test[["id"]].assign(**dict.fromkeys(targets, asked))
        if kind == "qa":
            sample = test[["id"]].assign(PredictionString="")
        for name, table in (("train", train), ("test", test), ("sample_submission", sample)):
            table.to_csv(paths.input / f"{name}.csv", index=False)
        lines = {
            "model": str(tiny_model("bert")), "n_folds": 3, "epochs": 2, "batch_size": 8,
            "max_len": 24, "lr": 1e-3, "wandb": "disabled", "device": "cpu",
            "precision": "fp32", "bootstrap_samples": 20, "near_duplicates": 0.0,
        } | ({"task": "ordinal"} if kind == "ordinal" else {}) | settings  # fmt: skip
        text = "".join(f"{k} = {_toml(v)}\n" for k, v in lines.items())
        (paths.input / "cfg.toml").write_text(text)
        return paths

    return write


def _toml(value):
    return str(value).lower() if isinstance(value, bool) else repr(value).replace("'", '"')


def _row(kind, rng, number):
    words = rng.choices(["the", "fire", "a", "b", "c"], k=rng.randint(1, 14))
    positive = rng.random() < 0.5
    words[rng.randrange(len(words))] = "good" if positive else "bad"
    row = {"id": f"r{number:04d}", "text": f"{' '.join(words)} {number}"}
    if kind == "multilabel":
        rare = int(number % 20 == 0)
        return row | {"good": int(positive), "fire": int("fire" in words), "rare": rare}
    if kind == "multi-target":
        value = 1.0 if positive else -1.0
        return row | {"tone": round(3 + value + rng.gauss(0, 0.1), 3), "words": len(words)}
    if kind == "pair":
        other = rng.choice(["good", "bad"])
        same = int((other == "good") == positive)
        return {
            "id": row["id"],
            "left": row["text"],
            "right": f"a {other} day and night {number}",
            "target": same,
        }
    if kind == "qa":
        before, behind = (
            rng.choices(["the", "fire", "a", "b"], k=rng.randint(1, 12)) for _ in "12"
        )
        answer = f"{rng.choice(['red', 'blue'])} {rng.randint(0, 99)}"
        start = len(" ".join(before)) + len(" good ")
        return {
            "id": row["id"], "title": f"t{number // 5}", "question": f"what is good {number % 7}",
            "context": f"{' '.join(before)} good {answer}, {' '.join(behind)}.",
            "answer_text": answer, "answer_start": start,
        }  # fmt: skip
    if kind == "ordinal":
        return row | {"target": rng.choice([3, 4]) if positive else rng.choice([1, 2])}
    target = {
        "binary": str(int(positive)),
        "regression": f"{(1.0 if positive else -1.0) + rng.gauss(0, 0.1):.4f}",
        "multiclass": rng.choice(["high", "mid"]) if positive else "low",
    }[kind]
    return row | {"target": target}


@pytest.fixture
def load_settings():
    """load_settings(paths, **changes) -> CFG as the command line would make it."""
    import dataclasses

    from oofline.sources import load_cfg

    return lambda paths, **changes: dataclasses.replace(load_cfg(paths), **changes)


@pytest.fixture
def forked(monkeypatch):
    """Workers are forked, so that they know what the test patched; started as usual otherwise."""
    if sys.platform != "linux":
        pytest.skip("needs fork")
    context = multiprocessing.get_context("fork")
    monkeypatch.setattr(multiprocessing, "get_context", lambda kind: context)
    return context
