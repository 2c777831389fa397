"""What CFG refuses beyond ranges: settings that contradict each other, or cannot act.

Called while a CFG is made, so the functions here take it without importing its class.
"""

import math
from collections.abc import Iterator
from typing import Any

from oofline.errors import ConfigError
from oofline.limits import parse_overrides

_NOT_IN_NAMES = set('/\\@,:*?"<>|')
RESERVED = (
    "ensembles", "wandb", "kernel", "ablations", "tuning", "lr-find", "workers",
    "backbones", "pretrained", "pseudo",
)  # fmt: skip
"""Folders below output/<comp> that are no experiments."""
PAIRS_ARE_CUT = (
    "a sentence pair is cut by the tokenizer, longest text first: leave out truncation = "
    '"head+tail" and windows'
)


def check_conflicts(cfg: Any) -> None:
    """Refuse settings that cannot act, or not together (ConfigError, one line)."""
    if cfg.dropout_samples > 1 and cfg.dropout_sample_p == 0:
        raise ConfigError(
            f"dropout_samples = {cfg.dropout_samples} with dropout_sample_p = 0 draws the same "
            "mask every time: set dropout_sample_p (0.1 to 0.5) or dropout_samples = 1"
        )
    if cfg.fold_scheme in ("group", "stratified-group") and cfg.group_col == "none":
        raise ConfigError(f'fold_scheme = "{cfg.fold_scheme}" needs group_col')
    if cfg.fold_scheme == "time" and not cfg.time_col:
        raise ConfigError('fold_scheme = "time" needs time_col')
    if cfg.patience > max(1, cfg.epochs * cfg.evals_per_epoch):
        raise ConfigError(
            f"patience = {cfg.patience} can never act: {cfg.epochs} epochs x "
            f"{cfg.evals_per_epoch:g} evaluations; lower patience or raise evals_per_epoch"
        )
    if cfg.cosine_cycles > 1 and cfg.schedule != "cosine":
        raise ConfigError(f'cosine_cycles = {cfg.cosine_cycles} acts only with schedule = "cosine"')
    parse_overrides("group_decays", cfg.group_decays)
    parse_overrides("target_weights", cfg.target_weights)
    _check_inputs(cfg)
    _check_stages(cfg)
    if cfg.dropout is not None and cfg.dropout > 0 and _body_is_frozen(cfg):
        raise ConfigError("dropout acts on the backbone, which body_lr = 0 freezes: leave one out")
    _check_delays(cfg)
    for clash, message in _all_conflicts(cfg):
        if clash:
            raise ConfigError(message)
    for name in ("comp", "exp", "pseudo"):
        value = getattr(cfg, name)
        if value or name == "exp":
            check_name(name, value)
    if cfg.exp in RESERVED:
        raise ConfigError(f"exp = {cfg.exp!r} is a folder of the pipeline's own: choose another")


def check_name(field: str, value: str) -> None:
    """Refuse what is not the name of one folder (ConfigError)."""
    if not value or value != value.strip() or value[0] == "." or set(value) & _NOT_IN_NAMES:
        raise ConfigError(f"{field} = {value!r} must be a plain folder name")


def _check_inputs(cfg: Any) -> None:
    """Settings of pairs and windows that contradict each other."""
    pairs = cfg.pair_swap != "off" or cfg.pair_groups or cfg.pair_col not in ("", "none")
    if pairs and cfg.pair_col == "none":
        raise ConfigError('pair_col = "none" with pair_swap or pair_groups: leave one out')
    if pairs and (cfg.truncation != "head" or cfg.windows > 1):
        raise ConfigError(PAIRS_ARE_CUT)
    if cfg.windows > 1 and cfg.truncation != "head":
        raise ConfigError('windows read a text from its start on: leave out "head+tail"')
    if cfg.windows > 1 and cfg.window_stride > cfg.max_len // 2:
        raise ConfigError(
            f"window_stride = {cfg.window_stride} is more than half of max_len = {cfg.max_len}: "
            "windows would hardly move on"
        )


