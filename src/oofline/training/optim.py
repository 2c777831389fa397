"""AdamW with layer-wise rates: each parameter in exactly one named group."""

import torch

from oofline.config import CFG
from oofline.errors import ConfigError
from oofline.limits import parse_overrides
from oofline.models.language_model import LanguageModel
from oofline.models.structure import parameter_depth
from oofline.models.text_model import TextModel
from oofline.training.plan import Plan, rate_factor


def layer_rate(cfg: CFG, depth: int, n_layers: int) -> float:
    """Peak learning rate of a backbone layer: body_lr * layer_decay ** (n_layers - depth).

    Args:
        cfg: lr, body_lr, layer_decay.
        depth: 0 for the embeddings, 1..n_layers from bottom to top.
        n_layers: number of layers.
    """
    top = cfg.lr if cfg.body_lr is None else cfg.body_lr
    return top * cfg.layer_decay ** (n_layers - depth)


def group_rates(cfg: CFG, n_layers: int) -> dict[str, float]:
    """Peak learning rate of every group, from the embeddings up to the head; 0 = frozen.

    Args:
        cfg: lr, body_lr, head_lr, layer_decay, and group_lrs, which has the last word.
        n_layers: number of backbone layers.

    Raises:
        ConfigError: group_lrs names a group that does not exist.
    """
    rates = {_name_of(depth): layer_rate(cfg, depth, n_layers) for depth in range(n_layers + 1)}
    rates["head"] = cfg.lr if cfg.head_lr is None else cfg.head_lr
    return rates | _overrides("group_lrs", cfg.group_lrs, rates)


def parameter_groups(cfg: CFG, model: TextModel | LanguageModel) -> list[dict]:
    """Optimizer groups of a model, bottom to top, head last.

    Biases and norms (all tensors of fewer than two dimensions) have no weight decay, whatever
    group_decays says. A group with rate 0 is left out and its parameters are frozen, so that
    decay cannot move them either.

    Returns:
        Dicts with ``params, name, lr, peak_lr, weight_decay``; names are ``embeddings``,
        ``layer.<i>`` and ``head``, with ``.no_decay`` where decay is off.

    Raises:
        ConfigError: nothing is left to train, or an override names a group that does not exist
            or is not trained.
    """
    depths = parameter_depth(model.backbone)
    rates = group_rates(cfg, max(depths.values()))
    overrides = _overrides("group_decays", cfg.group_decays, rates)
    decay_of = dict.fromkeys(rates, cfg.weight_decay) | overrides
    groups: dict[str, dict] = {}
    for name, parameter in model.named_parameters():
        group = "head"
        if name.startswith("backbone."):
            group = _name_of(depths[name.removeprefix("backbone.")])
        if rates[group] == 0:
            parameter.requires_grad_(False)
        if not parameter.requires_grad:
            continue
        decay = decay_of[group] if parameter.ndim >= 2 else 0.0
        key = group if decay > 0 else f"{group}.no_decay"
        groups.setdefault(key, {
            "params": [], "name": key, "lr": rates[group], "peak_lr": rates[group],
            "weight_decay": decay,
        })["params"].append(parameter)  # fmt: skip
    if not groups:
        raise ConfigError("every learning rate is 0: set lr, body_lr or head_lr above 0")
    _check_overrides_act(cfg, rates, {key.removesuffix(".no_decay") for key in groups})
    return list(groups.values())


def _name_of(depth: int) -> str:
    return "embeddings" if depth == 0 else f"layer.{depth}"


def _overrides(setting: str, text: str, known: dict[str, float]) -> dict[str, float]:
    values = parse_overrides(setting, text)
    for group in values:
        if group not in known:
            raise ConfigError(f"{setting}: there is no group {group}; they are {', '.join(known)}")
    return values


def _check_overrides_act(cfg: CFG, rates: dict[str, float], trained: set[str]) -> None:
    """Refuse overrides of groups that are not trained, and frozen layers of random weights."""
    lrs = parse_overrides("group_lrs", cfg.group_lrs)
    decays = parse_overrides("group_decays", cfg.group_decays)
    for group in [*decays, *(name for name, rate in lrs.items() if rate > 0)]:
        if group not in trained:
            setting = "group_decays" if group in decays else "group_lrs"
            raise ConfigError(
                f"{setting} sets {group}, which is frozen: leave it out there, or train it "
                "(freeze_layers, body_lr, group_lrs)"
            )
    n_layers = len(rates) - 2
    for depth in range(n_layers - cfg.reinit_layers + 1, n_layers + 1):
        if lrs.get(_name_of(depth)) == 0:
            raise ConfigError(
                f"group_lrs freezes {_name_of(depth)}, which reinit_layers = {cfg.reinit_layers} "
                "makes random: leave one out"
            )


def build_optimizer(cfg: CFG, model: TextModel | LanguageModel) -> torch.optim.AdamW:
    """AdamW with bias correction (Loshchilov, Hutter 2019), fused."""
    return torch.optim.AdamW(
        parameter_groups(cfg, model),
        lr=cfg.lr,
        betas=(cfg.adam_beta1, cfg.adam_beta2),
        eps=cfg.adam_eps,
        fused=next(model.parameters()).device.type in ("cpu", "cuda"),
    )


def set_rates(optimizer: torch.optim.Optimizer, cfg: CFG, plan: Plan, step: int) -> None:
    """Give every group the rate of optimizer step ``step`` (from 0)."""
    factor = rate_factor(cfg, plan, step)
    for group in optimizer.param_groups:
        group["lr"] = group["peak_lr"] * factor


def rates(optimizer: torch.optim.Optimizer) -> dict[str, float]:
    """Current learning rate of every group, by ``lr/<name>``."""
    return {f"lr/{group['name']}": float(group["lr"]) for group in optimizer.param_groups}
