"""CFG: every setting of the pipeline, one line each, with its meaning and how to switch it off."""

from dataclasses import dataclass
from typing import Literal

from oofline.baseline_settings import BaselineSettings
from oofline.conflicts import check_conflicts
from oofline.engine_settings import EngineSettings
from oofline.limits import check_ranges
from oofline.stage_settings import StageSettings


@dataclass(frozen=True)
class CFG(BaselineSettings, StageSettings, EngineSettings):
    """Settings of one experiment: defaults < cfg.toml < --from EXP < command line."""

    # ---- what is trained
    comp: str = ""
    """Competition: a folder below input/ with train.csv, test.csv and sample_submission.csv."""
    exp: str = "base"
    """Experiment name: results go to output/<comp>/<exp>/."""
    kind: Literal["transformer", "lightgbm", "ridge", "logistic"] = "transformer"
    """What is trained; all but "transformer" take minutes on a CPU."""
    kaggle_slug: str = ""
    """Name of the competition on Kaggle, as in its address; "" = comp."""

    # ---- the competition
    task: Literal[
        "auto", "binary", "multiclass", "regression", "multilabel", "multi-target", "ordinal", "qa",
    ] = "auto"  # fmt: skip
    """What is predicted; "auto" infers it from sample_submission and the target columns."""
    metric: str = "auto"
    """Score to report (see `oofline metrics`); "auto" takes the task's usual one."""
    id_col: str = ""
    """Id column; "" takes the first column of sample_submission."""
    text_col: str = ""
    """Text column (question answering: of the contexts); "" finds it by content."""
    pair_col: str = ""
    """Second text of a pair, or the question; "" finds it by content, "none" = there is none."""
    text_template: str = ""
    """Joins columns into the text, as in "{keyword} {location} {text}"; "" uses text_col alone."""
    target_col: str = ""
    """Target column of train.csv; "" takes the sample's, or the only train column test lacks."""
    group_col: str = ""
    """Rows with the same value stay in one fold; "" finds it by content, "none" has no groups."""
    time_col: str = ""
    """Orders the rows for fold_scheme "time"; "" has no order."""
    encoding: str = "utf-8"
    """Encoding of the csv files (a UTF-8 byte order mark is always accepted)."""
    submission_asks: Literal["auto", "label", "probability"] = "auto"
    """What sample_submission wants for classes; "auto" reads it from the sample and the metric."""

    # ---- folds
    n_folds: int = 5
    """Number of folds K, at least 2."""
    fold_scheme: Literal[
        "auto", "kfold", "stratified", "group", "stratified-group", "binned",
        "multilabel-stratified", "time",
    ] = "auto"  # fmt: skip
    """How rows are split; "auto" chooses by task and prints why."""
    fold_seed: int = 42
    """Seed of the split (training seeds are given with --seed)."""
    fold_bins: int = 10
    """Quantile bins of each target for schemes "binned" and "multilabel-stratified"."""
    pair_groups: bool = False
    """Sentence pairs that share a text stay in one fold."""
    near_duplicates: float = 0.8
    """Jaccard similarity of character 5-grams from which texts share a fold; 0 = exact only."""

    # ---- tokens
    max_len: int = 256
    """Longest input in tokens, special tokens included; longer texts are cut and counted."""
    truncation: Literal["head", "head+tail"] = "head"
    """What is kept of a longer text: its start, or a quarter of it and three from its end."""
    windows: int = 1
    """Most windows of max_len that a longer text is read in, their vectors averaged; 1 = off."""
    window_stride: int = 64
    """Tokens that neighbouring windows share."""
    doc_stride: int = 64
    """Question answering: context tokens that neighbouring windows share, half of them at most."""
    pair_swap: Literal["off", "train", "train+test"] = "off"
    """Symmetric pairs: draw the order anew each epoch, and average both orders in prediction."""

    # ---- model
    model: str = "microsoft/deberta-v3-small"
    """Encoder or decoder: a hub name or a local folder with config.json, weights and tokenizer."""
    pooling: Literal[
        "cls", "mean", "max", "last", "attention", "weighted-layer", "last-k", "gem"
    ] = "mean"  # fmt: skip
    """From token states to one vector; "last" = the last token, for decoders."""
    pooling_layers: int = 4
    """How many last layers "weighted-layer" and "last-k" read."""
    dropout: float | None = None
    """Every dropout of the backbone; None = 0.0 for regression, the backbone's own for the rest."""
    dropout_samples: int = 1
    """Dropout masks on the pooled vector, losses averaged (Inoue 2019); 1 = plain dropout."""
    dropout_sample_p: float = 0.0
    """Dropout on the pooled vector; 0 = off."""
    gradient_checkpointing: bool = False
    """Recompute activations in backward: less memory, more time."""

    # ---- LoRA: the backbone stays as it is, small additions to it are trained
    lora_r: int = 0
    """LoRA (Hu 2021): rank of the additions to each matrix (4 to 64, lr 1e-4 to 5e-4); 0 = off."""
    lora_alpha: float = 16.0
    """LoRA: the additions are multiplied by lora_alpha / lora_r."""
    lora_dropout: float = 0.0
    """LoRA: dropout on what the additions read; 0 = off."""
    lora_targets: str = ""
    """LoRA: names of linear layers, as in "q_proj, v_proj"; "" = all within the layers."""
    lora_4bit: bool = False
    """LoRA: keep the frozen backbone in 4 bits (NF4); needs a CUDA GPU and bitsandbytes."""

    # ---- loss
    loss: Literal["auto", "cross_entropy", "bce", "mse", "huber", "rmse", "corn"] = "auto"
    """"auto": the usual one of the task (see the table of tasks)."""
    ordinal: Literal["regression", "classes", "ordinal"] = "regression"
    """Head of an ordinal task: one value, a softmax over the steps, or CORN (Shi 2021)."""
    target_weights: str = ""
    """Weights of several targets in the loss, as in "cohesion=2, syntax=0.5"; "" = all 1."""
    label_smoothing: float = 0.0
    """Share of the target mass spread evenly over classes; 0 = off."""
    class_weights: Literal["none", "balanced"] = "none"
    """"balanced" weighs rows (or labels) by 1 / class frequency, computed inside the fold."""
    huber_delta: float = 1.0
    """Where the Huber loss turns linear, in units of the (standardised) target."""
    standardize_targets: bool = True
    """Values: train on (y - mean) / std of the fold's training rows; undone in predictions."""

    # ---- optimisation
    epochs: int = 3
    """Passes over the training rows."""
    batch_size: int = 16
    """Rows per batch; a forward pass reads at most this many windows of them."""
    accumulation: int = 1
    """Forward passes per optimizer step; 1 = off."""
    lr: float = 2e-5
    """Peak learning rate of the top layer (1e-5 to 5e-5 for most models)."""
    body_lr: float | None = None
    """Learning rate of the backbone; None = lr, 0 leaves the backbone bit-identical."""
    head_lr: float | None = None
    """Learning rate of the pooling and the output layer; None = lr."""
    layer_decay: float = 1.0
    """Learning rate of each layer relative to the one above it; 1 = off."""
    group_lrs: str = ""
    """Peak rates of single groups, as in "embeddings=0, layer.6=1e-5, head=1e-3"; "" = none."""
    group_decays: str = ""
    """Weight decay of single groups, as in "embeddings=0, head=0.1"; "" = none."""
    weight_decay: float = 0.01
    """AdamW decay, never on biases and norms; 0 = off."""
    adam_beta1: float = 0.9
    """Decay of AdamW's gradient mean."""
    adam_beta2: float = 0.999
    """Decay of AdamW's squared gradient mean."""
    adam_eps: float = 1e-6
    """Term in AdamW's denominator."""
    warmup_fraction: float = 0.1
    """Share of the optimizer steps over which the rate rises from 0; 0 = off."""
    schedule: Literal["linear", "cosine", "constant"] = "linear"
    """Shape of the learning rate after warm-up."""
    cosine_cycles: int = 1
    """Restarts of the cosine schedule: 1 = one fall to 0."""
    clip_norm: float = 1.0
    """Largest gradient norm; 0 = off."""
    precision: Literal["auto", "fp32", "bf16", "fp16"] = "auto"
    """"auto": bf16 where the hardware has it, fp16 with GradScaler on older GPUs, else fp32."""

    # ---- techniques (all off by default)
    awp_last_epochs: int = 0
    """Adversarial weight perturbation (Wu 2020) in this many last epochs; 0 = off."""
    awp_start_score: float | None = None
    """AWP from the evaluation on that reaches this score; None = by epochs alone."""
    awp_lr: float = 1e-2
    """AWP: length of the perturbation relative to each matrix (1e-2 in the paper)."""
    awp_eps: float = 1e-2
    """AWP: largest change of a weight relative to its size; 0 = no clamp."""
    awp_mode: Literal["add", "replace"] = "add"
    """AWP: add the adversarial gradient to the clean one, or take its place (the paper)."""
    fgm_eps: float = 0.0
    """Fast gradient method (Miyato 2017): length of the step on the word embeddings; 0 = off."""
    fgm_last_epochs: int = 0
    """FGM in this many last epochs; 0 = in all, or as fgm_start_score says."""
    fgm_start_score: float | None = None
    """FGM from the evaluation on that reaches this score; None = by epochs alone."""
    sift_lambda: float = 0.0
    """SiFT (He 2021): weight of the divergence under perturbed normalised embeddings; 0 = off."""
    sift_lr: float = 1e-4
    """SiFT: length of the ascent step per token, in units of normalised embeddings."""
    sift_noise: float = 1e-2
    """SiFT: standard deviation of the noise that the ascent starts from."""
    rdrop_alpha: float = 0.0
    """R-Drop (Liang 2021): weight of the divergence between two dropout masks; 0 = off."""
    mixout_p: float = 0.0
    """Mixout (Lee 2020): probability of going back to the pretrained weight; 0 = off."""
    mixout_mask: Literal["column", "element"] = "column"
    """Mixout: one mask per input column (the paper), or per weight (mixconnect)."""
    ema_decay: float = 0.0
    """Predict with an exponential moving average of the weights; 0 = off, 0.99 to 0.9999."""
    reinit_layers: int = 0
    """Re-initialise this many top layers (Zhang 2021); 0 = off."""
    freeze_layers: int = 0
    """Freeze the embeddings and this many lowest layers; 0 = off."""

    # ---- evaluation and checkpoints
    evals_per_epoch: float = 1.0
    """Evaluations per epoch on average, spread evenly, one at the end; 0.5 = every other epoch."""
    patience: int = 0
    """Stop after this many evaluations without improvement; 0 = off."""
    monitor: Literal["score", "loss"] = "score"
    """What "best" and patience look at: the validation metric or the validation loss."""
    checkpoint: Literal["last", "best", "average"] = "last"
    """Weights that predict: the last, the best by monitor (optimistic), or an average."""
    average_last: int = 3
    """checkpoint "average": mean of the weights at this many last evaluations."""

    # ---- how it runs (may change between two starts of the same experiment)
    device: str = "auto"
    """"auto" (every GPU, else mps, cpu), "cpu", a list, or "cuda:0+cuda:1": one fold on both."""
    eval_batch_size: int = 64
    """Rows, or windows of them, per forward pass without gradient."""
    time_limit_hours: float = 0.0
    """Stop in time with a resumable state; 0 = no limit."""
    save_minutes: float = 5.0
    """Minutes between resumable states inside a fold; 0 = after every optimizer step."""
    wandb: Literal["auto", "online", "offline", "disabled"] = "auto"
    """"auto": online with a key, offline without."""
    bootstrap_samples: int = 1000
    """Resamples behind every confidence interval."""

    def __post_init__(self) -> None:
        check_ranges(self)
        check_conflicts(self)


# fmt: off
RUNTIME_FIELDS = frozenset({
    "kaggle_slug", "device", "eval_batch_size", "time_limit_hours", "save_minutes", "wandb",
    "bootstrap_samples", "engine", "cpus_per_fold", "gpus_per_fold", "shared_storage",
    "ray_wait_minutes",
})
# fmt: on
"""Fields that say how a run goes, not what it learns: they may differ on resuming.

``device`` stands among them so that a fold can move to another GPU; where precision is "auto", a
device of another kind computes in another number format.
"""
