"""The model of every experiment: encoder, pooling, dropout samples and one linear layer."""

import tempfile
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from oofline.config import CFG
from oofline.errors import ConfigError, DataError
from oofline.models.adapters import add_adapters
from oofline.models.backbone import load_backbone
from oofline.models.kept import backbone_of, write_note
from oofline.models.links import linked, linked_width
from oofline.models.pooling import Pooling, build_pooling, initialise_linear, mean_of_windows
from oofline.models.spans import TokenStates, span_logits
from oofline.models.structure import has_segments, most_tokens
from oofline.models.weights import read_tensors, write_tensors
from oofline.results import Task
from oofline.storage import copy_file, sha256_of, write_text
from oofline.tasks import Link

WEIGHTS_FILE = "model.safetensors"
"""Name of the weights in a fold's folder."""


class TextModel(nn.Module):
    """Texts to logits.

    Attributes:
        backbone: the encoder.
        pooling: token states to one vector.
        dropout: drops parts of the pooled vector (`CFG.dropout_sample_p`).
        output: the linear layer, (output_size of the pooling) -> T.
        target_mean: (T,) float32 buffer; regression is trained on (y - mean) / std.
        target_std: (T,) float32 buffer.
        link: how logits become predictions, see `oofline.tasks.LOSSES`.
        samples: dropout masks per row in training.
    """

    target_mean: Tensor
    target_std: Tensor

    def __init__(
        self,
        backbone: PreTrainedModel,
        pooling: Pooling,
        link: Link,
        n_logits: int,
        dropout_samples: int = 1,
        dropout_sample_p: float = 0.0,
    ) -> None:
        super().__init__()
        self.backbone, self.pooling = backbone, pooling
        self.dropout = nn.Dropout(dropout_sample_p)
        self.output = nn.Linear(pooling.output_size, n_logits)
        self.link, self.samples = link, dropout_samples
        self._has_segments = has_segments(backbone)
        self._has_sdpa = backbone.config._attn_implementation == "sdpa"
        self.register_buffer("target_mean", torch.zeros(n_logits))
        self.register_buffer("target_std", torch.ones(n_logits))

    def forward(
        self,
        input_ids: Tensor,
        attention_mask: Tensor | None = None,
        token_type_ids: Tensor | None = None,
        windows: Tensor | None = None,
        places: Tensor | None = None,
    ) -> Tensor:
        """Run one batch; the backbone runs once for all dropout samples.

        Args:
            input_ids: (W, L) int64, W inputs of B rows.
            attention_mask: (W, L) int64, 1 = token, 0 = padding; None = no padding (faster).
            token_type_ids: (W, L) int64 segments; read where the backbone has more than one.
            windows: (B,) int64 inputs of each row, whose pooled vectors are averaged; None: W = B.
            places: (B, G, 2) int64, tokens of the contexts (spans only; see `span_logits`).

        Returns:
            (S, B, T) float32 logits (standardised values for regression), also under autocast;
            S = `CFG.dropout_samples` in training, 1 in evaluation. (S, B, 2, G) for spans.
        """
        self._match_attention(input_ids.device.type)
        all_layers = self.pooling.needs_all_layers
        segments = {"token_type_ids": token_type_ids} if self._has_segments else {}
        result = self.backbone(
            input_ids, attention_mask=attention_mask, output_hidden_states=all_layers, **segments
        )
        states = result.last_hidden_state
        with torch.autocast(states.device.type, enabled=False):
            pooled = self.pooling(
                (*result.hidden_states[:-1], states) if all_layers else states, attention_mask
            )
            if windows is not None and places is None:
                pooled = mean_of_windows(pooled, windows)
            samples = self.samples if self.training else 1
            logits = self.output(self.dropout(pooled.expand(samples, *pooled.shape)))
            return logits if places is None else span_logits(logits, places)

    @property
    def n_outputs(self) -> int:
        """Width of the predictions: a scale has one, whatever its logits."""
        return linked_width(self.link, self.output.out_features)

    def _match_attention(self, device: str) -> None:
        """Plain attention on a CPU, torch's SDPA elsewhere.

        The CPU kernels of SDPA lose to plain matrix products in a bf16 training step (MiniLM, one
        core: 1.1 times the time with dropout, 1.4 to 1.5 times without) and tie in fp32.
        """
        wanted = "eager" if device == "cpu" else "sdpa"
        if self._has_sdpa and self.backbone.config._attn_implementation != wanted:
            self.backbone.set_attn_implementation(wanted)

    def predictions(self, logits: Tensor) -> Tensor:
        """Logits (S, B, T) or (S, B, 2, G) to what the files hold, (B, `n_outputs`) or (B, 2, G).

        See `linked`; float32, values are in target units.
        """
        found = linked(self.link, logits.float())
        return found * self.target_std + self.target_mean if self.link == "identity" else found

    def encode(self, y: np.ndarray) -> np.ndarray:
        """Targets to training labels, once per fold.

        Args:
            y: (n,) class indices, (n, T) labels of 0 and 1; (n,) or (n, T) values.

        Returns:
            int64 of the same shape for classes and labels; (n, T) float32 standardised values
            under the link "identity".
        """
        if self.link != "identity":
            return np.asarray(y).astype(np.int64)
        mean, std = self.target_mean.double().cpu().numpy(), self.target_std.double().cpu().numpy()
        return ((_columns(y) - mean) / std).astype(np.float32)

    def head_parameters(self) -> dict[str, nn.Parameter]:
        """Parameters above the backbone (pooling and output), by their names in the model."""
        named = self.named_parameters()
        return {name: value for name, value in named if not name.startswith("backbone.")}


