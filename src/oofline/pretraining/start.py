"""What pretraining starts from: a stored model, or new weights and a vocabulary."""

import dataclasses
import hashlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from oofline.config import CFG, RUNTIME_FIELDS
from oofline.errors import ConfigError
from oofline.models.backbone import load_tokenizer
from oofline.models.hub import model_folder
from oofline.models.language_model import (
    LanguageModel,
    is_causal,
    load_network,
    new_network,
)
from oofline.models.masking import build_masking
from oofline.models.structure import most_tokens
from oofline.pretraining.corpus import Corpus
from oofline.pretraining.vocabulary import make_vocabulary, save_vocabulary
from oofline.progress import say
from oofline.storage import read_json, sha256_of, write_json

CLAIM_FILE = "pretrain.json"
WORK = "work"
"""Folder of what only an unfinished pretraining needs."""
LOOP_FIELDS = (
    "comp", "model", "max_len", "gradient_checkpointing", "batch_size", "accumulation",
    "weight_decay", "adam_beta1", "adam_beta2", "adam_eps", "warmup_fraction", "schedule",
    "cosine_cycles", "clip_norm", "precision", *sorted(RUNTIME_FIELDS),
)  # fmt: skip
"""Settings that pretraining shares with every training; techniques and heads have no part in it."""
_RATE, _RATE_FROM_SCRATCH = 5e-5, 5e-4


@dataclass(frozen=True)
class Start:
    """Where the weights and the vocabulary come from.

    Attributes:
        cfg: settings of the training loop.
        asked: settings as the user gave them.
        from_scratch: new weights.
        vocab: folder of the vocabulary, or "" to make one (from scratch).
        seed: of new weights, masks and the order of the texts.
    """

    cfg: CFG
    asked: CFG
    from_scratch: bool
    vocab: str
    seed: int

    def settings(self) -> dict[str, Any]:
        """Everything that decides the result, for the claim."""
        own = [f.name for f in dataclasses.fields(CFG) if f.name.startswith("pretrain_")]
        names = [n for n in LOOP_FIELDS if n not in RUNTIME_FIELDS and n != "model"]
        values = {name: getattr(self.asked, name) for name in [*names, *own]}
        source = {"vocab": self.vocab} if self.from_scratch else {"model": self.asked.model}
        return {"from_scratch": self.from_scratch, **source, "seed": self.seed, **values}

    def claim(self, folder: Path, corpus: Corpus) -> dict[str, Any]:
        """Settings and hashes of texts, weights and vocabulary, compared with those stored.

        Raises:
            ConfigError: the folder was started with others (all differences are named).
        """
        texts = hashlib.sha256()
        for text in corpus.texts:
            texts.update(text.encode("utf-8", "surrogatepass") + b"\0")
        mine = self.settings() | {"texts": texts.hexdigest()}
        if name := self.vocab if self.from_scratch else self.asked.model:
            mine["files"] = _hash_of(model_folder(name))
        path = folder / CLAIM_FILE
        stored = read_json(path) if path.exists() else mine
        differing = [k for k in {**stored, **mine} if stored.get(k) != mine.get(k)]
        if differing:
            shown = "; ".join(f"{k}: {stored.get(k)!r} there, {mine.get(k)!r} now"
                              for k in differing)  # fmt: skip
            raise ConfigError(
                f"{folder} was started with other settings ({shown}): choose another NAME, or "
                "delete that folder"
            )
        return mine

    def build(self, folder: Path, corpus: Corpus, claim: dict[str, Any]) -> tuple[Any, Any]:
        """Tokenizer and `LanguageModel`; everything is read before anything is written.

        Args:
            folder: of the result; a vocabulary that is made goes below its `WORK`.
            corpus: texts for a vocabulary.
            claim: written to the folder.
        """
        torch.manual_seed(self.seed)
        causal = False
        if self.from_scratch:
            tokenizer = self._vocabulary(folder, corpus, claim)
            network = new_network(self.asked, tokenizer)
            say(
                f"new BERT encoder: {self.asked.pretrain_layers} layers, width "
                f"{self.asked.pretrain_hidden}, {len(tokenizer)} tokens, "
                f"{network.num_parameters() / 1e6:.1f} M parameters"
            )
        else:
            tokenizer, causal = load_tokenizer(self.asked.model), is_causal(self.asked.model)
            network, missing = load_network(self.asked.model, causal)
            if missing:
                say("its language head is not in the model's folder: it starts from random weights")
        most = most_tokens(network)
        if most is not None and self.cfg.max_len > most:
            raise ConfigError(f"max_len = {self.cfg.max_len}, but the model reads {most} tokens")
        masking = None
        if not causal:
            masking = build_masking(
                tokenizer, network.config.vocab_size, self.asked.pretrain_mask,
                self.asked.pretrain_whole_words,
            )  # fmt: skip
        if self.cfg.gradient_checkpointing:
            network.gradient_checkpointing_enable({"use_reentrant": False})
        write_json(folder / CLAIM_FILE, claim)
        return tokenizer, LanguageModel(network, masking)

    def _vocabulary(self, folder: Path, corpus: Corpus, claim: dict[str, Any]) -> Any:
        """The tokenizer of a new model; one that is made is kept until the model is finished."""
        if self.vocab:
            return load_tokenizer(self.vocab)
        made = folder / WORK / "vocabulary"
        if not ((folder / CLAIM_FILE).exists() and (made / "config.json").exists()):
            trained = corpus.texts[corpus.n_held_out :]
            vocabulary = make_vocabulary(trained, self.asked.pretrain_vocab, corpus.is_japanese)
            write_json(folder / CLAIM_FILE, claim)
            save_vocabulary(vocabulary, made, corpus.is_japanese)
        return load_tokenizer(str(made))


def make_start(cfg: CFG, from_scratch: bool, vocab: str, seed: int) -> Start:
    """Settle what pretraining starts from.

    Raises:
        ConfigError: a vocabulary is named without --from-scratch.
    """
    if vocab and not from_scratch:
        raise ConfigError("--vocab is for --from-scratch: a stored model has its own vocabulary")
    rate = _RATE_FROM_SCRATCH if from_scratch else _RATE
    shared = {name: getattr(cfg, name) for name in LOOP_FIELDS}
    loop = CFG(
        **shared, epochs=cfg.pretrain_epochs,
        lr=rate if cfg.pretrain_lr is None else cfg.pretrain_lr,
    )  # fmt: skip
    return Start(loop, cfg, from_scratch, vocab, seed)


def _hash_of(folder: Path) -> str:
    """SHA-256 over the files that make a model or a vocabulary."""
    digest = hashlib.sha256()
    for pattern in ("*.json", "*.txt", "*.model", "*.safetensors"):
        for file in sorted(folder.glob(pattern)):
            digest.update(file.name.encode() + sha256_of(file).encode())
    return digest.hexdigest()
