"""The text of each row: which column, or which columns joined."""

import difflib
import re
import string
from dataclasses import dataclass

import pandas as pd

from oofline.config import CFG
from oofline.errors import ConfigError, DataError

RUNNER_UP = 0.5
"""A second column scoring this share of the first makes the choice ambiguous."""

_SPACES = re.compile(r"[ \t]{2,}")


@dataclass(frozen=True)
class Texts:
    """The texts of a competition.

    Attributes:
        train: n texts.
        test: n_test texts.
        description: where they come from, for printing.
        columns: the columns they are made of.
    """

    train: list[str]
    test: list[str]
    description: str
    columns: tuple[str, ...]


def build_texts(
    cfg: CFG, train: pd.DataFrame, test: pd.DataFrame, reserved: tuple[str, ...]
) -> Texts:
    """Texts by ``text_template``, else ``text_col``, else the column found by content.

    Args:
        cfg: gives text_template and text_col.
        train: training table, all str.
        test: test table, all str.
        reserved: columns that are never the text (id, targets, group, time).

    Raises:
        ConfigError: an unknown column (the nearest is named) or two equally likely columns.
        DataError: no text-like column, or every text is empty.
    """
    if cfg.text_template:
        columns = _template_columns(cfg.text_template, train, test)
        sides = [_join(cfg.text_template, columns, frame) for frame in (train, test)]
        description = f'template "{cfg.text_template}"'
    else:
        column, why = _one_column(cfg, train, test, reserved)
        columns = (column,)
        sides = [frame[column].tolist() for frame in (train, test)]
        description = f'column "{column}" ({why})'
    for name, texts in zip(("train", "test"), sides, strict=True):
        if not any(text.strip() for text in texts):
            raise DataError(f"every text of {name} is empty ({description}): set text_col")
    return Texts(sides[0], sides[1], description, columns)


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


def _one_column(
    cfg: CFG, train: pd.DataFrame, test: pd.DataFrame, reserved: tuple[str, ...]
) -> tuple[str, str]:
    if cfg.text_col:
        require_column(cfg.text_col, train, "text_col", "train")
        require_column(cfg.text_col, test, "text_col", "test")
        return cfg.text_col, "text_col"
    return find_text_column(train, test, reserved), "longest by content"


def find_text_column(train: pd.DataFrame, test: pd.DataFrame, reserved: tuple[str, ...]) -> str:
    """The column of train and test with the highest mean length x share of distinct values.

    Raises:
        ConfigError: a second column scores at least half of the first.
        DataError: no column common to both is text.
    """
    common = [c for c in train.columns if c in test.columns and c not in reserved]
    scores = {column: _text_score(train[column]) for column in common}
    ranked = sorted((c for c in common if scores[c] > 0), key=lambda c: -scores[c])
    if not ranked:
        raise DataError(
            f"no text column found among those in both train and test ({', '.join(common)}): "
            "set text_col"
        )
    if len(ranked) > 1 and scores[ranked[1]] >= RUNNER_UP * scores[ranked[0]]:
        first, second = ranked[:2]
        lengths = [train[column].str.len().mean() for column in (first, second)]
        raise ConfigError(
            f'columns "{first}" and "{second}" both look like the text (mean length '
            f"{lengths[0]:.0f} and {lengths[1]:.0f} characters): set text_col to one of them or "
            f'text_template = "{{{first}}} {{{second}}}"; a sentence pair as such is not '
            "supported yet"
        )
    return ranked[0]


def _text_score(column: pd.Series) -> float:
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
