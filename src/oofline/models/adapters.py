"""LoRA: small trained additions to the linear layers of a backbone that stays as it is."""

from typing import Any

from torch import Tensor, nn
from transformers import PreTrainedModel
from transformers.pytorch_utils import Conv1D

from oofline.config import CFG
from oofline.errors import ConfigError
from oofline.models.structure import encoder_layers

_MARK = ".lora_"


def add_adapters(model: nn.Module, cfg: CFG) -> None:
    """Give ``model.backbone`` adapters, freeze the rest of it, and keep it out of saved states.

    Low-rank adaptation (Hu et al. 2021, arXiv:2106.09685): a linear layer with weight W0 computes
    W0 x + (lora_alpha / lora_r) * B A x, where only A (lora_r, in) and B (out, lora_r) are trained.
    A starts at random (torch's global generator), B at 0, so that the model starts as the
    pretrained one bit for bit. ``lora_dropout`` acts on the x that A reads.

    Afterwards ``model.state_dict()`` holds adapters and head alone, and ``load_state_dict`` takes
    that: the backbone's weights never change, and are stored once (`oofline.models.kept`).

    Args:
        model: has a ``backbone``; changed in place.
        cfg: the lora settings; lora_r is above 0.

    Raises:
        ConfigError: there is nothing to adapt, or lora_r or lora_targets do not fit the backbone.
    """
    from peft import LoraConfig, inject_adapter_in_model  # takes seconds, and few need it

    backbone: Any = model.backbone
    names = adapter_targets(backbone, cfg.lora_targets)
    narrowest = min(min(_shape(backbone.get_submodule(name))) for name in names)
    if cfg.lora_r > narrowest:
        raise ConfigError(
            f"lora_r = {cfg.lora_r} is more than the {narrowest} rows or columns of the smallest "
            "matrix that it adds to: lower it (4 to 64)"
        )
    settings = LoraConfig(
        r=cfg.lora_r,
        lora_alpha=cfg.lora_alpha,  # type: ignore[arg-type]  # any number will do
        lora_dropout=cfg.lora_dropout,
        target_modules=names,
        fan_in_fan_out=isinstance(backbone.get_submodule(names[0]), Conv1D),
    )
    inject_adapter_in_model(settings, backbone)
    for layer in adapted_layers(backbone):
        layer.lora_A.float()  # above 4-bit weights peft makes them half precision
        layer.lora_B.float()
    model.register_state_dict_post_hook(_leave_out_backbone)
    model.register_load_state_dict_post_hook(_forgive_backbone)


def adapter_targets(backbone: PreTrainedModel, wanted: str = "") -> list[str]:
    """Names of the linear layers that get adapters, as in ``backbone.named_modules()``.

    Args:
        backbone: without adapters yet.
        wanted: last parts of names, as in "q_proj, v_proj"; "" = every linear layer within the
            transformer layers (found by structure), as QLoRA recommends.

    Raises:
        ConfigError: a name fits no linear layer (those there are listed), or there is none.
    """
    inside = {id(module) for module in encoder_layers(backbone).modules()}
    linear = [
        name
        for name, module in backbone.named_modules()
        if id(module) in inside and isinstance(module, nn.Linear | Conv1D)
    ]
    kinds = dict.fromkeys(name.rpartition(".")[2] for name in linear)
    asked = [part.strip() for part in wanted.split(",") if part.strip()] or list(kinds)
    unknown = [part for part in asked if part not in kinds]
    if unknown or not linear:
        raise ConfigError(
            f"lora_targets: {type(backbone).__name__} has no linear layer "
            f"{', '.join(unknown) or 'at all'}; there: {', '.join(kinds) or 'none'}"
        )
    return [name for name in linear if name.rpartition(".")[2] in asked]


def adapted_layers(backbone: nn.Module) -> list[Any]:
    """The layers with adapters, bottom to top: peft's, with ``base_layer, lora_A, lora_B``."""
    return [module for module in backbone.modules() if hasattr(module, "lora_A")]


def _shape(linear: Any) -> tuple[int, int]:
    """Sizes of a layer's matrix, whatever its weight is packed into."""
    if isinstance(linear, nn.Linear):
        return linear.out_features, linear.in_features
    return linear.weight.shape


def is_pretrained(name: str) -> bool:
    """Whether a name in the state of a model with adapters is that of a frozen weight."""
    return name.startswith("backbone.") and _MARK not in name


def _leave_out_backbone(module: nn.Module, state: dict[str, Tensor], prefix: str, _: Any) -> None:
    for name in [n for n in state if is_pretrained(n.removeprefix(prefix))]:
        del state[name]


def _forgive_backbone(module: nn.Module, keys: Any) -> None:
    keys.missing_keys[:] = [name for name in keys.missing_keys if not is_pretrained(name)]
