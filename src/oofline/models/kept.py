"""The backbone below adapters: stored once per competition, and found again by its hash.

Folds of an experiment with LoRA hold adapters and head alone. Their ``adapter.json`` names the
backbone by SHA-256; its files lie in ``output/<comp>/backbones/<name>-<hash>``, one copy for all
experiments, seeds and folds, in the number format of the original.
"""

import functools
import hashlib
from pathlib import Path
from typing import Any

from oofline.errors import ConfigError, DataError
from oofline.models.adapters import adapted_layers
from oofline.models.hub import has_safetensors, model_folder
from oofline.storage import copy_file, read_json, sha256_of, write_json

BACKBONES = "backbones"
"""Folder of stored backbones, beside the experiments."""

NOTE = "adapter.json"
"""In a fold's folder: ``{"model", "sha256", "folder"}`` of the backbone that its weights add to."""


def model_digest(folder: Path) -> str:
    """SHA-256 over the SHA-256 of config.json and of every ``*.safetensors`` of a model folder."""
    digest = hashlib.sha256()
    for file in (folder / "config.json", *sorted(folder.glob("*.safetensors"))):
        stat = file.stat()
        digest.update(_file_digest(file.resolve(), stat.st_size, stat.st_mtime_ns).encode())
    return digest.hexdigest()


@functools.lru_cache(maxsize=256)
def _file_digest(path: Path, size: int, modified_ns: int) -> str:
    """A file's SHA-256, computed once per process while its size and time stay."""
    return sha256_of(path)


def write_note(backbone: Any, folder: Path) -> list[str]:
    """Write ``adapter.json``, where the backbone has adapters.

    Args:
        backbone: as `oofline.models.backbone.load_backbone` gave it.
        folder: a fold's.

    Returns:
        Names of what was written: `NOTE`, or nothing.
    """
    if not adapted_layers(backbone):
        return []
    source = Path(backbone.name_or_path)
    digest = model_digest(source)
    name = source.name if source.parent.name == BACKBONES else f"{source.name}-{digest[:12]}"
    note = {"model": str(source), "sha256": digest, "folder": f"{BACKBONES}/{name}"}
    write_json(folder / NOTE, note)
    return [NOTE]


def keep_backbone(folder: Path) -> None:
    """Copy the backbone that a fold's ``adapter.json`` names below the competition's output.

    Files that are there are left alone.

    Args:
        folder: ``output/<comp>/<exp>/seed<S>/fold<K>``.

    Raises:
        OoflineError: a file cannot be written.
    """
    note = read_json(folder / NOTE)
    source, target = Path(note["model"]), folder.parents[2] / note["folder"]
    files = [*source.glob("*.safetensors"), *source.glob("*.safetensors.index.json")]
    for file in (*files, source / "config.json"):
        copy = target / file.name
        if not copy.is_file() or copy.stat().st_size != file.stat().st_size:
            copy_file(file, copy)


def kept_files(folder: Path) -> list[Path]:
    """Files of the stored backbone below a fold's adapters; none where the model is whole.

    Args:
        folder: ``output/<comp>/<exp>/seed<S>/fold<K>``.

    Raises:
        DataError: it has adapters, and their backbone is not there.
    """
    if not (folder / NOTE).is_file():
        return []
    kept = folder.parents[2] / read_json(folder / NOTE)["folder"]
    if not has_safetensors(kept):
        raise DataError(
            f"{kept} is missing, the backbone below the adapters in {folder}: restore it, or "
            "train that fold again"
        )
    return sorted(path for path in kept.iterdir() if not path.name.startswith("."))


def backbone_of(folder: Path, model: str) -> Path:
    """The folder with the backbone that a fold's adapters belong to.

    Args:
        folder: the fold's.
        model: `CFG.model` of its training, looked at where the stored copy is not there.

    Raises:
        ConfigError: it is nowhere, or is not the one that the adapters were trained on.
        DataError: ``adapter.json`` is missing or damaged.
    """
    note = read_json(folder / NOTE)
    kept = folder.parents[2] / note["folder"] if len(folder.parents) > 2 else Path(note["folder"])
    found = kept if has_safetensors(kept) else _elsewhere(note, kept, model)
    if model_digest(found) != note["sha256"]:
        raise ConfigError(
            f"{found} is not the backbone that {folder} was trained on (its SHA-256 is not that of "
            f"{NOTE}): restore it, or copy {note['folder']} from where the fold was trained"
        )
    return found


def _elsewhere(note: dict[str, str], kept: Path, model: str) -> Path:
    """The original: where it was, or by its name."""
    original = Path(note["model"])
    if has_safetensors(original):
        return original
    try:
        return model_folder(model)
    except ConfigError as error:
        raise ConfigError(
            f"the backbone below the adapters is not in {kept}: copy that folder too ({error})"
        ) from error
