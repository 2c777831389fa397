"""Pooling heads: from the states of the tokens to one vector per text, in float32."""

from collections.abc import Iterable, Sequence

import torch
from torch import Tensor, nn

from oofline.config import CFG
from oofline.errors import ConfigError

GEM_EPS = 1e-6
"""GeM: states below are raised to it, because it takes powers."""


class Pooling(nn.Module):
    """Base of all heads: gives the needed layers and a mask to `_pool`.

    Attributes:
        output_size: size of the pooled vector.
        needs_all_layers: True when the head reads more than the last layer, so that the
            backbone must return all of them.
    """

    needs_all_layers = False

    def __init__(self, hidden_size: int) -> None:
        super().__init__()
        self.output_size = hidden_size

    def forward(
        self, hidden_states: Tensor | Sequence[Tensor], attention_mask: Tensor | None = None
    ) -> Tensor:
        """Pool a batch.

        Args:
            hidden_states: (B, L, H), the last layer; or all layers, bottom to top.
            attention_mask: (B, L), 1 = token, 0 = padding; None = nothing is padded. A row of
                padding alone is pooled as if it were all tokens.

        Returns:
            (B, output_size) float32, independent of the padding.
        """
        if isinstance(hidden_states, Tensor):
            hidden_states = (hidden_states,)
        if attention_mask is None:
            return self._pool(hidden_states, None)
        mask = attention_mask.bool()
        return self._pool(hidden_states, mask | ~mask.any(1, keepdim=True))

    def _pool(self, layers: Sequence[Tensor], mask: Tensor | None) -> Tensor:
        """The head itself; ``mask`` is (B, L) bool with a True in every row, or None."""
        raise NotImplementedError


class ClsPooling(Pooling):
    """State of the first token (Devlin et al. 2019, without the tanh layer)."""

    def _pool(self, layers: Sequence[Tensor], mask: Tensor | None) -> Tensor:
        return layers[-1][:, 0].float()


class MeanPooling(Pooling):
    """Mean over the tokens (Reimers & Gurevych 2019)."""

    def _pool(self, layers: Sequence[Tensor], mask: Tensor | None) -> Tensor:
        return masked_mean(layers[-1], mask)


class MaxPooling(Pooling):
    """Largest value over the tokens, per dimension."""

    def _pool(self, layers: Sequence[Tensor], mask: Tensor | None) -> Tensor:
        states = layers[-1].float()
        if mask is not None:
            states = states.masked_fill(~mask[..., None], -torch.inf)
        return states.amax(1)


class LastTokenPooling(Pooling):
    """State of the last token that is no padding, on whichever side the padding stands.

    In a decoder it is the only one that has seen the whole text (Radford et al. 2018).
    """

    def _pool(self, layers: Sequence[Tensor], mask: Tensor | None) -> Tensor:
        states = layers[-1]
        if mask is None:
            return states[:, -1].float()
        last = mask.shape[1] - 1 - mask.flip(1).int().argmax(1)
        return states[torch.arange(len(states), device=states.device), last].float()


class AttentionPooling(Pooling):
    """Mean weighted by softmax(v . tanh(W h + b)) over the tokens (Yang et al. 2016)."""

    def __init__(self, hidden_size: int) -> None:
        super().__init__(hidden_size)
        self.project = nn.Linear(hidden_size, hidden_size)
        self.score = nn.Linear(hidden_size, 1, bias=False)

    def _pool(self, layers: Sequence[Tensor], mask: Tensor | None) -> Tensor:
        states = _tokens_only(layers[-1], mask)
        scores = self.score(torch.tanh(self.project(states))).squeeze(-1)
        if mask is not None:
            scores = scores.masked_fill(~mask, -torch.inf)
        return torch.einsum("bl,blh->bh", scores.softmax(1), states)


