"""Dropout of any backbone: set everywhere, and read back from everywhere."""

from collections.abc import Iterator

from torch import nn
from transformers import PreTrainedModel


def set_dropout(backbone: PreTrainedModel, p: float) -> None:
    """Set every dropout of the backbone to ``p``.

    Reaches dropout modules (hidden, attention, embedding, pooler, StableDropout), probabilities
    that a module keeps as a number for functional dropout, places where an encoder put an
    Identity because its dropout was 0, and the fields of the config (saved with the model).

    Args:
        backbone: changed in place.
        p: probability of dropping, 0 <= p < 1; 0 = off.
    """
    set_config_dropout(backbone.config, p)
    for module in list(backbone.modules()):
        for name, child in list(module.named_children()):
            if isinstance(child, nn.Identity) and "drop" in name and p > 0:
                setattr(module, name, nn.Dropout(p))
    for module, _, attribute in _places(backbone):
        setattr(module, attribute, p)


def set_config_dropout(config: object, p: float) -> None:
    """Set every dropout field of a transformers config (before a model is built from it)."""
    for field, value in vars(config).items():
        if _is_dropout(field, value):
            setattr(config, field, p)


def dropout_values(backbone: nn.Module) -> dict[str, float]:
    """Every dropout probability found by walking the modules.

    Returns:
        "path.to.module.attribute" -> probability, for modules and for functional dropouts.
    """
    return {
        f"{path}.{attribute}" if path else attribute: float(getattr(module, attribute))
        for module, path, attribute in _places(backbone)
    }


def _places(backbone: nn.Module) -> Iterator[tuple[nn.Module, str, str]]:
    """(module, its path, attribute) of every number that is a dropout probability."""
    for path, module in backbone.named_modules():
        if isinstance(module, nn.modules.dropout._DropoutNd):
            yield module, path, "p"
        for attribute, value in list(vars(module).items()):
            if _is_dropout(attribute, value):
                yield module, path, attribute


def _is_dropout(name: str, value: object) -> bool:
    """A number whose name says dropout; layerdrop drops whole layers and is not one."""
    number = isinstance(value, int | float) and not isinstance(value, bool)
    return number and "drop" in name and "layerdrop" not in name
