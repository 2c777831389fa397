"""The text of each row: which column, or which columns joined."""

import difflib
import re
import string
from dataclasses import dataclass, field

import pandas as pd

from oofline.config import CFG
from oofline.conflicts import PAIRS_ARE_CUT
from oofline.data.pairs import Pair, shown
from oofline.errors import ConfigError, DataError

RUNNER_UP = 0.5
"""A second column scoring this share of the first makes the choice ambiguous."""

_SPACES = re.compile(r"[ \t]{2,}")


@dataclass(frozen=True)
class Texts:
    """The texts of a competition.

    Attributes:
        train: n texts; of a pair both, see `oofline.data.pairs.shown`.
        test: n_test texts.
        description: where they come from, for printing.
        columns: the columns they are made of.
        train_pairs: n sentence pairs; empty where rows are single texts.
        test_pairs: n_test sentence pairs.
    """

    train: list[str]
    test: list[str]
    description: str
    columns: tuple[str, ...]
    train_pairs: list[Pair] = field(default_factory=list)
    test_pairs: list[Pair] = field(default_factory=list)


def build_texts(
    cfg: CFG, train: pd.DataFrame, test: pd.DataFrame, reserved: tuple[str, ...]
) -> Texts:
    """Texts by ``text_template``, else ``text_col``, else the column(s) found by content.

    Args:
        cfg: gives text_template, text_col, pair_col and pair_swap.
        train: training table, all str.
        test: test table, all str.
        reserved: columns that are never the text (id, targets, group, time).

    Raises:
        ConfigError: an unknown column (the nearest is named), equally likely columns, or a
            setting of pairs where there are none.
        DataError: no text-like column, or every text is empty.
    """
    second = cfg.pair_col
    if cfg.text_template:
        columns = _template_columns(cfg.text_template, train, test)
        sides = [_join(cfg.text_template, columns, frame) for frame in (train, test)]
        description = f'template "{cfg.text_template}"'
    else:
        column, second, why = _text_columns(cfg, train, test, reserved)
        columns = (column,)
        sides = [frame[column].tolist() for frame in (train, test)]
        description = f'column "{column}" ({why})'
    for name, texts in zip(("train", "test"), sides, strict=True):
        if not any(text.strip() for text in texts):
            raise DataError(f"every text of {name} is empty ({description}): set text_col")
    if second in ("", "none"):
        if cfg.pair_swap != "off" or cfg.pair_groups:
            raise ConfigError("pair_swap and pair_groups need a sentence pair: set pair_col")
        return Texts(sides[0], sides[1], description, columns)
    if cfg.truncation != "head" or cfg.windows > 1:
        raise ConfigError(PAIRS_ARE_CUT)
    for where, frame in (("train", train), ("test", test)):
        require_column(second, frame, "pair_col", where)
    pairs = [
        list(zip(side, frame[second].tolist(), strict=True))
        for side, frame in zip(sides, (train, test), strict=True)
    ]
    described = f'{description} and column "{second}"'
    if not cfg.text_template:
        described = f'columns "{column}" and "{second}" ({why})'
    both = [list(map(shown, side)) for side in pairs]
    return Texts(
        both[0], both[1], f"sentence pair, {described}", (*columns, second), pairs[0], pairs[1]
    )


def require_column(name: str, frame: pd.DataFrame, field: str, where: str) -> None:
    """Refuse a column that is not there.

    Raises:
        ConfigError: naming the setting ``field``, the table ``where`` and the nearest column.
    """
    if name in frame.columns:
        return
    columns = [str(column) for column in frame.columns]
    near = difflib.get_close_matches(name, columns, n=1)
    hint = f'did you mean "{near[0]}"?' if near else f"columns there: {', '.join(columns)}"
    raise ConfigError(f'{field}: column "{name}" is not in {where}; {hint}')