def _check_stages(cfg: Any) -> None:
    """Settings of pretraining and pseudo-labels that cannot act."""
    if cfg.pretrain_hidden % cfg.pretrain_heads:
        raise ConfigError(
            f"pretrain_hidden = {cfg.pretrain_hidden} is no multiple of pretrain_heads = "
            f"{cfg.pretrain_heads}"
        )
    if not cfg.pseudo and (cfg.pseudo_weight != 1 or cfg.pseudo_threshold):
        raise ConfigError("pseudo_weight and pseudo_threshold need pseudo: name the labels")


def _body_is_frozen(cfg: Any) -> bool:
    """Whether the settings leave no part of the backbone to train."""
    rates = parse_overrides("group_lrs", cfg.group_lrs)
    return cfg.body_lr == 0 and not any(rates[name] for name in rates if name != "head")


def _check_delays(cfg: Any) -> None:
    """What a delayed technique needs to begin at all."""
    for name in ("awp", "fgm"):
        last = getattr(cfg, f"{name}_last_epochs")
        if last > cfg.epochs:
            raise ConfigError(
                f"{name}_last_epochs = {last}, but there are {cfg.epochs} epochs: "
                f"use 1 to {cfg.epochs}"
            )
        start = getattr(cfg, f"{name}_start_score")
        if start is not None and not math.isfinite(start):
            raise ConfigError(f"{name}_start_score = {start} can never be reached: give a number")
        if start is not None and round(cfg.epochs * cfg.evals_per_epoch) <= 1:
            raise ConfigError(
                f"{name}_start_score can never act: the only evaluation is at the end of training; "
                f"raise evals_per_epoch or epochs, or use {name}_last_epochs"
            )
    if cfg.fgm_eps == 0 and (cfg.fgm_last_epochs or cfg.fgm_start_score is not None):
        raise ConfigError("fgm_last_epochs and fgm_start_score need fgm_eps above 0 (0.5 to 1)")


def _all_conflicts(cfg: Any) -> Iterator[tuple[bool, str]]:
    yield from _gpu_conflicts(cfg)
    yield from _technique_conflicts(cfg)
    yield from _lora_conflicts(cfg)
    yield from _baseline_conflicts(cfg)
    yield from _engine_conflicts(cfg)


def _gpu_conflicts(cfg: Any) -> Iterator[tuple[bool, str]]:
    """The same, of GPUs for one fold."""
    several = cfg.gpus_per_fold > 1
    yield (
        several and cfg.gpus_per_fold % 1 != 0,
        f"gpus_per_fold = {cfg.gpus_per_fold:g}: above 1 it is a whole number of GPUs",
    )
    yield (
        several and cfg.kind != "transformer",
        f"gpus_per_fold = {cfg.gpus_per_fold:g} trains a network on several GPUs: leave it out "
        f"with {cfg.kind}",
    )


