"""Verbs from the competition's files to a submission; the docstrings are their --help."""

from dataclasses import dataclass
from typing import Annotated, Literal

import tyro

from oofline.verbs.settings import Settings


@dataclass(frozen=True)
class Folds:
    """Split the training rows into folds and audit them for leaks."""

    cfg: Settings


@dataclass(frozen=True)
class Train:
    """Train folds x seeds; finished ones are skipped, an interrupted one goes on."""

    cfg: Settings
    fold: str = "all"
    """Folds: all, 0, "0,2" or 1-3."""
    seed: str = "42"
    """Seeds: 42 or "42,43"."""
    from_: Annotated[str, tyro.conf.arg(name="from")] = ""
    """Experiment whose settings are the starting point."""
    state: str = ""
    """Project folder with an earlier state (read-only, may be absent): goes on from there."""


@dataclass(frozen=True)
class LrFind:
    """Draw the loss against growing learning rates and suggest one; trains nothing for good."""

    cfg: Settings
    from_: Annotated[str, tyro.conf.arg(name="from")] = ""
    """Experiment whose settings are the starting point; "" = --exp, where it exists."""


@dataclass(frozen=True)
class Pretrain:
    """Adapt a language model to the texts of train and test, or make a small one from scratch."""

    cfg: Settings
    name: str = ""
    """Name of the result; "" = that of the model, or "scratch"."""
    from_scratch: bool = False
    """New weights: a BERT encoder of pretrain_layers, pretrain_hidden and pretrain_heads."""
    vocab: str = ""
    """From scratch: folder whose tokenizer is used; "" = a vocabulary made from the texts."""
    seed: int = 42
    """Seed of the order, the masks and new weights."""


@dataclass(frozen=True)
class Pseudo:
    """Make soft pseudo-labels for unlabelled rows, each fold's by teachers of that fold alone."""

    cfg: Settings
    teacher: str = ""
    """Experiment whose folds are the teachers, or several: "base,awp"."""
    name: str = ""
    """Name of the labels; "" = the teachers joined by +."""
    file: str = ""
    """Unlabelled table beside train.csv, as in "extra.csv"; "" = the test rows."""


@dataclass(frozen=True)
class Oof:
    """Score an experiment out of fold: interval, spreads, pictures."""

    cfg: Settings
    seed: str = ""
    """Seeds to use; "" = all that were trained."""


@dataclass(frozen=True)
class Ensemble:
    """Blend experiments with cross-fitted weights."""

    cfg: Settings
    exps: str = ""
    """Members: "base,awp" or single seeds "base@42,base@43"."""
    name: str = ""
    """Name of the ensemble; "" = the members joined by +."""
    method: str = "auto"
    """auto, mean, rank_mean, hill_climbing, convex; the last two also with _per_target."""


@dataclass(frozen=True)
class Submission:
    """Write a validated submission.csv from an experiment or an ensemble (--exp)."""

    cfg: Settings


@dataclass(frozen=True)
class Predict:
    """Predict the present test file with the stored models of an experiment or ensemble (--exp)."""

    cfg: Settings
    weights: str = ""
    """Project folder with the stored models (read-only is enough); "" = this one."""
    check: bool = False
    """Predict validation rows again as well, and compare with the stored predictions."""
    check_rows: int = 200
    """Validation rows per fold that --check predicts, in whole batches."""


@dataclass(frozen=True)
class Compare:
    """Every experiment in one table, with paired intervals against a base; then the ledger."""

    cfg: Settings
    base: str = ""
    """Experiment to compare with; "" = the one named base, or the first by name."""
    public_rows: int = 0
    """Rows behind the public score; 0 = 30 % of the test rows."""