def _text_columns(
    cfg: CFG, train: pd.DataFrame, test: pd.DataFrame, reserved: tuple[str, ...]
) -> tuple[str, str, str]:
    """The text column, the second one of a pair or "", and why."""
    if cfg.text_col:
        require_column(cfg.text_col, train, "text_col", "train")
        require_column(cfg.text_col, test, "text_col", "test")
        return cfg.text_col, cfg.pair_col, "text_col"
    if cfg.pair_col not in ("", "none"):
        left = find_text_columns(train, test, (*reserved, cfg.pair_col))
        if len(left) > 1:
            raise _ambiguous(train, left, "text_col")
        return left[0], cfg.pair_col, "longest by content"
    found = find_text_columns(train, test, reserved)
    if len(found) == 1:
        return found[0], "", "longest by content"
    if len(found) > 2 or cfg.pair_col == "none":
        raise _ambiguous(train, found, "text_col (and pair_col for the second of a pair)")
    first, second = sorted(found, key=list(train.columns).index)
    return first, second, 'both look like text; pair_col = "none" if they are no pair'


def find_text_columns(
    train: pd.DataFrame, test: pd.DataFrame, reserved: tuple[str, ...]
) -> list[str]:
    """The columns of train and test that look like text, the likeliest first.

    The first has the highest mean length x share of distinct values; others count that reach
    `RUNNER_UP` of it.

    Raises:
        DataError: no column common to both is text.
    """
    common = [str(c) for c in train.columns if c in test.columns and c not in reserved]
    scores = {column: text_score(train[column]) for column in common}
    ranked = sorted((c for c in common if scores[c] > 0), key=lambda c: -scores[c])
    if not ranked:
        raise DataError(
            f"no text column found among those in both train and test ({', '.join(common)}): "
            "set text_col"
        )
    return [column for column in ranked if scores[column] >= RUNNER_UP * scores[ranked[0]]]


def _ambiguous(train: pd.DataFrame, columns: list[str], fields: str) -> ConfigError:
    lengths = ", ".join(f'"{c}" ({train[c].str.len().mean():.0f} characters)' for c in columns)
    joined = " ".join(f"{{{column}}}" for column in columns)
    return ConfigError(
        f'columns {lengths} all look like the text: set {fields}, or text_template = "{joined}"'
    )


def text_score(column: pd.Series) -> float:
    """How much a column looks like text: mean length x share of distinct values; 0 = numbers."""
    values = column[column.str.strip() != ""]
    if values.empty or pd.to_numeric(values, errors="coerce").notna().mean() >= 0.5:
        return 0.0
    return float(column.str.len().mean() * values.nunique() / len(column))


def _template_columns(template: str, train: pd.DataFrame, test: pd.DataFrame) -> tuple[str, ...]:
    try:
        parts = [part for part in string.Formatter().parse(template) if part[1] is not None]
    except ValueError as error:
        raise ConfigError(
            f'text_template = "{template}" is malformed ({error}): write columns as '
            "{name}, a literal brace twice"
        ) from None
    if not parts or any(spec or conversion for _, _, spec, conversion in parts):
        raise ConfigError(f'text_template = "{template}": write every column as {{name}} alone')
    fields = [str(name) for _, name, _, _ in parts]
    for name in fields:
        require_column(name, train, "text_template", "train")
        require_column(name, test, "text_template", "test")
    return tuple(dict.fromkeys(fields))


def _join(template: str, columns: tuple[str, ...], frame: pd.DataFrame) -> list[str]:
    """Fill the template; where a cell is empty, the spaces it leaves behind are collapsed."""
    parts = [(literal, name) for literal, name, _, _ in string.Formatter().parse(template)]
    result = []
    for values in zip(*(frame[column].tolist() for column in columns), strict=True):
        row = dict(zip(columns, values, strict=True))
        text = "".join(literal + (row[name] if name is not None else "") for literal, name in parts)
        result.append(text if all(values) else _SPACES.sub(" ", text).strip())
    return result
