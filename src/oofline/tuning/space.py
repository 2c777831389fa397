"""What is searched: settings and their ranges, from the command line or a TOML file."""

import dataclasses
import itertools
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import optuna

from oofline.ablation.arms import SAME_IN_ALL
from oofline.config import CFG
from oofline.errors import ConfigError
from oofline.sources import check_value, read_toml

Form = Literal["log", "range", "choice"]
_ENTRY = re.compile(r"\s*([a-z]\w*)\s*=\s*([a-z]+)\s*\(([^()]*)\)\s*(?:[;,]|(?=\s|$))")
FORMS = "lr=log(5e-6,5e-4), epochs=range(1,4), pooling=choice(mean,cls)"


@dataclass(frozen=True)
class Parameter:
    """One setting that is searched.

    Attributes:
        name: of a field of CFG.
        form: "log" and "range" lie between two bounds, both included; "choice" lists values.
        values: the two bounds, or the choices, as the field's type holds them.
    """

    name: str
    form: Form
    values: tuple[Any, ...]

    @property
    def whole(self) -> bool:
        """Whether a bounded setting takes whole numbers alone."""
        return self.form != "choice" and all(type(value) is int for value in self.values)

    def suggest(self, trial: optuna.Trial) -> Any:
        """The value that a trial tries."""
        if self.form == "choice":
            return trial.suggest_categorical(self.name, self.values)
        low, high = self.values
        if self.whole:
            return trial.suggest_int(self.name, low, high, log=self.form == "log")
        return trial.suggest_float(self.name, low, high, log=self.form == "log")

    def holds(self, value: Any) -> bool:
        """Whether a value lies within."""
        if self.form == "choice":
            return value in self.values
        return value is not None and self.values[0] <= value <= self.values[1]

    def __str__(self) -> str:
        return f"{self.name}={self.form}({','.join(map(str, self.values))})"


def read_space(cfg: CFG, text: str, file: str = "") -> tuple[Parameter, ...]:
    """What is searched, checked against the settings that all trials start from.

    Args:
        cfg: those settings.
        text: entries as in `FORMS`; they replace those of the same name in the file.
        file: a TOML file with a table [space], its entries as in ``lr = "log(5e-6, 5e-4)"``;
            "" = none.

    Raises:
        ConfigError: nothing to search, not of this form, an unknown setting, a value that it does
            not take, or a setting that all trials share.
    """
    entries = (_of_file(Path(file)) if file else {}) | _of_text(text)
    if not entries:
        raise ConfigError(f'what is searched? give SPACE="lr=log(5e-6,5e-4)" (forms: {FORMS})')
    space = tuple(_parameter(name, *entry) for name, entry in entries.items())
    for parameter in space:
        for value in parameter.values:
            _check(cfg, parameter, value)
    return space


def _of_text(text: str) -> dict[str, tuple[str, str, str]]:
    """Name -> (where it stands, form, arguments)."""
    entries, at = {}, 0
    while text[at:].strip():
        found = _ENTRY.match(text, at)
        if found is None:
            raise ConfigError(f"SPACE: cannot read {text[at:].strip()!r}; forms: {FORMS}")
        name, form, arguments = found.groups()
        if name in entries:
            raise ConfigError(f"SPACE: {name} is given twice")
        entries[name] = ("SPACE", form, arguments)
        at = found.end()
    return entries


def _of_file(path: Path) -> dict[str, tuple[str, str, str]]:
    if not path.is_file():
        raise ConfigError(f"{path} does not exist: --file names a file with a table [space]")
    content = read_toml(path)
    table = content.get("space")
    if set(content) != {"space"} or not isinstance(table, dict):
        raise ConfigError(f"{path}: it must hold a table [space] and nothing else")
    entries: dict[str, tuple[str, str, str]] = {}
    for name, form in table.items():
        found = _ENTRY.fullmatch(f"{name}={form}")
        if found is None:
            raise ConfigError(f'{path}: {name} must be as in lr = "log(5e-6, 5e-4)"; all: {FORMS}')
        entries[name] = (str(path), found[2], found[3])
    return entries


def _parameter(name: str, source: str, form: str, arguments: str) -> Parameter:
    parts = [part.strip() for part in arguments.split(",") if part.strip()]
    values = tuple(check_value(name, _read(part), source) for part in parts)
    if name in SAME_IN_ALL:
        raise ConfigError(f"{source}: {name} is the same in all trials, it cannot be searched")
    if form == "choice" and len(set(values)) == len(values) > 1:
        return Parameter(name, "choice", values)
    if form == "choice":
        raise ConfigError(f"{source}: {name}: choice(...) takes two or more different values")
    if form not in ("log", "range"):
        raise ConfigError(f"{source}: {name}: unknown form {form}(...); forms: {FORMS}")
    if len(values) != 2 or not all(type(v) in (int, float) for v in values):
        raise ConfigError(f"{source}: {name}: {form}(low,high) takes two numbers")
    if not values[0] < values[1] or (form == "log" and values[0] <= 0):
        above = " and above 0" * (form == "log")
        raise ConfigError(f"{source}: {name}: {form}(low,high) needs low below high{above}")
    return Parameter(name, "log" if form == "log" else "range", values)


def _read(word: str) -> Any:
    """A word as TOML would hold it; what is no number or truth value is text."""
    known = {"true": True, "false": False, "none": None}
    if word.lower() in known:
        return known[word.lower()]
    for kind in (int, float):
        try:
            return kind(word)
        except ValueError:
            continue
    return word.strip("\"'")


def _check(cfg: CFG, parameter: Parameter, value: Any) -> None:
    try:
        dataclasses.replace(cfg, **{parameter.name: value})
    except ConfigError as error:
        raise ConfigError(f"{parameter}: with {parameter.name} = {value}: {error}") from None


def too_few(space: tuple[Parameter, ...], n_trials: int) -> str | None:
    """A warning where many settings share few trials, else None.

    A search among more than two settings needs about 15 trials for each: with fewer it hardly
    differs from drawing at random.
    """
    needed = 15 * len(space)
    if len(space) < 3 or n_trials >= needed:
        return None
    return (
        f"{len(space)} settings are searched with {n_trials} trials: that is hardly more than "
        f"drawing at random; search one or two of them, or give TRIALS={needed}"
    )


def default_name(exp: str, space: tuple[Parameter, ...]) -> str:
    """Name of a tuning that was given none: the experiment and what is searched."""
    return "-".join(itertools.chain([exp], (parameter.name for parameter in space)))
