"""Where wandb's files go, and whether it has a key, found out without asking it."""

import netrc
import os
from pathlib import Path
from urllib.parse import urlsplit

from oofline.storage import Paths


def prepare(paths: Paths) -> None:
    """Point everything wandb writes below output/<comp>/wandb, and keep it silent."""
    folder = (paths.output / "wandb").absolute()
    folder.mkdir(parents=True, exist_ok=True)
    for kind in ("DATA", "CACHE", "ARTIFACT"):
        os.environ[f"WANDB_{kind}_DIR"] = str(folder / f".{kind.lower()}")
    for name in [name for name, value in os.environ.items() if not value]:
        if name.startswith("WANDB_"):
            del os.environ[name]  # exported but empty: wandb would refuse it
    os.environ["WANDB_SILENT"] = "true"
    os.environ["WANDB_ERROR_REPORTING"] = "false"


def has_key() -> bool:
    """Whether wandb would find credentials: environment, settings file or netrc."""
    if os.environ.get("WANDB_API_KEY") or os.environ.get("WANDB_IDENTITY_TOKEN_FILE"):
        return True
    import wandb

    settings = wandb.setup().settings
    if settings.api_key:
        return True
    host = urlsplit(os.environ.get("WANDB_BASE_URL") or settings.base_url).netloc
    for path in (os.environ.get("NETRC"), "~/.netrc", "~/_netrc"):
        try:
            if path and netrc.netrc(Path(path).expanduser()).authenticators(host):
                return True
        except (OSError, netrc.NetrcParseError):
            continue
    return False
