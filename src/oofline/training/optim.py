"""AdamW with layer-wise rates: each parameter in exactly one named group."""

import torch

from oofline.config import CFG
from oofline.errors import ConfigError
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


def parameter_groups(cfg: CFG, model: TextModel) -> list[dict]:
    """Optimizer groups of a TextModel, bottom to top, head last.

    Biases and norms (all tensors of fewer than two dimensions) have no weight decay. A group with
    rate 0 is left out and its parameters are frozen, so that decay cannot move them either.

    Returns:
        Dicts with ``params, name, lr, peak_lr, weight_decay``; names are ``embeddings``,
        ``layer.<i>`` and ``head``, with ``.no_decay`` where decay is off.

    Raises:
        ConfigError: nothing is left to train.
    """
    depths = parameter_depth(model.backbone)
    n_layers = max(depths.values())
    groups: dict[str, dict] = {}
    for name, parameter in model.named_parameters():
        if not parameter.requires_grad:
            continue
        depth = depths[name.removeprefix("backbone.")] if name.startswith("backbone.") else None
        group, rate = _group_of(cfg, depth, n_layers)
        if rate == 0:
            parameter.requires_grad_(False)
            continue
        decays = parameter.ndim >= 2 and cfg.weight_decay > 0
        key = group if decays else f"{group}.no_decay"
        groups.setdefault(key, {
            "params": [], "name": key, "lr": rate, "peak_lr": rate,
            "weight_decay": cfg.weight_decay if decays else 0.0,
        })["params"].append(parameter)  # fmt: skip
    if not groups:
        raise ConfigError("every learning rate is 0: set lr, body_lr or head_lr above 0")
    return list(groups.values())


def _group_of(cfg: CFG, depth: int | None, n_layers: int) -> tuple[str, float]:
    if depth is None:
        return "head", cfg.lr if cfg.head_lr is None else cfg.head_lr
    name = "embeddings" if depth == 0 else f"layer.{depth}"
    return name, layer_rate(cfg, depth, n_layers)


def build_optimizer(cfg: CFG, model: TextModel) -> torch.optim.AdamW:
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
