"""Loads any encoder or decoder of transformers, or says in one line why it cannot."""

import contextlib
import inspect
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
import transformers
from safetensors import SafetensorError
from transformers import AutoConfig, AutoModel, AutoTokenizer, PreTrainedModel
from transformers.initialization import no_init_weights
from transformers.models.auto.modeling_auto import (
    MODEL_FOR_CAUSAL_LM_MAPPING_NAMES,
)
from transformers.models.auto.modeling_auto import (
    MODEL_FOR_MASKED_LM_MAPPING_NAMES as _ENCODERS,
)
from transformers.utils import logging

from oofline.config import CFG
from oofline.errors import ConfigError
from oofline.models.dropout import set_config_dropout, set_dropout
from oofline.models.four_bit import four_bit
from oofline.models.hub import has_safetensors, model_folder
from oofline.models.japanese import refuse_single_characters, tokenizer_options
from oofline.storage import read_json

_VOCABULARIES = ("tokenizer.json", "vocab.txt", "vocab.json", "*.model")

_LOADING_ERRORS = (
    OSError, ValueError, RuntimeError, KeyError, TypeError, AttributeError, ImportError,
    SafetensorError,
)  # fmt: skip


def load_tokenizer(name: str) -> transformers.PreTrainedTokenizerBase:
    """Load the tokenizer of a model (a fast one where there is one).

    Args:
        name: hub name or local folder, as ``CFG.model``.

    Raises:
        ConfigError: the model or its tokenizer files are missing or unreadable, or a Japanese
            tokenizer would load without its words.
    """
    folder = model_folder(name)
    problem = f"model = {name!r}: no tokenizer could be read from {folder}"
    remedy = "copy the tokenizer's files there"
    if not any(path for pattern in _VOCABULARIES for path in folder.glob(pattern)):
        # without these, transformers would go on with an empty vocabulary
        raise ConfigError(f"{problem} (no {' or '.join(_VOCABULARIES)}); {remedy}")
    options = tokenizer_options(name, folder)
    with _quiet():
        try:
            tokenizer = AutoTokenizer.from_pretrained(folder, trust_remote_code=False, **options)
        except Exception as error:  # the tokenizers library raises bare Exceptions
            raise ConfigError(f"{problem} ({_line(error)}); {remedy}") from error
    refuse_single_characters(name, folder, tokenizer)
    size = read_json(folder / "config.json").get("vocab_size", len(tokenizer))
    if len(tokenizer) > size:
        raise ConfigError(
            f"model = {name!r}: the tokenizer has {len(tokenizer)} tokens, the encoder knows "
            f"{size}: the files in {folder} belong to different models"
        )
    return tokenizer


def load_backbone(cfg: CFG, dropout: float | None, weights: bool = True) -> PreTrainedModel:
    """Load the encoder or decoder ``cfg.model`` in float32, without a pooler layer.

    A decoder keeps its causal mask: every token sees itself and what stands before it. Its cache
    of keys and values, which serves generation alone, is off.

    Args:
        cfg: reads model, pooling, gradient_checkpointing and lora_4bit.
        dropout: every dropout of the backbone; None keeps its own.
        weights: False builds the architecture only; its weights are then undefined and must be
            loaded by the caller.

    Raises:
        ConfigError: the model cannot be found or read, is neither encoder nor decoder, or does
            not fit the pooling.
    """
    folder = model_folder(cfg.model)
    with _quiet():
        config = _text_config(cfg.model, folder)
        if is_decoder(config) and cfg.pooling == "cls":
            raise ConfigError(
                f'pooling = "cls" reads the first token, which in a decoder ({config.model_type}) '
                'has seen no other: use "last" or "mean"'
            )
        config.use_cache = False
        if dropout is not None:
            set_config_dropout(config, dropout)
        if weights:
            quantized = four_bit(cfg) if cfg.lora_4bit else {}
            backbone = _pretrained(cfg.model, folder, config, quantized)
        else:
            backbone = _blank(cfg.model, config)
    if dropout is not None:
        set_dropout(backbone, dropout)
    if cfg.gradient_checkpointing:
        _checkpoint_gradients(cfg.model, backbone)
    return backbone


def is_decoder(config: Any) -> bool:
    """Whether a transformers config is that of a causal language model, and of no encoder."""
    kind = config.model_type
    return kind in MODEL_FOR_CAUSAL_LM_MAPPING_NAMES and kind not in _ENCODERS


