"""The verbs of the command line and their options; the docstrings are their --help."""

import re
from dataclasses import dataclass
from typing import Annotated, Literal

import tyro

from oofline.config import CFG

Settings = Annotated[CFG, tyro.conf.OmitArgPrefixes]


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
    """auto, mean, rank_mean, hill_climbing or convex."""


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
    """Every experiment in one table, with paired intervals against a base."""

    cfg: Settings
    base: str = ""
    """Experiment to compare with; "" = the one named base, or the first by name."""


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
class Kernel:
    """Build the Kaggle kernel of an experiment or ensemble: wheels, weights, notebook, manifest."""

    cfg: Settings
    mode: Literal["infer", "train"] = "infer"
    """Predict with the folds trained here, or train them inside Kaggle's time limit."""
    image: str = ""
    """Kaggle's image: a name in images.toml or a file made by `pip freeze` there; "" = newest."""
    python: str = ""
    """Python of the kernel, as in 3.12; "" = the image's."""
    title: str = ""
    """Title of the kernel, from which its address is made; "" = oofline <comp> <exp>."""
    weights_dtype: Literal["fp32", "fp16"] = "fp32"
    """Format of the uploaded weights; the score difference of fp16 is measured and stated."""
    fold: str = "all"
    """MODE=train: folds: all, 0, "0,2" or 1-3."""
    seed: str = "42"
    """MODE=train: seeds: 42 or "42,43"."""


@dataclass(frozen=True)
class KernelRehearse:
    """Run the built notebook offline as Kaggle would, and compare its predictions with ours."""

    cfg: Settings
    multiply: int = 3
    """How many times larger than the public test the hidden one is; 1 adds only the edge cases."""
    hidden_rows: int = 0
    """Rows of the full test, for the projected time; 0 = as many as were rehearsed."""
    speedup: float = 1.0
    """How much faster one of Kaggle's GPUs is than this machine, if you measured it."""
    minutes: float = 0.0
    """Time limit of the rehearsal; 0 = Kaggle's."""
    memory_gb: float = 0.0
    """Memory limit of the rehearsal; 0 = Kaggle's."""
    isolation: Literal["auto", "namespaces", "guard"] = "auto"
    """How network and files are kept away: kernel namespaces, or a guard inside Python."""
    environment: Literal["running", "image"] = "running"
    """Packages of this environment, linked (offline), or the image's own, installed once (GB)."""
    layout: Literal["new", "old"] = "new"
    """Mount points: /kaggle/input/datasets/<owner>/<slug> (new) or /kaggle/input/<slug>."""


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


def verbs() -> dict[str, type]:
    """Verb -> its options."""
    kinds = (
        Demo, Folds, LrFind, Train, Oof, Ensemble, Predict, Submission, Compare, Ablation, Kernel,
        KernelRehearse, Sync, Config, Metrics,
    )  # fmt: skip
    return {re.sub("(?<=[a-z])([A-Z])", r"-\1", kind.__name__).lower(): kind for kind in kinds}
