"""Encoders that guess hidden tokens, decoders that guess the next one."""

import contextlib
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from transformers import (
    AutoConfig,
    AutoModelForCausalLM,
    AutoModelForMaskedLM,
    BertConfig,
    PreTrainedModel,
)
from transformers.models.auto.modeling_auto import (
    MODEL_FOR_CAUSAL_LM_MAPPING_NAMES,
    MODEL_FOR_MASKED_LM_MAPPING_NAMES,
)
from transformers.utils import logging

from oofline.config import CFG
from oofline.errors import ConfigError
from oofline.models.hub import has_safetensors, model_folder
from oofline.models.masking import Masking
from oofline.storage import replacing, write_text

FIRST_POSITIONS = 512
"""Positions of a model from scratch, more where max_len asks for them."""


class LanguageModel(nn.Module):
    """A transformer with its language head, as the training loop calls it.

    The head acts on every position alone, so it is run at the predicted ones only: of a
    vocabulary of 30,000 that saves most of the memory.

    Attributes:
        backbone: the network with its head (named as the optimizer's groups expect).
        masking: hides tokens; None for a decoder, which predicts every next token.
        generator: source of the masks; None = torch's global one, which a saved state keeps.
    """

    def __init__(self, network: PreTrainedModel, masking: Masking | None) -> None:
        super().__init__()
        self.backbone, self.masking = network, masking
        self.generator: torch.Generator | None = None

    def forward(
        self,
        input_ids: Tensor,
        attention_mask: Tensor | None = None,
        token_type_ids: Tensor | None = None,
        windows: Tensor | None = None,
        places: Tensor | None = None,
    ) -> Tensor:
        """Guess tokens of one batch.

        Args:
            input_ids: (B, L) int64.
            attention_mask: (B, L), 0 = padding; None = nothing is padded.
            token_type_ids: not read; texts are single.
            windows: not read; every input is a row.
            places: not read; no answers are looked for.

        Returns:
            (1, B, 2) float32: of each input the sum of -log p in nats, and the tokens guessed.
        """
        if self.masking is None:
            seen, chosen, wanted = input_ids, *_next_tokens(input_ids, attention_mask)
        else:
            seen, chosen = self.masking(input_ids, attention_mask, self.generator)
            wanted = input_ids[chosen]
        logits = self._logits_at(chosen, seen, attention_mask)
        with torch.autocast(logits.device.type, enabled=False):
            losses = F.cross_entropy(logits.float(), wanted, reduction="none")
            sums = losses.new_zeros(len(input_ids)).index_add(0, chosen.nonzero()[:, 0], losses)
        return torch.stack([sums, chosen.sum(1).to(sums.dtype)], dim=-1)[None]

    def _logits_at(self, chosen: Tensor, input_ids: Tensor, mask: Tensor | None) -> Tensor:
        """(M, V) logits of the M chosen positions."""

        def select(_module: nn.Module, _inputs: tuple, output: Any) -> Any:
            """Hand the head the chosen positions, as one input."""
            output.last_hidden_state = output.last_hidden_state[chosen][None]
            return output

        handle = self.backbone.base_model.register_forward_hook(select)
        try:
            return self.backbone(input_ids=input_ids, attention_mask=mask).logits[0]
        finally:
            handle.remove()


def _next_tokens(input_ids: Tensor, mask: Tensor | None) -> tuple[Tensor, Tensor]:
    """(B, L) bool positions that are followed by a token, and (M,) those tokens."""
    chosen = torch.zeros_like(input_ids, dtype=torch.bool)
    chosen[:, :-1] = True if mask is None else mask[:, 1:].bool()
    return chosen, input_ids.roll(-1, dims=1)[chosen]


def mean_loss(sums: Tensor, _labels: Tensor) -> Tensor:
    """Mean -log p per guessed token, in nats.

    Args:
        sums: (1, B, 2) of `LanguageModel`.
    """
    return sums[..., 0].sum() / sums[..., 1].sum().clamp(min=1.0)