class WeightedLayerPooling(Pooling):
    """Mean over tokens of the learned, softmax-weighted average of the last k layers.

    The weights start equal (scalar mix of Peters et al. 2018, without its scale).
    """

    needs_all_layers = True

    def __init__(self, hidden_size: int, k: int) -> None:
        super().__init__(hidden_size)
        self.k = k
        self.layer_weights = nn.Parameter(torch.zeros(k))

    def _pool(self, layers: Sequence[Tensor], mask: Tensor | None) -> Tensor:
        means = torch.stack([masked_mean(layer, mask) for layer in layers[-self.k :]])
        return torch.einsum("k,kbh->bh", self.layer_weights.softmax(0), means)


class LastKPooling(Pooling):
    """Means over tokens of each of the last k layers, side by side, the top layer last."""

    needs_all_layers = True

    def __init__(self, hidden_size: int, k: int) -> None:
        super().__init__(hidden_size)
        self.k = k
        self.output_size = hidden_size * k

    def _pool(self, layers: Sequence[Tensor], mask: Tensor | None) -> Tensor:
        return torch.cat([masked_mean(layer, mask) for layer in layers[-self.k :]], dim=1)


class GemPooling(Pooling):
    """Generalised mean, mean(max(h, eps)^p)^(1/p), p learned from 3 (Radenovic et al. 2019)."""

    def __init__(self, hidden_size: int) -> None:
        super().__init__(hidden_size)
        self.power = nn.Parameter(torch.tensor(3.0))

    def _pool(self, layers: Sequence[Tensor], mask: Tensor | None) -> Tensor:
        powers = _tokens_only(layers[-1], mask).clamp(min=GEM_EPS).pow(self.power)
        return masked_mean(powers, mask).pow(1 / self.power)


def masked_mean(states: Tensor, mask: Tensor | None) -> Tensor:
    """Mean over the tokens in float32: (B, L, H) and (B, L) bool (or None) -> (B, H)."""
    if mask is None:
        return states.mean(1, dtype=torch.float32)
    weights = mask / mask.sum(1, keepdim=True)
    return torch.einsum("bl,blh->bh", weights, _tokens_only(states, mask))


def _tokens_only(states: Tensor, mask: Tensor | None) -> Tensor:
    """States in float32, with zeros on the padding whatever stood there."""
    states = states.float()
    return states if mask is None else states.masked_fill(~mask[..., None], 0)


def build_pooling(cfg: CFG, hidden_size: int, n_layers: int) -> Pooling:
    """The head that ``cfg.pooling`` names.

    Args:
        cfg: reads pooling and pooling_layers.
        hidden_size: H of the backbone.
        n_layers: layers of the backbone.

    Raises:
        ConfigError: pooling_layers is larger than ``n_layers``.
    """
    if cfg.pooling in ("weighted-layer", "last-k"):
        if cfg.pooling_layers > n_layers:
            raise ConfigError(
                f"pooling_layers = {cfg.pooling_layers}, but {cfg.model} has {n_layers} layers"
            )
        kind = WeightedLayerPooling if cfg.pooling == "weighted-layer" else LastKPooling
        return kind(hidden_size, cfg.pooling_layers)
    heads: dict[str, type[Pooling]] = {
        "cls": ClsPooling, "mean": MeanPooling, "max": MaxPooling, "last": LastTokenPooling,
        "attention": AttentionPooling, "gem": GemPooling,
    }  # fmt: skip
    return heads[cfg.pooling](hidden_size)


def mean_of_windows(vectors: Tensor, windows: Tensor) -> Tensor:
    """(B, H) means of vectors (W, H), ``windows`` (B,) of them for each row."""
    rows = torch.arange(len(windows), device=windows.device)
    of_row = torch.repeat_interleave(rows, windows, output_size=len(vectors))
    total = vectors.new_zeros(len(windows), vectors.shape[1]).index_add(0, of_row, vectors)
    return total / windows[:, None]


def initialise_linear(modules: Iterable[nn.Module], std: float) -> None:
    """Normal(0, std) weights and zero biases in linear layers, as the encoder's own have.

    Args:
        modules: the head's; those that are not linear are left as they are.
        std: the encoder's initializer_range.
    """
    for module in modules:
        if isinstance(module, nn.Linear):
            nn.init.normal_(module.weight, 0.0, std)
            if module.bias is not None:
                nn.init.zeros_(module.bias)