def _technique_conflicts(cfg: Any) -> Iterator[tuple[bool, str]]:
    """(whether it holds, what to change) of every pair of settings that cannot work together."""
    awp = bool(cfg.awp_last_epochs) or cfg.awp_start_score is not None
    fgm, mixout, frozen = cfg.fgm_eps > 0, cfg.mixout_p > 0, _body_is_frozen(cfg)
    embeddings_lr = parse_overrides("group_lrs", cfg.group_lrs).get("embeddings")
    yield awp and cfg.awp_lr == 0, "AWP with awp_lr = 0 perturbs nothing: set awp_lr (1e-2)"
    yield (
        awp and fgm,
        "AWP and FGM both attack with the step's gradient, which the other has changed by then: "
        "leave out fgm_eps or awp_last_epochs",
    )
    yield fgm and frozen, "FGM acts on the embeddings, which body_lr = 0 freezes: leave one out"
    yield (
        fgm and embeddings_lr == 0,
        "FGM acts on the embeddings, which group_lrs freezes: leave one out",
    )
    yield (
        fgm and cfg.freeze_layers > 0,
        "FGM acts on the embeddings, which freeze_layers freezes: leave one out",
    )
    yield (
        cfg.rdrop_alpha > 0
        and cfg.dropout == 0
        and not (mixout or cfg.dropout_sample_p or cfg.lora_dropout),
        "R-Drop compares two dropout masks, and dropout = 0: set dropout (0.1) or mixout_p",
    )
    yield (
        cfg.sift_lambda > 0 and cfg.sift_noise == 0,
        "SiFT starts its ascent from noise, and sift_noise = 0: set sift_noise (1e-2)",
    )
    yield (
        mixout and cfg.dropout is not None and cfg.dropout > 0,
        "mixout takes the place of dropout: leave out dropout or mixout_p",
    )
    yield mixout and frozen, "mixout acts on the backbone, which body_lr = 0 freezes"
    yield (
        cfg.reinit_layers > 0 and frozen,
        "reinit_layers with body_lr = 0 would keep random layers: leave one out",
    )
    yield (
        cfg.freeze_layers > 0 and frozen,
        "body_lr = 0 freezes the whole backbone: leave out freeze_layers or body_lr",
    )
    yield (
        cfg.ema_decay > 0 and cfg.checkpoint == "average",
        'ema_decay averages already: leave out ema_decay or checkpoint = "average"',
    )


def _lora_conflicts(cfg: Any) -> Iterator[tuple[bool, str]]:
    """The same, of LoRA: the backbone's own weights stay as they are."""
    lora = cfg.lora_r > 0
    yield (
        not lora and bool(cfg.lora_dropout or cfg.lora_targets or cfg.lora_4bit),
        "lora_dropout, lora_targets and lora_4bit need lora_r above 0 (8 to 64)",
    )
    yield lora and _body_is_frozen(cfg), "LoRA trains the backbone, which body_lr = 0 freezes"
    yield (
        lora and cfg.mixout_p > 0,
        "mixout sends weights back to their pretrained values, where LoRA leaves them: leave out "
        "mixout_p or lora_r",
    )
    yield (
        lora and cfg.fgm_eps > 0,
        "FGM acts on the embeddings, which LoRA freezes: leave out fgm_eps, or use AWP",
    )
    yield (
        lora and cfg.reinit_layers > 0,
        "reinit_layers makes layers random, and LoRA would leave them so: leave one out",
    )


_OF_TRANSFORMERS = {
    "awp_last_epochs": 0, "awp_start_score": None, "fgm_eps": 0, "sift_lambda": 0,
    "rdrop_alpha": 0, "mixout_p": 0, "ema_decay": 0, "reinit_layers": 0, "freeze_layers": 0,
    "target_weights": "", "windows": 1, "lora_r": 0, "pseudo": "",
}  # fmt: skip


def _baseline_conflicts(cfg: Any) -> Iterator[tuple[bool, str]]:
    """The same, for the kinds without a neural network."""
    grams = bool(cfg.tfidf_words.strip() or cfg.tfidf_chars.strip())
    for name, off in _OF_TRANSFORMERS.items():
        value = getattr(cfg, name)
        yield (
            cfg.kind != "transformer" and value != off,
            f'{name} = {value} acts on kind "transformer" alone: leave it out with {cfg.kind}',
        )
    yield (
        cfg.kind != "transformer" and cfg.ordinal == "ordinal",
        f'ordinal = "ordinal" is a head of transformers: "regression" or "classes" with {cfg.kind}',
    )
    yield (
        cfg.kind != "transformer" and not grams,
        f"kind = {cfg.kind} without n-grams: set tfidf_words or tfidf_chars",
    )
    yield (
        not cfg.svd_beside and cfg.svd_dims == 0,
        "svd_beside = false takes the n-grams away: set svd_dims (100 to 300)",
    )


def _engine_conflicts(cfg: Any) -> Iterator[tuple[bool, str]]:
    """The same, of the engines."""
    yield (
        cfg.engine == "ray" and cfg.device.startswith("mps"),
        'engine = "ray" knows CPUs and CUDA GPUs: leave out device = "mps"',
    )
