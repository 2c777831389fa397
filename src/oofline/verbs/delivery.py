"""Verbs between this machine and Kaggle; the docstrings are their --help."""

from dataclasses import dataclass
from typing import Literal

from oofline.verbs.settings import Settings


@dataclass(frozen=True)
class KernelPush:
    """Upload the rehearsed kernel and its datasets to Kaggle, and wait until it has run there."""

    cfg: Settings
    dry_run: bool = False
    """Print the calls as commands of Kaggle's client; nothing is sent, no key is needed."""
    again: bool = False
    """Push a new version of the kernel even where this build has run."""
    poll_seconds: float = 15.0
    """Seconds between two looks at something that takes its time."""


@dataclass(frozen=True)
class Submit:
    """Submit submission.csv, or the pushed kernel's output, wait for the score, note both."""

    cfg: Settings
    msg: str = ""
    """Stands beside the submission on Kaggle and in the ledger; "" = name and OOF score."""
    way: Literal["auto", "file", "kernel"] = "auto"
    """"auto": the kernel's output where the competition takes notebooks alone, else the file."""
    wait: bool = True
    """Wait for the public score."""
    again: bool = False
    """Submit a file that was submitted before."""
    dry_run: bool = False
    """Print the calls as commands of Kaggle's client; nothing is sent, no key is needed."""
    poll_seconds: float = 15.0
    """Seconds between two looks at something that takes its time."""


@dataclass(frozen=True)
class Ledger:
    """Ask Kaggle for scores that were pending, and show every submission."""

    cfg: Settings
    poll_seconds: float = 15.0
    """Seconds before a question is repeated that Kaggle had no answer to."""


@dataclass(frozen=True)
class Download:
    """Fetch a competition's files from Kaggle into input/, resumed where it stopped."""

    cfg: Settings
    overwrite: bool = False
    """Replace files of the same name that did not come from Kaggle."""
    poll_seconds: float = 15.0
    """Seconds before a question is repeated that Kaggle had no answer to."""


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
