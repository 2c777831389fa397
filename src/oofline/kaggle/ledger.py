"""``output/<comp>/ledger.csv``: every submission, what it scored out of fold, and in public."""

import datetime
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pandas as pd
from filelock import FileLock

from oofline.errors import DataError
from oofline.storage import Paths, write_text

COLUMNS = (
    "time", "name", "kind", "oof_metric", "oof_score", "oof_lo", "oof_hi", "public_score",
    "message", "commit", "manifest", "file_sha256", "status", "ref",
)  # fmt: skip
"""One row a submission. ``ref`` is Kaggle's number of it; columns of your own are kept."""

SENDING, PENDING, COMPLETE, ERROR = "sending", "pending", "complete", "error"
OPEN = (SENDING, PENDING)
"""What a later look at Kaggle can change. A command killed while it sent leaves the first."""


def ledger_path(paths: Paths) -> Path:
    """The ledger of a competition."""
    return paths.output / "ledger.csv"


def read_ledger(paths: Paths) -> pd.DataFrame:
    """The ledger, every cell as text, in the order of sending; empty where there is none.

    Raises:
        DataError: a column is missing or the file is no table.
    """
    path = ledger_path(paths)
    if not path.is_file():
        return pd.DataFrame(columns=list(COLUMNS), dtype="str")
    try:
        frame = pd.read_csv(path, dtype="str", keep_default_na=False)
    except (ValueError, UnicodeDecodeError) as error:
        raise DataError(f"{path} cannot be read ({error}): repair it or move it away") from None
    missing = [name for name in COLUMNS if name not in frame.columns]
    if missing:
        raise DataError(f"{path} has no column {', '.join(missing)}: restore it or move it away")
    return frame


def add_row(paths: Paths, **cells: Any) -> str:
    """Append a row; returns its time, by which `change_row` finds it.

    Args:
        paths: of the competition.
        **cells: any of `COLUMNS` but ``time``; what is None or left out stays empty.
    """
    with _changing(paths) as frame:
        time = _unused_time(set(frame["time"]))
        frame.loc[len(frame)] = {  # type: ignore[call-overload]
            **dict.fromkeys(frame.columns, ""), **{k: _cell(v) for k, v in cells.items()},
            "time": time,
        }  # fmt: skip
    return time


def change_row(paths: Paths, time: str, **cells: Any) -> None:
    """Change cells of the row that was added at that time."""
    with _changing(paths) as frame:
        for name, value in cells.items():
            frame.loc[frame["time"] == time, name] = _cell(value)


@contextmanager
def _changing(paths: Paths) -> Iterator[pd.DataFrame]:
    """Read, let the block change, write in one step; one process at a time."""
    path = ledger_path(paths)
    path.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(path.with_name(".ledger.lock")):
        frame = read_ledger(paths)
        yield frame
        write_text(path, frame.to_csv(index=False, lineterminator="\n"))


def _unused_time(taken: set[str]) -> str:
    now = datetime.datetime.now(datetime.UTC)
    while now.isoformat(timespec="seconds") in taken:
        now += datetime.timedelta(seconds=1)
    return now.isoformat(timespec="seconds")


def _cell(value: Any) -> str:
    """Text of a cell; line breaks become spaces, so that a row is a line."""
    return "" if value is None else " ".join(str(value).split())


def sent_today(frame: pd.DataFrame) -> int:
    """Submissions of the present UTC day, by which Kaggle counts; none that it never took."""
    today = datetime.datetime.now(datetime.UTC).date().isoformat()
    never = (frame["status"] == ERROR) & (frame["ref"] == "")
    return int((frame["time"].str.startswith(today) & ~never).sum())


def scored(frame: pd.DataFrame) -> pd.DataFrame:
    """Rows with a public and an OOF score, these and the interval as float64, in order."""
    figures = ["oof_score", "oof_lo", "oof_hi", "public_score"]
    frame = frame.assign(**{name: pd.to_numeric(frame[name], errors="coerce") for name in figures})
    known = (frame["status"] == COMPLETE) & frame[["oof_score", "public_score"]].notna().all(axis=1)
    return frame[known].reset_index(drop=True)
