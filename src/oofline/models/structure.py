"""Where the layers of a backbone are, found by structure and not by names."""

import inspect
from collections.abc import Callable

import torch
from torch import nn
from transformers import PreTrainedModel

from oofline.errors import ConfigError


def layer_count(backbone: PreTrainedModel) -> int:
    """Number of layers that own parameters.

    ALBERT runs one group of parameters many times: there it is ``num_hidden_groups``, because
    layers that share their weights cannot be trained, frozen or re-initialised apart.
    """
    config = backbone.config
    return int(getattr(config, "num_hidden_groups", None) or config.num_hidden_layers)


def encoder_layers(backbone: PreTrainedModel) -> nn.ModuleList:
    """The transformer layers, bottom to top.

    Of all ModuleLists that are `layer_count` long, the one with the most parameters (the
    outermost of equals).

    Raises:
        ConfigError: the encoder has no such list.
    """
    wanted = layer_count(backbone)
    lists = [
        module
        for module in backbone.modules()
        if isinstance(module, nn.ModuleList) and len(module) == wanted
    ]
    if not lists:
        raise ConfigError(
            f"the layers of {type(backbone).__name__} were not found (no list of {wanted} "
            "modules): choose another model"
        )
    return max(lists, key=lambda layers: sum(p.numel() for p in layers.parameters()))


def embeddings_module(backbone: PreTrainedModel) -> nn.Module:
    """The part of the backbone that turns token ids into the first hidden states.

    The direct child that holds the word embeddings, with positions, norm and dropout where the
    encoder has them. The bare word embeddings are ``backbone.get_input_embeddings()``.
    """
    words = backbone.get_input_embeddings()
    for child in backbone.children():
        if any(module is words for module in child.modules()):
            return child
    raise ConfigError(f"{type(backbone).__name__} has no embeddings that could be found")


def has_segments(backbone: PreTrainedModel) -> bool:
    """Whether the encoder tells the two texts of a pair apart by segment ids."""
    known = "token_type_ids" in inspect.signature(backbone.forward).parameters
    return known and getattr(backbone.config, "type_vocab_size", 0) > 1


def most_tokens(backbone: PreTrainedModel) -> int | None:
    """Longest input the encoder has positions for; None where positions are not learned.

    RoBERTa and its kin number positions from the padding index + 1, so that 514 rows of the
    table serve 512 tokens.
    """
    for name, module in backbone.named_modules():
        if name.endswith(("position_embeddings", "wpe")) and isinstance(module, nn.Embedding):
            padding = module.padding_idx
            return module.num_embeddings - (0 if padding is None else padding + 1)
    return None


def parameter_depth(backbone: PreTrainedModel) -> dict[str, int]:
    """Height of every parameter above the tokens, for layer-wise settings.

    Found by running four tokens through the encoder and counting the layers that had finished
    when a module first ran; relative-position tables and projections below the layers are
    therefore depth 0, final norms and poolers n, whatever their names are.

    Returns:
        name -> 0 for embeddings and anything that runs before the first layer (or is read
        directly), 1..n for the n layers, k for a module that runs between layers k and k + 1,
        n for what runs after the last one. Names as in ``backbone.named_parameters()``.
    """
    layers = encoder_layers(backbone)
    depth = {id(module): 0 for module in backbone.modules()}
    depth.update(_layers_done_at_first_call(backbone, layers))
    for index, layer in enumerate(layers, start=1):
        depth.update({id(module): index for module in layer.modules()})
    return {
        f"{prefix}.{name}" if prefix else name: depth[id(module)]
        for prefix, module in backbone.named_modules()
        for name, _ in module.named_parameters(recurse=False)
    }


def _layers_done_at_first_call(backbone: PreTrainedModel, layers: nn.ModuleList) -> dict[int, int]:
    """id(module) -> number of layers that had finished when the module was first called."""
    done: list[int] = [0]
    first: dict[int, int] = {}

    def called(module: nn.Module, _inputs: tuple) -> None:
        """Note how many layers had run at the first call."""
        first.setdefault(id(module), done[-1])

    def finished(index: int) -> Callable[..., None]:
        """A hook that notes that layer ``index`` has run."""
        return lambda *_: done.append(max(done[-1], index))

    handles = [module.register_forward_pre_hook(called) for module in backbone.modules()]
    handles += [
        layer.register_forward_hook(finished(index)) for index, layer in enumerate(layers, start=1)
    ]
    modes = [(module, module.training) for module in backbone.modules()]
    try:
        backbone.eval()
        with torch.no_grad():
            backbone(input_ids=torch.ones((1, 4), dtype=torch.int64, device=backbone.device))
    finally:
        for handle in handles:
            handle.remove()
        for module, training in modes:
            module.training = training
    return first
