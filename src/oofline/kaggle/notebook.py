"""The notebook and Kaggle's metadata files, from one template and the names that Kaggle allows."""

import json
import os
import re
import unicodedata
from importlib.resources import files
from pathlib import Path
from typing import Any

import nbformat

from oofline.errors import ConfigError
from oofline.kaggle.image import limits

TITLE_LENGTHS = (6, 50)
"""Kaggle's limits for titles of datasets (and their slugs); a kernel's are within them."""
PARTS = ("code", "weights")
OWNER = "INSERT_USERNAME_HERE"
"""Stands in the metadata where no Kaggle account is known yet; Kaggle's client writes the same."""


def slug_of(title: str) -> str:
    """The slug that Kaggle makes of a title: lower case, runs of other characters become dashes."""
    plain = unicodedata.normalize("NFKD", title).encode("ascii", "ignore").decode()
    return re.sub(r"[^a-z0-9]+", "-", plain.lower()).strip("-")


def kernel_title(title: str, comp: str, exp: str, mode: str) -> str:
    """The title as given, or one made of the names; the longest part's suffix still fits.

    Raises:
        ConfigError: a given title is too short, too long, or gives no slug.
    """
    longest = TITLE_LENGTHS[1] - max(len(f" {part}") for part in PARTS)
    made = title or f"oofline {slug_of(comp)} {slug_of(exp)}{' train' * (mode == 'train')}"
    made = " ".join(made.split()) if title else made.replace("-", " ").strip()[:longest].strip()
    if not TITLE_LENGTHS[0] <= len(made) <= longest or len(slug_of(made)) < TITLE_LENGTHS[0]:
        raise ConfigError(
            f"title = {made!r} is no title for Kaggle: use {TITLE_LENGTHS[0]} to {longest} "
            "characters, most of them Latin letters or digits, from which the address is made"
        )
    return made


def kaggle_owner() -> str:
    """The account's name from KAGGLE_USERNAME or kaggle.json, or `OWNER`; no key is read."""
    name = os.environ.get("KAGGLE_USERNAME", "")
    folder = Path(os.environ.get("KAGGLE_CONFIG_DIR") or Path.home() / ".kaggle")
    if not name and (folder / "kaggle.json").is_file():
        try:
            name = str(json.loads((folder / "kaggle.json").read_text()).get("username", ""))
        except (ValueError, AttributeError):
            name = ""  # Kaggle's client will say what is wrong with it
    return name or OWNER


def fill_template(title: str, kernel: dict[str, Any]) -> str:
    """The notebook as text: the template with its title and parameters.

    Args:
        title: shown on top.
        kernel: what the notebook's cells read as ``KERNEL``.
    """
    text = (files("oofline.kaggle") / "kernel_template.ipynb").read_text(encoding="utf-8")
    notebook = nbformat.reads(text, as_version=4)
    for cell in notebook.cells:
        if cell.cell_type == "markdown":
            cell.source = cell.source.replace("TITLE", title)
        if "parameters" in cell.metadata.get("tags", []):
            cell.source = f"KERNEL = {_literal(kernel)}  # filled in by `oofline kernel`"
    nbformat.validate(notebook)
    return nbformat.writes(notebook) + "\n"


def _literal(value: dict[str, Any]) -> str:
    """A Python literal, a line for each key."""
    lines = [f"    {key!r}: {item!r}," for key, item in value.items()]
    return "\n".join(["{", *lines, "}"])


def dataset_metadata(title: str, part: str, owner: str) -> dict[str, Any]:
    """Contents of dataset-metadata.json."""
    name = f"{title} {part}"
    return {
        "title": name,
        "id": f"{owner}/{slug_of(name)}",
        "licenses": [{"name": "other"}],
        "isPrivate": True,
    }


def kernel_metadata(title: str, owner: str, competition: str, again: bool) -> dict[str, Any]:
    """Contents of kernel-metadata.json: private, GPU, no internet.

    Args:
        title: of the kernel; its slug is the address.
        owner: account.
        competition: its name on Kaggle.
        again: attach the kernel's own output, for a training that goes on.
    """
    slug = slug_of(title)
    return {
        "id": f"{owner}/{slug}",
        "title": title,
        "code_file": f"{slug}.ipynb",
        "language": "python",
        "kernel_type": "notebook",
        "is_private": True,
        "enable_gpu": True,
        "enable_tpu": False,
        "enable_internet": False,
        "machine_shape": limits()["machine_shape"],
        "dataset_sources": [f"{owner}/{slug_of(f'{title} {part}')}" for part in PARTS],
        "competition_sources": [competition],
        "kernel_sources": [f"{owner}/{slug}"] if again else [],
        "model_sources": [],
    }
