"""What must not change between two starts of a search: tuning.json."""

import dataclasses
from pathlib import Path
from typing import Any

from oofline.config import RUNTIME_FIELDS
from oofline.errors import ConfigError, DataError
from oofline.storage import read_json, write_json
from oofline.tuning.search import Search

_FILE = "tuning.json"


def check_search(search: Search, folder: Path) -> None:
    """Refuse other settings, folds or ranges than the search was started with (ConfigError).

    Args:
        search: what is asked for now.
        folder: of the search.
    """
    if not (folder / _FILE).exists():
        return
    former, mine = read_json(folder / _FILE), _identity(search)
    changed = [k for k in ("space", "units") if former[k] != mine[k]]
    theirs = former["settings"]
    changed += [k for k, v in mine["settings"].items() if theirs.get(k, v) != v]
    if changed:
        raise ConfigError(
            f"tuning {search.name} was started with another {', '.join(changed)}: choose "
            "another NAME"
        )


def check_same_inputs(search: Search, folder: Path, inputs: dict[str, str]) -> None:
    """Refuse trials on other rows, folds or weights than those before them (DataError).

    Args:
        search: what is asked for now.
        folder: of the search.
        inputs: see `oofline.claim.inputs_of`.
    """
    former = read_json(folder / _FILE).get("inputs", {}) if (folder / _FILE).exists() else {}
    changed = [name for name, value in inputs.items() if former.get(name, value) != value]
    if changed:
        raise DataError(
            f"tuning {search.name} was started with another {' and '.join(changed)}: restore it, "
            "or choose another NAME"
        )


def store_identity(search: Search, folder: Path, inputs: dict[str, str]) -> None:
    """Write tuning.json, after the checks."""
    write_json(folder / _FILE, _identity(search) | {"inputs": inputs})


def _identity(search: Search) -> dict[str, Any]:
    settings = dataclasses.asdict(search.cfg)
    return {
        "space": [str(parameter) for parameter in search.space],
        "units": [list(unit) for unit in search.units],
        "settings": {k: v for k, v in settings.items() if k not in {"exp", *RUNTIME_FIELDS}},
    }
