"""The table of many units: what it says of each, of all, and where it is shown."""

import io
import itertools
import re
from pathlib import Path
from types import SimpleNamespace

import nbformat
import pytest
from nbclient import NotebookClient
from rich.console import Console

from oofline import board as board_module
from oofline import progress
from oofline.board import board
from oofline.errors import OoflineError
from oofline.unit_row import UnitRow, span

LOG = Path("workers/cpu-1.log")


@pytest.fixture
def clock(monkeypatch):
    """clock(seconds) moves the time of the boards on."""
    now = itertools.accumulate(itertools.repeat(0.0))
    state = SimpleNamespace(now=next(now))

    def move(seconds):
        state.now += seconds

    monkeypatch.setattr(board_module, "time", SimpleNamespace(monotonic=lambda: state.now))
    return move


def train(table, clock, unit, seconds, where="cpu/1", steps=4, score="f1 0.8"):
    """A unit from its begin to its last step; its end is left to the test."""
    table.begin(unit, where, LOG)
    for step in range(1, steps + 1):
        clock(seconds / steps)
        table.follow(unit, unit, step, steps, f"loss 0.5 samples_per_s 20 {score}")


def test_a_row_says_where_how_far_and_how_good_a_unit_is(clock, capsys):
    with board("units", 3) as table:
        table.begin("seed 1 fold 0", "cuda:0", LOG)
        table.follow("seed 1 fold 0", "seed 1 fold 0", 10, 50, "loss 0.7 samples_per_s 24")
        clock(20)
        note = "loss 0.5 samples_per_s 24.1 f1 0.8123"
        table.follow("seed 1 fold 0", "seed 1 fold 0", 20, 50, note)
        line = table.text()[2].split("  ")
        assert [cell.strip() for cell in line if cell.strip()] == [
            "seed 1 fold 0", "cuda:0", "20/50", "f1 0.8123", "60 s", "running",
        ]  # fmt: skip
        table.follow("seed 1 fold 0", "seed 1 fold 0 test", 5, 9, "")
        assert table.text()[2].split()[-1] == "test"
        assert "f1 0.8123" in table.text()[2]  # a score stays until there is another
        assert table.counts() == "units: 0 done, 1 running, 2 waiting"


@pytest.mark.parametrize(
    ("unit", "title", "name", "state"),
    [
        ("seed 1 fold 0", "seed 1 fold 0", "seed 1 fold 0", "running"),
        ("best seed 1 fold 0", "seed 1 fold 0 test", "best seed 1 fold 0", "test"),
        ("seed 1 fold 0", "tokenize train", "seed 1 fold 0", "tokenize train"),
        ("job 4", "trial 3, seed 1 fold 0", "trial 3", "seed 1 fold 0"),
    ],
)
def test_a_row_is_called_as_its_process_says(unit, title, name, state):
    row = UnitRow(unit, "cpu", LOG, 0.0, unit)
    row.follow(title, 1, 2, "", 0.0)
    assert (row.name, row.state) == (name, state)


def test_the_time_left_comes_from_finished_units_and_from_bars(clock, capsys):
    with board("units", 5) as table:
        assert table.seconds_left() is None
        train(table, clock, "a", 100)
        table.end("a")
        table.begin("b", "cpu/1", LOG)
        table.begin("c", "cpu/2", LOG)
        clock(40)
        # b and c take 60 s more; two wait, and each starts where one of them ends
        assert table.seconds_left() == pytest.approx(60 + 100)
        table.follow("b", "b", 0, 10, "")
        clock(30)
        table.follow("b", "b", 1, 10, "")  # slower than a was: 30 s a step
        assert table.seconds_left() == pytest.approx(max(270, 30 + 100 + 100))
        table.end("b")
        table.end("c")
        assert "about" not in table.counts()  # nothing runs: nobody knows when the rest starts
        train(table, clock, "d", 10)
        table.end("d")
        train(table, clock, "e", 10)
        table.end("e")
        assert table.seconds_left() == 0


def test_bars_alone_foretell_the_first_round(clock, capsys):
    with board("units", 4) as table:
        for unit in ("a", "b"):
            table.begin(unit, "cpu", LOG)
            table.follow(unit, unit, 0, 10, "")
        clock(10)
        for unit in ("a", "b"):
            table.follow(unit, unit, 1, 10, "")
        assert table.seconds_left() == pytest.approx(90 + 100)  # a second round of two


def test_ten_thousand_units_fit_into_one_table(clock, capsys):
    with board("units", 10_000) as table:
        for number in range(200):
            train(table, clock, f"u{number}", 1, steps=1)
            table.end(f"u{number}")
        for number in range(200, 300):
            table.begin(f"u{number}", f"node {number}", LOG)
        assert table.counts().startswith("units: 200 done, 100 running, 9700 waiting, about 98 s")
        rows = len(table.text())
        assert rows == 2 + board_module.FINISHED_ROWS + board_module.RUNNING_ROWS + 1
        assert table.text()[-1].strip() == "and 76 more"


def test_a_failed_unit_is_listed_at_the_end_with_its_log(clock, capsys):
    with board("units", 3) as table:
        train(table, clock, "seed 1 fold 0", 5)
        table.fail("seed 1 fold 0", "[Errno 28] no space", Path("workers/cuda-0.log"))
        train(table, clock, "seed 1 fold 1", 5)
        table.end("seed 1 fold 1")
        assert "1 failed" in table.counts()
        assert "failed: [Errno 28] no space" in "\n".join(table.text())
    lines = capsys.readouterr().out.splitlines()
    assert lines[-1] == "failed: seed 1 fold 0: [Errno 28] no space (log: workers/cuda-0.log)"
    assert "log" not in "".join(lines[:-1])


