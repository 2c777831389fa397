"""From the name of a model to a local folder with its files."""

import contextlib
import json
import os
from pathlib import Path

import huggingface_hub
from huggingface_hub import constants
from huggingface_hub.errors import GatedRepoError, HFValidationError, RepositoryNotFoundError

from oofline.errors import ConfigError

HUB_TIMEOUT_SECONDS = 5.0
"""A hub that has not answered by then counts as unreachable."""

_FILES = ["*.json", "*.txt", "*.model", "*.safetensors"]
_CONVERTER = "SFconvertbot"

_MOVED = "OOFLINE_MODEL_FOLDERS"
"""Environment variable: JSON of model names -> folders (see `use_folders`)."""


def model_folder(name: str) -> Path:
    """Find the folder of a model, downloading it where it is a hub name.

    Args:
        name: a local folder, or a hub name (``owner/name`` or ``name``). A folder wins.

    Returns:
        A folder with a config.json. Hub models are looked for in the local cache when the hub
        cannot be reached.

    Raises:
        ConfigError: no such folder, no config.json in it, no such model on the hub, or the hub
            cannot be reached and the model is not in the cache.
    """
    folder = Path(json.loads(os.environ.get(_MOVED, "{}")).get(name, name)).expanduser()
    if not name or not folder.is_dir():
        if _looks_like_path(name):
            raise ConfigError(
                f"model = {name!r}: this folder does not exist; give a folder with config.json, "
                "*.safetensors and tokenizer files, or a hub name"
            )
        folder = _download(name)
    if not (folder / "config.json").is_file():
        raise ConfigError(
            f"model = {name!r}: {folder} has no config.json; give the folder that "
            "save_pretrained wrote"
        )
    return folder


def use_folders(folders: dict[str, Path]) -> None:
    """Find these models in these folders, in this process and those that it starts.

    For names that were given on another machine: a folder there is no folder here.
    """
    os.environ[_MOVED] = json.dumps({name: str(folder) for name, folder in folders.items()})


def has_safetensors(folder: Path) -> bool:
    """True when ``folder`` itself holds a ``*.safetensors`` file."""
    return any(folder.glob("*.safetensors"))


def _looks_like_path(name: str) -> bool:
    return not name or name.startswith(("/", ".", "~")) or name.count("/") > 1 or "\\" in name


def _download(name: str) -> Path:
    try:
        folder = _snapshot(name)
    except HFValidationError:
        raise ConfigError(f"model = {name!r} is neither a folder nor a hub name") from None
    except GatedRepoError:
        raise ConfigError(
            f"model = {name!r} is gated on the hub: accept its terms there and set HF_TOKEN, or "
            "give a local folder"
        ) from None
    except RepositoryNotFoundError:
        raise ConfigError(
            f"model = {name!r} is no folder here and not on the hub: check the spelling (for a "
            "private model set HF_TOKEN)"
        ) from None
    except Exception as error:  # the client raises many kinds: sockets, proxies, TLS, HTTP
        cached = _cached_with_weights(name)
        if cached is None:
            raise ConfigError(_unreachable(name)) from error
        return cached
    if has_safetensors(folder):
        return folder
    return _cached_with_weights(name) or _converted(name) or folder


def _snapshot(name: str, revision: str = "main") -> Path:
    """Download what is missing; asking for the commit first is the call that can time out."""
    info = huggingface_hub.HfApi().model_info(name, revision=revision, timeout=HUB_TIMEOUT_SECONDS)
    return Path(
        huggingface_hub.snapshot_download(
            name, revision=info.sha, allow_patterns=_FILES, ignore_patterns=["*/*"]
        )
    )


def _unreachable(name: str) -> str:
    why = (
        "HF_HUB_OFFLINE is set"
        if constants.is_offline_mode()
        else f"{constants.ENDPOINT} cannot be reached"
    )
    return (
        f"model = {name!r} is no folder here, {why}, and its weights are not in the cache "
        f"{constants.HF_HUB_CACHE}: give a local folder, or download it once with network "
        "(HF_HOME moves the cache, HF_HUB_OFFLINE=1 then uses it without asking)"
    )


def _cached_with_weights(name: str) -> Path | None:
    """The newest cached revision that has safetensors (also one that is not "main")."""
    snapshots = Path(constants.HF_HUB_CACHE) / f"models--{name.replace('/', '--')}" / "snapshots"
    folders = [path.parent for path in snapshots.glob("*/config.json")]
    return max(
        filter(has_safetensors, folders), key=lambda folder: folder.stat().st_mtime, default=None
    )


def _converted(name: str) -> Path | None:
    """Older models have pickled weights only; the hub's own bot offers a converted revision."""
    with contextlib.suppress(Exception):
        for thread in huggingface_hub.HfApi().get_repo_discussions(name, author=_CONVERTER):
            if thread.is_pull_request and "safetensors" in thread.title:
                return _snapshot(name, revision=f"refs/pr/{thread.num}")
    return None