def _text_config(name: str, folder: Path) -> Any:
    try:
        config = AutoConfig.from_pretrained(folder, trust_remote_code=False)
    except _LOADING_ERRORS as error:
        raise ConfigError(
            f"model = {name!r}: {folder / 'config.json'} is not readable ({_line(error)})"
        ) from error
    kind = config.model_type
    if config.is_encoder_decoder:
        raise ConfigError(f"model = {name!r}: {kind} is an encoder-decoder, not supported yet")
    known = kind in _ENCODERS or (is_decoder(config) and type(config) in transformers.MODEL_MAPPING)
    if not known or config.get_text_config() is not config:
        what = "not a text model" if not known else "more than a text model"
        raise ConfigError(
            f"model = {name!r}: {kind} is {what}, not supported yet; choose an encoder such as "
            "BERT, RoBERTa, DeBERTa, ELECTRA or ModernBERT, or a decoder such as Llama, Qwen or "
            "Gemma"
        )
    return config


def _class_options(config: Any) -> dict[str, bool]:
    """add_pooling_layer=False where the class knows it: an unused pooler would never train."""
    model_class: Any = transformers.MODEL_MAPPING[type(config)]
    known = "add_pooling_layer" in inspect.signature(model_class).parameters
    return {"add_pooling_layer": False} if known else {}


def _pretrained(name: str, folder: Path, config: Any, quantized: dict[str, Any]) -> PreTrainedModel:
    if not has_safetensors(folder):
        raise ConfigError(_no_weights(name, folder))
    try:
        backbone, info = AutoModel.from_pretrained(
            folder, config=config, dtype=torch.float32, use_safetensors=True,
            trust_remote_code=False, output_loading_info=True, **quantized,
            **_class_options(config),
        )  # fmt: skip
    except _LOADING_ERRORS as error:
        raise ConfigError(
            f"model = {name!r}: the weights in {folder} cannot be read ({_line(error)}); "
            "copy or download them again"
        ) from error
    missing = sorted(key for key in info["missing_keys"] if "pooler" not in key)
    if missing:
        raise ConfigError(
            f"model = {name!r}: {len(missing)} weights of the {config.model_type} model are not "
            f"in {folder} and would be random ({', '.join(missing[:3])}, ...); the files belong "
            "to another architecture"
        )
    return backbone


def _no_weights(name: str, folder: Path) -> str:
    pickled = [path.name for path in folder.glob("*") if path.suffix in (".bin", ".pt", ".pth")]
    if pickled:
        return (
            f"model = {name!r}: {folder} has only pickled weights ({pickled[0]}), which are never "
            "opened because they can run code; save them as model.safetensors"
        )
    return f"model = {name!r}: {folder} has no *.safetensors weights; copy or download them"


def _blank(name: str, config: Any) -> PreTrainedModel:
    try:
        with torch.random.fork_rng(devices=[]), no_init_weights():
            return AutoModel.from_config(config, dtype=torch.float32, **_class_options(config))
    except _LOADING_ERRORS as error:
        raise ConfigError(f"model = {name!r} cannot be built ({_line(error)})") from error


def _checkpoint_gradients(name: str, backbone: PreTrainedModel) -> None:
    if not backbone.supports_gradient_checkpointing:
        raise ConfigError(f"gradient_checkpointing is not supported by {name}: switch it off")
    backbone.gradient_checkpointing_enable({"use_reentrant": False})
    if hasattr(backbone, "_require_grads_hook"):
        # only reentrant checkpointing needs inputs that require gradients; frozen layers would be
        # recomputed and differentiated for nothing
        backbone.disable_input_require_grads()


def _line(error: Exception) -> str:
    """The first line of an error's text, short enough for one line of ours."""
    text = str(error).strip().splitlines()
    return (text[0][:160] if text else "") or type(error).__name__


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Without transformers' loading reports and bars; both are put back afterwards."""
    verbosity, bars = logging.get_verbosity(), logging.is_progress_bar_enabled()
    logging.set_verbosity(logging.CRITICAL)
    logging.disable_progress_bar()
    try:
        yield
    finally:
        logging.set_verbosity(verbosity)
        if bars:
            logging.enable_progress_bar()