def is_causal(name: str) -> bool:
    """Whether a model is a decoder, which learns by guessing the next token.

    Raises:
        ConfigError: it is neither an encoder nor a decoder that transformers knows a head for.
    """
    folder = model_folder(name)
    with _reading(name, folder):
        kind = AutoConfig.from_pretrained(folder, trust_remote_code=False).model_type
    if kind in MODEL_FOR_MASKED_LM_MAPPING_NAMES:
        return False
    if kind in MODEL_FOR_CAUSAL_LM_MAPPING_NAMES:
        return True
    raise ConfigError(f"model = {name!r}: {kind} has no language head: choose another model")


def load_network(name: str, causal: bool) -> tuple[PreTrainedModel, list[str]]:
    """A pretrained network with its language head, in float32.

    Returns:
        The network, and the names of weights that its folder lacks: they are random. Only those
        of the head may be.

    Raises:
        ConfigError: it cannot be read, or weights of the body are missing.
    """
    folder = model_folder(name)
    if not has_safetensors(folder):
        raise ConfigError(
            f"model = {name!r}: {folder} has no *.safetensors weights; copy them there, or start "
            f"with new ones: --from-scratch --vocab {name}"
        )
    kind: Any = AutoModelForCausalLM if causal else AutoModelForMaskedLM
    with _reading(name, folder):
        network, info = kind.from_pretrained(
            folder, dtype=torch.float32, use_safetensors=True, trust_remote_code=False,
            output_loading_info=True,
        )  # fmt: skip
    missing = sorted(info["missing_keys"])
    body = [key for key in missing if key.startswith(f"{network.base_model_prefix}.")]
    if body:
        raise ConfigError(
            f"model = {name!r}: {len(body)} weights of the body are not in {folder} and would be "
            f"random ({', '.join(body[:3])}, ...); the files belong to another architecture"
        )
    network.config.use_cache = False
    return network, missing


def new_network(cfg: CFG, tokenizer: Any) -> PreTrainedModel:
    """A BERT encoder with random weights, drawn from torch's global generator.

    Args:
        cfg: reads pretrain_layers, pretrain_hidden, pretrain_heads and max_len.
        tokenizer: gives the vocabulary's size and the padding id.
    """
    config = BertConfig(
        vocab_size=len(tokenizer), hidden_size=cfg.pretrain_hidden,
        num_hidden_layers=cfg.pretrain_layers, num_attention_heads=cfg.pretrain_heads,
        intermediate_size=4 * cfg.pretrain_hidden, pad_token_id=tokenizer.pad_token_id or 0,
        max_position_embeddings=max(FIRST_POSITIONS, cfg.max_len),
    )  # fmt: skip
    return AutoModelForMaskedLM.from_config(config, dtype=torch.float32)


def save_network(network: PreTrainedModel, tokenizer: Any, folder: Path) -> None:
    """Write weights, tokenizer and last config.json, as save_pretrained lays them out.

    Without config.json a folder is no model, so one that is half written is not taken for one.
    """
    with tempfile.TemporaryDirectory() as temporary:
        with _quietly():
            network.save_pretrained(temporary)
        tokenizer.save_pretrained(temporary)
        files = [path for path in Path(temporary).iterdir() if path.is_file()]
        for path in files:
            if path.name not in ("config.json", "generation_config.json"):
                with replacing(folder / path.name) as target:
                    shutil.copyfile(path, target)
        config = (Path(temporary) / "config.json").read_text(encoding="utf-8")
    write_text(folder / "config.json", config)


@contextlib.contextmanager
def _reading(name: str, folder: Path) -> Iterator[None]:
    """What transformers raises becomes one line (ConfigError)."""
    try:
        with _quietly():
            yield
    except (OSError, ValueError, RuntimeError, KeyError, ImportError) as error:
        reason = (str(error).strip().splitlines() or [type(error).__name__])[0][:160]
        raise ConfigError(f"model = {name!r}: {folder} cannot be read ({reason})") from error


@contextlib.contextmanager
def _quietly() -> Iterator[None]:
    """Without transformers' reports and bars; both are put back afterwards."""
    verbosity, bars = logging.get_verbosity(), logging.is_progress_bar_enabled()
    logging.set_verbosity(logging.CRITICAL)
    logging.disable_progress_bar()
    try:
        yield
    finally:
        logging.set_verbosity(verbosity)
        if bars:
            logging.enable_progress_bar()