@dataclass(frozen=True)
class Ablation:
    """Arms (named sets of settings) on the same folds and seeds, in one table and picture."""

    cfg: Settings
    arms: str = ""
    """Arms: "base,awp,fgm", of the ready-made ones and those of --file."""
    base: str = ""
    """Arm to compare with; "" = the first of --arms."""
    fold: str = "all"
    """Folds: all, 0, "0,2" or 1-3."""
    seed: str = "42"
    """Seeds: 42 or "42,43"; with five or more the intervals hold the seeds' noise too."""
    name: str = ""
    """Name of the ablation; "" = ablation. Each arm is the experiment <name>-<arm>."""
    file: str = ""
    """Arms of your own: a TOML file with tables [arms.<name>]."""
    from_: Annotated[str, tyro.conf.arg(name="from")] = ""
    """Experiment whose settings are the starting point."""


@dataclass(frozen=True)
class Tune:
    """Search settings for the best out-of-fold score, and say what the find is worth."""

    cfg: Settings
    space: str = ""
    """What is searched: "lr=log(5e-6,5e-4), epochs=range(1,4), pooling=choice(mean,cls)"."""
    file: str = ""
    """A TOML file with a table [space], as in lr = "log(5e-6, 5e-4)"."""
    trials: int = 30
    """Trials in all; a larger number goes on with the same search."""
    parallel: int = 1
    """Trials side by side, each in a process; on a CPU they divide its threads."""
    sampler: Literal["tpe", "gp", "random"] = "tpe"
    """Proposes values: Parzen estimators, a Gaussian process, or chance."""
    prune: Literal["auto", "none", "folds", "all"] = "auto"
    """Ends bad trials after a fold ("folds") or inside one too ("all"); "auto": none with gp."""
    prune_p: float = 0.2
    """Level of Wilcoxon's test of a trial's folds against those of the best trial, 0..0.5."""
    fold: str = "all"
    """Folds of each trial: all, 0, "0,2" or 1-3."""
    seed: str = "42"
    """Seeds of each trial: 42 or "42,43"."""
    sampler_seed: int = 0
    """Seed of the sampler."""
    confirm: int = 3
    """New seeds on which the best values and the default are trained again; 0 = off."""
    name: str = ""
    """Name of the tuning; "" = <exp>-<settings>. Each trial is the experiment <name>-t<number>."""
    apply: str = ""
    """Experiment to write the best values to, for `oofline train`; "" = none."""
    storage: str = ""
    """Database of the search, as in postgresql://host/name; "" = a SQLite file beside it."""
    keep_models: bool = False
    """Trials keep the weights of their folds."""
    from_: Annotated[str, tyro.conf.arg(name="from")] = ""
    """Experiment whose settings are the starting point; "" = --exp, where it exists."""


@dataclass(frozen=True)
class Plan:
    """Foretell minutes, memory and disk of a training, here and on GPUs, from a minute of it."""

    cfg: Settings
    fold: str = "all"
    """Folds: all, 0, "0,2" or 1-3; finished ones are not counted."""
    seed: str = "42"
    """Seeds: 42 or "42,43"."""
    trials: int = 0
    """Trials of a tuning, each of all these folds and seeds; 0 = a plain training."""
    gpus: str = ""
    """A further machine: "2xT4", "8xA100", or "4" of this machine's kind; "" = none."""
    minutes: float = 1.0
    """Time for the measurement."""
    from_: Annotated[str, tyro.conf.arg(name="from")] = ""
    """Experiment whose settings are the starting point; "" = --exp, where it exists."""


@dataclass(frozen=True)
class Demo:
    """Fetch the demo competition and take it from train.csv to a submission and its true score."""

    cfg: Settings
    seed: str = "42,43"
    """Seeds."""


@dataclass(frozen=True)
class Sync:
    """Upload runs that were tracked offline to wandb."""

    cfg: Settings


@dataclass(frozen=True)
class Config:
    """Print every setting with its value and meaning."""

    cfg: Settings
    markdown: bool = False
    """As the table of the README."""


@dataclass(frozen=True)
class Metrics:
    """List the metrics, their direction and the tasks they fit."""

    cfg: Settings
