"""What values CFG takes: the range of each number, and settings that hold several numbers.

Called while a CFG is made, so the functions here take it without importing its class.
"""

import math
from typing import Any

from oofline.errors import ConfigError

RANGES: dict[str, tuple[float | None, float | None]] = {
    "n_folds": (2, None), "fold_bins": (2, None), "near_duplicates": (0, 1),
    "max_len": (4, None), "windows": (1, None), "window_stride": (0, None),
    "doc_stride": (0, None),
    "pooling_layers": (1, None), "dropout": (0, 0.99),
    "dropout_samples": (1, None), "dropout_sample_p": (0, 0.99), "label_smoothing": (0, 0.99),
    "huber_delta": (1e-9, None), "epochs": (1, None), "batch_size": (1, None),
    "accumulation": (1, None), "lr": (0, 1), "body_lr": (0, 1), "head_lr": (0, 1),
    "layer_decay": (1e-3, 1), "weight_decay": (0, None), "adam_beta1": (0, 0.99999),
    "adam_beta2": (0, 0.999999), "adam_eps": (0, None), "warmup_fraction": (0, 1),
    "cosine_cycles": (1, None), "clip_norm": (0, None), "evals_per_epoch": (1e-3, None),
    "patience": (0, None), "average_last": (1, None), "eval_batch_size": (1, None),
    "awp_last_epochs": (0, None), "awp_lr": (0, 1), "awp_eps": (0, 1),
    "fgm_eps": (0, None), "fgm_last_epochs": (0, None), "sift_lambda": (0, None),
    "sift_lr": (0, None), "sift_noise": (0, None), "rdrop_alpha": (0, None),
    "mixout_p": (0, 0.99), "ema_decay": (0, 0.999999), "reinit_layers": (0, None),
    "freeze_layers": (0, None), "lora_r": (0, None), "lora_alpha": (1e-6, None),
    "lora_dropout": (0, 0.99), "awp_start_score": (None, None),
    "fgm_start_score": (None, None), "time_limit_hours": (0, None), "save_minutes": (0, None),
    "bootstrap_samples": (10, None), "pseudo_weight": (1e-6, None), "pseudo_threshold": (0, 1),
    "pretrain_epochs": (1, None), "pretrain_lr": (1e-9, 1), "pretrain_mask": (0.01, 0.9),
    "pretrain_holdout": (1e-3, 0.5), "pretrain_vocab": (100, None), "pretrain_layers": (1, None),
    "pretrain_hidden": (8, None), "pretrain_heads": (1, None),
    "tfidf_min_rows": (1, None), "tfidf_max": (0, None), "svd_dims": (0, None),
    "lgbm_rounds": (1, None), "lgbm_patience": (0, None), "lgbm_lr": (1e-4, 1),
    "lgbm_leaves": (2, None), "lgbm_min_rows": (1, None), "lgbm_features": (1e-4, 1),
    "lgbm_rows": (0.01, 1), "lgbm_l2": (0, None), "linear_penalty": (1e-9, None),
    "inner_share": (0.05, 0.5), "cpus_per_fold": (0, None), "gpus_per_fold": (0.01, None),
    "ray_wait_minutes": (0, None),
}  # fmt: skip
"""Field -> (lowest, highest) allowed value; None = unbounded."""


_EXAMPLES = {
    "": '"embeddings=0, layer.6=1e-5, head=1e-3"', "target_weights": '"cohesion=2, syntax=0.5"',
}  # fmt: skip


def parse_overrides(name: str, text: str) -> dict[str, float]:
    """Values of single optimizer groups, by group.

    Args:
        name: the setting, "group_lrs", "group_decays" or "target_weights".
        text: its value, as in "embeddings=0, layer.6=1e-5, head=1e-3"; "" = none.

    Raises:
        ConfigError: a part is not "group=number", is out of range, or names a group again.
    """
    highest = RANGES["lr"][1] if name == "group_lrs" else None
    what = "target" if name == "target_weights" else "group"
    bounds = "at least 0" if highest is None else f"0 to {highest:g}"
    values: dict[str, float] = {}
    for part in text.split(",") if text.strip() else []:
        group, _, figure = (word.strip() for word in part.partition("="))
        try:
            value = float(figure)
        except ValueError:
            value = math.nan
        if not group or math.isnan(value):
            raise ConfigError(
                f"{name}: {part.strip()!r} is not a {what} and a number: write it as in "
                f"{_EXAMPLES.get(name, _EXAMPLES[''])}"
            )
        if math.isinf(value) or not 0 <= value <= (math.inf if highest is None else highest):
            raise ConfigError(f"{name}: {group} = {figure} is out of range: use {bounds}")
        if group in values:
            raise ConfigError(f"{name} names {group} twice: leave one out")
        values[group] = value
    return values


def check_ranges(cfg: Any) -> None:
    """Refuse the first value that is out of range (ConfigError)."""
    for name, (lowest, highest) in RANGES.items():
        value = getattr(cfg, name)
        if value is None:
            continue
        if not ((lowest is None or value >= lowest) and (highest is None or value <= highest)):
            bounds = f"at least {lowest:g}" if highest is None else f"{lowest:g} to {highest:g}"
            raise ConfigError(f"{name} = {value} is out of range: use {bounds}")
