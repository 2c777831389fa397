"""Units one after the other: the same table as for many at once, and one unit by its own bar."""

from pathlib import Path

import pytest

from oofline import board, progress
from oofline.engines.in_turn import in_turn
from oofline.errors import OoflineError, Stopped

LOG = Path("oofline.log")


@pytest.fixture(autouse=True)
def often(monkeypatch):
    """Plain lines are printed as often as there is something to say."""
    monkeypatch.setattr(progress, "PLAIN_SECONDS", 0.0)
    monkeypatch.setattr(board, "LONGEST_SILENCE", 0.0)
    monkeypatch.setattr(progress, "RELAY_SECONDS", 0.0)


def work(unit):
    with progress.bar(f"fold {unit}", 4) as bar:
        bar.advance(2, f1=0.5 + unit / 10)
        bar.advance(2)
    progress.say(f"fold {unit} says so")
    return unit < 2


def test_several_units_are_rows_of_one_table(capsys):
    assert in_turn([0, 1, 2], work, "fold {}".format, "cpu", LOG) == [True, True, False]
    out = capsys.readouterr().out
    lines = out.splitlines()
    assert "fold 1 says so" in lines
    rows = [line.split() for line in lines]
    assert any(row[:6] == ["fold", "1", "cpu", "2/4", "f1", "0.6"] for row in rows)
    assert [line for line in lines if line.startswith("fold 1 on cpu: done in 0 s, f1 0.6; ")]
    assert "units: 2 done, 1 waiting" in out
    assert not [line for line in lines if line.startswith("fold 1: ")]  # no bar beside the table
    assert "fold 2 on cpu: done in 0 s, left to another process; units: 3 done" in out


def test_one_unit_has_its_own_bar(capsys):
    assert in_turn([1], work, "fold {}".format, "cpu", LOG) == [True]
    out = capsys.readouterr().out
    assert "fold 1: 2/4 f1 0.6" in out
    assert "units" not in out


def test_a_failure_is_listed_with_its_log_and_ends_the_rest(capsys):
    done = []

    def fail(unit):
        done.append(unit)
        raise OoflineError("the loss is nan")

    with pytest.raises(OoflineError, match=r"^the loss is nan$"):
        in_turn([0, 1], fail, "fold {}".format, "cpu", LOG)
    assert done == [0]
    assert capsys.readouterr().out.splitlines()[-1] == (
        "failed: fold 0: the loss is nan (log: oofline.log)"
    )
    assert progress._followers == []


def test_a_stop_is_no_failure(capsys):
    def stop(unit):
        raise Stopped("interrupted", 130)

    with pytest.raises(Stopped):
        in_turn([0, 1], stop, "fold {}".format, "cpu", LOG)
    assert "fail" not in capsys.readouterr().out
