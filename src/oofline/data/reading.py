"""Reading competition tables: every cell as text, every defect named with its line."""

import codecs
import csv
import gzip
import io
import sys
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import TextIO

import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from charset_normalizer import from_bytes

from oofline.errors import ConfigError, DataError

SUFFIXES = (".csv", ".csv.gz", ".parquet")
"""Looked for in this order."""

_ENCODINGS = ["cp932", "euc_jp", "gb18030", "big5", "euc_kr", "cp1252"]
_SAMPLE_BYTES = 200_000


def find_table(folder: Path, stem: str) -> Path:
    """Path of ``stem.csv``, ``stem.csv.gz`` or ``stem.parquet``, the first that exists.

    Raises:
        DataError: none of them exists.
    """
    for suffix in SUFFIXES:
        if (folder / f"{stem}{suffix}").is_file():
            return folder / f"{stem}{suffix}"
    names = ", ".join(f"{stem}{suffix}" for suffix in SUFFIXES)
    raise DataError(f"{folder} has none of {names}: put the competition's {stem} file there")


def read_table(folder: Path, stem: str, encoding: str = "utf-8") -> pd.DataFrame:
    """Read a table with every cell as text and empty cells as ``""``.

    Nothing is guessed: ``NA`` stays ``NA`` and ``007`` stays ``007``. A UTF-8 byte order mark is
    dropped. In parquet, nulls become ``""``, integers are written without a point, booleans as
    ``True`` and ``False``.

    Args:
        folder: the competition's folder.
        stem: "train", "test" or "sample_submission".
        encoding: of csv files.

    Returns:
        DataFrame of str columns, rows in file order.

    Raises:
        ConfigError: ``encoding`` is not the name of one.
        DataError: the file is missing, empty, in another encoding (the likely one is named), or
            malformed (with the line).
    """
    path = find_table(folder, stem)
    if path.suffix == ".parquet":
        header, columns = _parquet_columns(path)
    else:
        header, columns = _csv_columns(path, encoding)
    repeated = sorted({name for name in header if header.count(name) > 1})
    if repeated:
        raise DataError(f"{path}: column {repeated[0]!r} stands more than once in the header")
    if not columns or not columns[0]:
        raise DataError(f"{path} has a header but no rows")
    return pd.DataFrame(dict(zip(header, columns, strict=True)), dtype="str")


def _csv_columns(path: Path, encoding: str) -> tuple[list[str], list[list[str]]]:
    try:
        with _open(path, encoding) as handle:
            rows = _rows(path, handle)
            header = next(rows)
            table = list(rows)
    except UnicodeError as error:
        raise DataError(_encoding_message(path, encoding, error)) from None
    except LookupError:
        raise ConfigError(
            f'encoding = "{encoding}" is not known: use "utf-8", "cp932", "cp1252"'
        ) from None
    except (gzip.BadGzipFile, EOFError, zlib.error) as error:
        raise DataError(f"{path} is not a complete gzip file ({error}): copy it again") from None
    return header, [list(column) for column in zip(*table, strict=True)]


def _open(path: Path, encoding: str) -> TextIO:
    codecs.lookup(encoding)
    with _open_bytes(path) as raw:
        has_mark = raw.read(3) == codecs.BOM_UTF8
    encoding = "utf-8-sig" if has_mark else encoding
    if path.suffix == ".gz":
        return gzip.open(path, "rt", encoding=encoding, newline="")
    return path.open(encoding=encoding, newline="")


def _open_bytes(path: Path) -> gzip.GzipFile | io.BufferedReader:
    return gzip.GzipFile(path) if path.suffix == ".gz" else path.open("rb")


def _rows(path: Path, handle: TextIO) -> Iterator[list[str]]:
    """Header and rows of a csv; blank lines are skipped, every other defect has a line number."""
    csv.field_size_limit(min(sys.maxsize, 2**31 - 1))  # a C long, 32 bits wide on Windows
    reader = csv.reader(handle, strict=True)
    width = line = 0
    try:
        for row in reader:
            if row and not width:
                _check_header(path, row)
                width = len(row)
            if row and len(row) != width:
                raise DataError(
                    f"{path} line {line + 1}: {len(row)} cells where the header has {width}; "
                    'put cells that hold commas, quotes or line breaks in "quotes"'
                )
            if row:
                yield row
            line = reader.line_num
    except csv.Error as error:
        raise DataError(
            f"{path}: unbalanced quotes in the row that starts at line {line + 1} ({error}); "
            "a quote inside a quoted cell is written twice"
        ) from None
    if not width:
        raise DataError(f"{path} is empty: copy the competition's file again")


def _check_header(path: Path, header: list[str]) -> None:
    if any("\0" in name for name in header):
        raise UnicodeError("zero bytes in the header")
    for separator, name in (("\t", "tabs"), (";", "semicolons")):
        if len(header) == 1 and separator in header[0]:
            raise DataError(f"{path} is separated by {name}: convert it to commas")


def _encoding_message(path: Path, encoding: str, error: UnicodeError) -> str:
    with _open_bytes(path) as handle:
        raw = handle.read()
    likely = guess_encoding(raw)
    where = ""
    try:
        raw.decode(encoding)
    except UnicodeDecodeError as exact:
        line = raw.count(b"\n", 0, exact.start) + 1
        where = f" (byte 0x{raw[exact.start]:02x} in line {line})"
    except UnicodeError:
        where = f" ({error})"
    advice = f'set encoding = "{likely}" or convert the file to UTF-8'
    if likely == encoding.lower().replace("_", "-"):
        advice = "the file is damaged there: copy it again or repair that line"
    shown = "cp1252 (Latin-1)" if likely == "cp1252" else likely
    return f"{path} is not {encoding}{where}; it looks like {shown}: {advice}"


def guess_encoding(raw: bytes) -> str:
    """Most likely encoding of a text that is not what it should be, as Python names it."""
    if raw.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        return "utf-16"
    even, odd = (raw[side:_SAMPLE_BYTES:2].count(0) for side in (0, 1))
    if even + odd > min(len(raw), _SAMPLE_BYTES) / 10:
        return "utf-16-le" if odd > even else "utf-16-be"
    try:
        raw.decode("utf-8")
        return "utf-8"
    except UnicodeDecodeError:
        pass
    lines = [line for line in raw.splitlines() if not line.isascii()]
    best = from_bytes(b"\n".join(lines)[:_SAMPLE_BYTES], cp_isolation=_ENCODINGS).best()
    return best.encoding if best is not None else "cp1252"


def _parquet_columns(path: Path) -> tuple[list[str], list[list[str]]]:
    try:
        table = pq.read_table(path)
    except (pa.ArrowException, OSError) as error:
        reason = str(error).splitlines()[0]
        raise DataError(f"{path} cannot be read as parquet ({reason}): copy it again") from None
    return table.column_names, [_as_text(column) for column in table.columns]


def _as_text(column: pa.ChunkedArray) -> list[str]:
    if pa.types.is_dictionary(column.type):
        column = column.cast(column.type.value_type)
    if pa.types.is_boolean(column.type):
        return ["" if value is None else str(value) for value in column.to_pylist()]
    try:
        return pc.fill_null(column.cast(pa.string()), "").to_pylist()
    except pa.ArrowException:
        return ["" if value is None else str(value) for value in column.to_pylist()]