def build_model(cfg: CFG, task: Task, y_train: np.ndarray) -> TextModel:
    """A model with pretrained encoder and fresh head; the head draws from torch's global RNG.

    Args:
        cfg: reads model, pooling, dropout and target settings.
        task: what is predicted.
        y_train: targets of the fold's training rows: (n,) class indices, or (n,) or (n, T)
            values, from which the standardisation is taken.

    Raises:
        ConfigError: the encoder cannot be loaded or the settings do not fit it.
    """
    model = _assemble(cfg, task, load_backbone(cfg, _backbone_dropout(cfg, task)))
    std = getattr(model.backbone.config, "initializer_range", 0.02)
    initialise_linear((*model.pooling.modules(), model.output), std)
    if task.link == "identity" and cfg.standardize_targets:
        values = _columns(y_train)
        std = values.std(axis=0)
        model.target_mean.copy_(torch.from_numpy(values.mean(axis=0)))
        model.target_std.copy_(torch.from_numpy(np.where(std > 0, std, 1.0)))
    return model


def save_model(
    model: TextModel, tokenizer: PreTrainedTokenizerBase, folder: Path
) -> dict[str, str]:
    """Write everything that `load_model` needs; every file is replaced in one step.

    Args:
        model: on any device.
        tokenizer: of the encoder.
        folder: receives model.safetensors, config.json and the tokenizer's files (and `kept.NOTE`).

    Returns:
        SHA-256 of each file, by its path below the folder.
    """
    state = {name: value.cpu() for name, value in model.state_dict().items()}
    names = ["config.json", WEIGHTS_FILE, *write_note(model.backbone, folder)]
    with tempfile.TemporaryDirectory() as temporary:
        for name in tokenizer.save_pretrained(temporary):
            source = Path(name)
            if source.is_file():
                names.append(source.relative_to(temporary).as_posix())
                copy_file(source, folder / names[-1])
    write_text(folder / "config.json", model.backbone.config.to_json_string())
    write_tensors(folder / WEIGHTS_FILE, state, {"format": "pt"})
    return {name: sha256_of(folder / name) for name in sorted(names)}


def load_model(cfg: CFG, task: Task, folder: Path) -> TextModel:
    """Rebuild a model that `save_model` wrote, from its folder alone and without network.

    Args:
        cfg: the settings it was trained with (of ``cfg.model`` see `kept.backbone_of`).
        task: as in training.
        folder: a fold's folder.

    Raises:
        ConfigError: files are missing or damaged, or ``cfg`` or ``task`` do not fit them.
    """
    cfg = replace(cfg, model=str(backbone_of(folder, cfg.model) if cfg.lora_r else folder))
    path = folder / WEIGHTS_FILE
    try:
        state, _ = read_tensors(path)
    except DataError as error:
        message = f"{path} is missing or damaged; delete the folder {folder} and train it again"
        raise ConfigError(message) from error
    backbone = load_backbone(cfg, _backbone_dropout(cfg, task), weights=cfg.lora_r > 0)
    with torch.random.fork_rng(devices=[]):  # the first values are drawn, and replaced below
        model = _assemble(cfg, task, backbone)
        if cfg.lora_r:
            add_adapters(model, cfg)
    try:
        model.load_state_dict(state)
    except RuntimeError as error:
        raise ConfigError(
            f"{path} does not fit these settings (pooling = {cfg.pooling}, "
            f"{task.n_logits} outputs): use the cfg.json it was trained with"
        ) from error
    return model


def _assemble(cfg: CFG, task: Task, backbone: PreTrainedModel) -> TextModel:
    config = backbone.config
    most = most_tokens(backbone)
    if most is not None and cfg.max_len > most:
        raise ConfigError(f"max_len = {cfg.max_len}, but {cfg.model} reads {most} tokens at most")
    size, spans = config.hidden_size, task.link == "span"
    pooling = TokenStates(size) if spans else build_pooling(cfg, size, config.num_hidden_layers)
    return TextModel(
        backbone, pooling, task.link, task.n_logits, cfg.dropout_samples, cfg.dropout_sample_p
    )


def _backbone_dropout(cfg: CFG, task: Task) -> float | None:
    """The setting, or 0 for values, or None (the backbone's own)."""
    return 0.0 if cfg.dropout is None and task.link == "identity" else cfg.dropout


def _columns(y: np.ndarray) -> np.ndarray:
    """(n,) or (n, T) -> (n, T) float64."""
    values = np.asarray(y, dtype=np.float64)
    return values.reshape(len(values), -1)
