"""Where settings come from: defaults < input/<comp>/cfg.toml < --from EXP < command line."""

import dataclasses
import difflib
import tomllib
from pathlib import Path
from types import NoneType, UnionType
from typing import Any, Literal, get_args, get_origin, get_type_hints

from oofline.config import CFG
from oofline.errors import ConfigError
from oofline.storage import Paths, read_json

_TYPES: dict[str, Any] = get_type_hints(CFG)


def nearest(name: str, known: list[str]) -> str:
    """A hint such as ``, did you mean lr?``, or an empty text when nothing is near."""
    hits = difflib.get_close_matches(name, known, n=1, cutoff=0.5)
    return f", did you mean {hits[0]}?" if hits else ""


def check_value(name: str, value: Any, source: str) -> Any:
    """The value as its field's type holds it.

    Raises:
        ConfigError: the field is unknown (naming the nearest one) or the type is wrong.
    """
    if name not in _TYPES:
        raise ConfigError(f"{source}: unknown setting {name}{nearest(name, list(_TYPES))}")
    kind = _TYPES[name]
    options = get_args(kind)
    if get_origin(kind) is Literal:
        if value not in options:
            raise ConfigError(
                f"{source}: {name} = {value!r} is not one of {', '.join(map(str, options))}"
                f"{nearest(str(value), [str(o) for o in options])}"
            )
        return value
    allowed = options if isinstance(kind, UnionType) else (kind,)
    if value is None and NoneType in allowed:
        return None
    if float in allowed and type(value) in (int, float):
        return float(value)
    if type(value) in allowed:
        return value
    wanted = " or ".join(t.__name__ for t in allowed if t is not NoneType)
    raise ConfigError(
        f"{source}: {name} = {value!r} is of type {type(value).__name__}, it must be {wanted}"
    )


def load_cfg(paths: Paths, from_exp: str = "") -> CFG:
    """Settings before the command line has its say.

    Args:
        paths: of the competition.
        from_exp: experiment whose settings are the starting point ("" = none).

    Raises:
        ConfigError: an unknown setting, a wrong type, or a contradiction.
        DataError: ``from_exp`` does not exist.
    """
    values: dict[str, Any] = {}
    toml = paths.input / "cfg.toml"
    if toml.exists():
        values |= {k: check_value(k, v, str(toml)) for k, v in read_toml(toml).items()}
    if from_exp:
        path = paths.experiment(from_exp) / "cfg.json"
        stored = {k: v for k, v in read_json(path).items() if k not in ("comp", "exp")}
        values |= {k: check_value(k, v, str(path)) for k, v in stored.items()}
    return CFG(**(values | {"comp": paths.comp}))


def read_toml(path: Path) -> dict[str, Any]:
    """Contents of a TOML file (ConfigError where it is not valid)."""
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path} is not valid TOML: {error}") from None


def field_names() -> list[str]:
    """Names of all settings, in order."""
    return [field.name for field in dataclasses.fields(CFG)]