def test_failures_are_listed_when_the_command_fails_too(clock, capsys):
    def fail():
        with board("units", 1) as table:
            table.begin("a", "cpu", LOG)
            table.fail("a", "no memory", LOG)
            raise OoflineError("a failed")

    with pytest.raises(OoflineError):
        fail()
    assert "failed: a: no memory (log: " in capsys.readouterr().out.splitlines()[-1]


def test_a_unit_that_lost_its_node_waits_again(clock, capsys):
    with board("units", 2) as table:
        train(table, clock, "a", 5)
        table.retry("a", "node 2 is gone")
        assert table.counts() == "units: 0 done, 2 waiting"
        train(table, clock, "a", 5, where="node 1")
        table.end("a", "f1 0.9")
        assert table.counts().startswith("units: 1 done, 1 waiting")
    out = capsys.readouterr().out
    assert "a: node 2 is gone; it is queued again" in out
    assert "a on node 1: done in 5 s, f1 0.9; units: 1 done, 1 waiting" in out


def test_a_beginning_and_an_end_are_drawn_at_once(clock, capsys):
    drawn = []
    with board("units", 2) as table:
        table.drawn_by(lambda: drawn.append("\n".join(table.text())), 1000.0)
        table.begin("a", "cpu", LOG)
        for step in range(50):
            table.follow("a", "a", step, 50, "")
        table.end("a")
        table.begin("b", "cpu", LOG)
    assert len(drawn) == 3
    assert drawn[-1].endswith("starting")
    assert "1 done, 1 running" in drawn[-1]


def test_a_plain_log_gets_a_line_per_unit_and_a_table_now_and_then(clock, capsys):
    with board("units", 40) as table:
        for number in range(40):
            train(table, clock, f"unit {number}", 100, steps=100)  # 4,000 messages in 4,000 s
            table.end(f"unit {number}")
        table.say("cpu/1", "[brackets] stay")
    out = capsys.readouterr().out
    assert "\x1b" not in out
    assert "cpu/1 | [brackets] stay" in out
    ended = [line for line in out.splitlines() if "done in 100 s" in line and " on " in line]
    assert len(ended) == 40
    tables = len(re.findall("unit +where", out))
    assert 15 <= tables <= 30  # every ten seconds at first, then every quarter of the time


def test_plain_lines_go_to_the_log_file_in_any_case(clock, tmp_path, capsys, monkeypatch):
    file = io.StringIO()
    monkeypatch.setattr(
        progress, "Console", lambda **kwargs: Console(file=file, force_terminal=True, width=100)
    )
    progress.log_to(tmp_path / "oofline.log")
    with board("units", 2) as table:
        train(table, clock, "seed 1 fold 0", 40)
        table.say("cpu/1", "a line above")
        with progress.bar("tokenize train", 2) as line:
            line.advance()
        table.end("seed 1 fold 0")
        train(table, clock, "seed 1 fold 1", 40)
    progress.log_to(None)
    logged = (tmp_path / "oofline.log").read_text()
    assert "seed 1 fold 0 on cpu/1: done in 40 s, f1 0.8" in logged
    assert "seed 1 fold 1  cpu/1" in logged
    screen = file.getvalue()
    assert "a line above" in screen
    assert "seed 1 fold 1" in screen
    assert "done in 40 s; units" not in screen  # the table shows it
    assert "\x1b[1A" in screen  # drawn in place
    assert progress._active == []


CELL = """
from pathlib import Path
from oofline import board as module
from oofline.board import board
from oofline.progress import say
module.SHOWN_SECONDS["notebook"] = {pause}
with board("units", 3) as table:
    for name in ("seed 1 fold 0", "seed 1 fold 1", "seed 1 fold 2"):
        table.begin(name, "cpu/1", Path("cpu-1.log"))
        for step in range(1, 101):
            table.follow(name, name, step, 100, "f1 0.81")
        table.say("cpu/1", "line " + name[-1])
        if name[-1] != "2":
            table.end(name)
    table.fail("seed 1 fold 2", "the loss is nan", Path("cpu-1.log"))
"""


@pytest.mark.parametrize("pause", ["0.0", "1000.0"])  # however seldom, the end is always shown
def test_in_a_notebook_it_is_one_output_that_is_updated(tmp_path, pause):
    cell = CELL.replace("{pause}", pause)
    notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(cell)])
    where = {"metadata": {"path": str(tmp_path)}}
    NotebookClient(notebook, timeout=600, kernel_name="python3", resources=where).execute()
    outputs = notebook.cells[0]["outputs"]
    (shown,) = [o for o in outputs if o["output_type"] == "display_data"]
    text = shown["data"]["text/plain"]
    assert "units: 2 done, 1 failed" in text
    assert "seed 1 fold 0  cpu/1" in text
    assert "failed: the loss is nan" in text
    assert "\x1b" not in text
    assert "<" not in text  # no object's repr, no markup
    said = "".join(o["text"] for o in outputs if o["output_type"] == "stream")
    assert said.splitlines() == [
        "cpu/1 | line 0", "cpu/1 | line 1", "cpu/1 | line 2",
        "failed: seed 1 fold 2: the loss is nan (log: cpu-1.log)",
    ]  # fmt: skip
    assert len(outputs) <= 5  # the table, and at most one for each line


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(None, ""), (0.4, "0 s"), (48, "48 s"), (720, "12 min"), (12_240, "3.4 h")],
)
def test_a_length_of_time_is_short(seconds, text):
    assert span(seconds) == text
