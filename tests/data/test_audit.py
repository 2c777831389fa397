from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest

from oofline.config import CFG
from oofline.data.audit import audit_report
from oofline.data.competition import Competition
from oofline.data.duplicates import duplicate_groups
from oofline.data.markdown import shorten, table
from oofline.data.splits import Folds, make_folds

Read = Callable[..., Competition]
Write = Callable[..., None]


def audit(competition: Competition, fold: np.ndarray | None = None) -> tuple[str, list[str]]:
    duplicates = duplicate_groups(competition.train_texts, 0.8)
    folds = make_folds(CFG(comp="toy"), competition, duplicates)
    if fold is not None:
        folds = replace(folds, fold=fold)
    return audit_report(competition, folds, duplicates)


def line(summary: list[str], start: str) -> str:
    found = [text for text in summary if text.startswith(start)]
    assert len(found) == 1, summary
    return found[0]


def test_disaster(read_real: Read) -> None:
    report, summary = audit(read_real("disaster"))
    assert "110 rows repeat an earlier text letter by letter" in line(summary, "equal texts")
    assert "18 texts equal letter by letter" in line(summary, "conflicting targets")
    assert "78 test rows letter by letter" in line(summary, "train and test share")
    assert "no duplicate group stands in more than one fold" in summary
    assert "no drift shown" in line(summary, "class shares")
    assert "Watch This Airport Get Swallowed Up" in report
    assert max(len(text) for text in report.splitlines()) < 400
    assert all(found[1:] in report for found in summary)


def test_commonlit_has_no_findings(read_real: Read) -> None:
    report, summary = audit(read_real("commonlit"))
    assert "0 rows repeat an earlier text" in line(summary, "equal texts")
    assert "no drift shown" in line(summary, "target across folds")
    assert "KS p against the rest" in report


def test_small_case_counted_by_hand(read: Read, write: Write) -> None:
    text = [f"a text of its own kind, number {i}{i}{i}: {chr(97 + i % 26) * 20}" for i in range(40)]
    text[1] = text[0]  # equal letter by letter, targets 0 and 1: a conflict
    text[4] = text[2].upper()  # equal after normalisation, targets 0 and 0
    text[6] = text[8] + "!"  # near
    write(train={"text": text}, test={"text": [text[3], "new words here", text[5].upper()]})
    report, summary = audit(read())
    assert line(summary, "equal texts") == (
        "equal texts: 1 rows repeat an earlier text letter by letter (1 texts), "
        "2 after normalisation (2 texts)"
    )
    assert line(summary, "near duplicates") == (
        "near duplicates: 2 different texts form 1 groups; 6 rows have an equal or near twin"
    )
    assert line(summary, "conflicting targets") == (
        "conflicting targets: 1 texts equal letter by letter, 1 after normalisation (2 rows)"
    )
    assert line(summary, "train and test share") == (
        "train and test share texts: 1 train and 1 test rows letter by letter, "
        "2 and 2 after normalisation"
    )
    assert "| 3 | 1 | 1000 |" in report
    assert "| 5 | 1 | 1002 |" in report


def test_spread_of_a_regression_target(read: Read, write: Write) -> None:
    text = [f"a text of its own kind, number {i}{i}{i}: {chr(97 + i % 26) * 20}" for i in range(40)]
    text[7] = text[3]
    write(target=[i / 4 for i in range(40)], train={"text": text})
    _, summary = audit(read())
    assert line(summary, "conflicting targets").endswith("(2 rows); largest spread 1")


def test_a_leaking_split_is_called_a_leak(read: Read, write: Write) -> None:
    write(train={"text": ["the very same words in two rows"] * 2 + [f"w{i}" for i in range(38)]})
    _, summary = audit(read(), fold=np.arange(40) % 5)
    assert "1 duplicate groups stand in more than one fold, THIS IS A LEAK" in summary


def test_drift_is_shown(read: Read, write: Write) -> None:
    write(target=[0] * 100 + [1] * 100)
    _, summary = audit(read(), fold=np.repeat(np.arange(5), 40))
    assert "DRIFT" in line(summary, "class shares")
    write(target=[i / 7 for i in range(200)])
    _, summary = audit(read(), fold=np.repeat(np.arange(5), 40))
    assert "DRIFT" in line(summary, "target across folds")


def test_uneven_folds_and_a_giant_group_are_told(read: Read, write: Write) -> None:
    write(train={"text": ["the very same words in many rows"] * 20 + [f"w{i}" for i in range(20)]})
    _, summary = audit(read())
    assert "the largest group holds 20 of 40 rows" in summary
    assert line(summary, "uneven folds").endswith("(large groups)")


def test_time_folds_report_repeats_without_alarm(read: Read, write: Write) -> None:
    write(train={"text": ["the very same words in two rows"] * 2 + [f"w{i}" for i in range(38)]})
    competition = read()
    fold = np.arange(40) % 4 - 1
    groups = duplicate_groups(competition.train_texts, 0.8)
    folds = Folds(competition.train_ids, fold, "time", "set", groups)
    report, summary = audit_report(competition, folds, groups)
    assert "1 duplicate groups stand in more than one fold, by the order of time" in summary
    assert "| only trained on | 10 |  |" in report


def test_cells_cannot_break_a_table() -> None:
    assert table(("a",), [("x|y\nz",)]) == ["| a |", "| --- |", "| x\\|y z |"]
    assert shorten("word " * 100) == ("word " * 100)[:137] + "..."


@pytest.mark.parametrize("start", ["## Target by fold", "## Text length", "## Near duplicates"])
def test_sections(read: Read, write: Write, start: str) -> None:
    write()
    assert start in audit(read())[0]
