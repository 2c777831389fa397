"""Worker processes: units shared out, lines shown, and every way in which they can end."""

import functools
import math
import os
import re
import signal
import threading
from collections import Counter
from multiprocessing.connection import Connection
from pathlib import Path

import pytest
import torch

from oofline import board, progress
from oofline.engines.outcome import Failure
from oofline.engines.workers import share
from oofline.errors import ConfigError, OoflineError, Stopped
from oofline.progress import bar, say
from oofline.training.guard import Guard

WAIT = 300
"""Seconds after which a test that hangs fails."""


@pytest.fixture
def run(forked, tmp_path):
    """run(do, units, seconds_left) -> outcomes; do(unit, device, guard) is called in workers."""

    def starter(do, device, guard):
        return functools.partial(do, device=device, guard=guard)

    def run(do, units, devices=("cpu", "cpu"), guard=None, **options):
        guard = guard or Guard()
        with guard.signals():
            return share(
                list(units), list(devices), functools.partial(starter, do), tmp_path / "logs",
                guard, lambda unit: f"unit {unit}", **options,
            )  # fmt: skip

    return run


def test_units_run_side_by_side_each_once(run, forked, capsys):
    both = forked.Barrier(2)  # passes only if two workers are inside units at the same time

    def do(unit, device, guard):
        both.wait(WAIT)
        say(f"doing {unit}")
        return unit, os.getpid()

    outcomes = run(do, range(6))
    assert sorted(unit for unit, _ in outcomes) == list(range(6))
    assert len({pid for _, pid in outcomes} - {os.getpid()}) == 2
    said = [line.split(" | ") for line in capsys.readouterr().out.splitlines() if " | " in line]
    assert sorted(text for _, text in said) == [f"doing {n}" for n in range(6)]
    assert {where for where, _ in said} == {"cpu/1", "cpu/2"}


def test_a_worker_that_is_free_takes_the_next_unit(run, forked):
    others = forked.Semaphore(0)

    def do(unit, device, guard):
        if unit == 0:  # one long unit: the other worker must do all the rest meanwhile
            for _ in range(4):
                assert others.acquire(timeout=WAIT)
        else:
            others.release()
        return os.getpid()

    assert sorted(Counter(run(do, range(5))).values()) == [1, 4]


def test_a_table_says_how_far_each_unit_is(run, capsys, monkeypatch):
    monkeypatch.setattr(progress, "PLAIN_SECONDS", 0.0)
    monkeypatch.setattr(progress, "RELAY_SECONDS", 0.0)
    monkeypatch.setattr(board, "LONGEST_SILENCE", 0.0)

    def do(unit, device, guard):
        with bar(f"unit {unit}", 2) as line:
            line.advance(loss=0.5)
            line.advance(loss=0.25, f1=0.75)
        return "f1 0.80000" if unit == 8 else True

    run(do, [7, 8], devices=["cpu"])
    lines = capsys.readouterr().out.splitlines()
    rows = [line.split() for line in lines if line.startswith("  unit 7")]
    assert ["unit", "7", "cpu", "starting"] in rows
    assert next(row for row in rows if "1/2" in row)[:4] == ["unit", "7", "cpu", "1/2"]
    assert any(row[3:6] == ["2/2", "f1", "0.75"] for row in rows)
    ended = [line for line in lines if " done in " in line and line.startswith("unit")]
    assert ended[0].startswith("unit 7 on cpu: done in ")
    assert ", f1 0.75; units: 1 done, 1 waiting" in ended[0]
    assert ended[1].endswith(", f1 0.80000; units: 2 done")  # text is the unit's result


def test_logs_hold_what_the_command_does_not_show(run, tmp_path, capfd):
    def do(unit, device, guard):
        say("a line")
        os.write(1, b"printed by C code\n")

    run(do, [0], devices=["cpu"])
    log = (tmp_path / "logs" / "cpu.log").read_text()
    assert "a line" in log
    assert "printed by C code" in log
    out = capfd.readouterr().out
    assert "a line" in out
    assert "printed" not in out


def stop_when_asked(unit, device, guard, ready):
    """A unit that saves and stops as training does."""
    ready.release()
    step = threading.Event()
    while not guard.must_stop(0.0):
        step.wait(0.01)
    raise Stopped(f"{guard.reason}: unit {unit} is saved", guard.exit_code)


@pytest.mark.parametrize("kind", [OoflineError, ConfigError])
def test_a_failure_names_unit_device_and_log_and_stops_the_others(
    run, forked, tmp_path, capsys, kind
):
    ready = forked.Semaphore(0)

    def do(unit, device, guard):
        if unit == 1:
            assert ready.acquire(timeout=WAIT)
            raise kind("the loss is nan")
        stop_when_asked(unit, device, guard, ready)

    with pytest.raises(OoflineError) as error:
        run(do, [0, 1, 2])
    message = str(error.value)
    assert message.startswith("unit 1 on cpu/")
    assert "failed: the loss is nan (log: " in message
    assert "\n" not in message
    log = message.split("log: ")[1].rstrip(")")
    assert Path(log).is_file()
    out = capsys.readouterr().out
    assert "unit 0 is saved" in out
    assert out.splitlines()[-1] == f"failed: unit 1: the loss is nan (log: {log})"
    assert "Traceback" in Path(log).read_text()  # the log tells more than the line


def test_workers_compute_with_the_threads_they_are_given(forked, tmp_path):
    def start(device, guard):
        return lambda unit: torch.get_num_threads()

    assert share([1, 2], ["cpu", "cpu"], start, tmp_path, Guard(), str, threads=3) == [3, 3]


@pytest.mark.parametrize(("number", "how"), [
    (signal.SIGKILL, "was killed by signal 9 (out of memory?)"),
    (signal.SIGABRT, "was killed by signal 6"),
    (0, "ended (0)"),
])  # fmt: skip
def test_a_worker_that_is_gone_is_named(run, forked, capsys, number, how):
    ready = forked.Semaphore(0)

    def do(unit, device, guard):
        if unit == 1:
            assert ready.acquire(timeout=WAIT)
            os.kill(os.getpid(), number) if number else os._exit(0)
        stop_when_asked(unit, device, guard, ready)

    says = rf"unit 1 on cpu/\d: its process {re.escape(how)} \(log: "
    with pytest.raises(OoflineError, match=says):
        run(do, [0, 1])
    out = capsys.readouterr().out
    assert "unit 0 is saved" in out
    assert f"failed: unit 1: its process {how} (log: " in out.splitlines()[-1]


def test_a_worker_that_dies_in_the_middle_of_a_message_is_named(run, monkeypatch):
    def do(unit, device, guard):
        def cut(self, data):
            os.write(self.fileno(), b"\0\0\0\x20half")  # 32 bytes are announced
            os.kill(os.getpid(), signal.SIGKILL)

        Connection._send_bytes = cut  # of this process alone
        say("a line")

    with pytest.raises(OoflineError, match="unit 1 on cpu: its process was killed by signal 9"):
        run(do, [1], devices=["cpu"])


def test_a_worker_takes_its_gpu_by_number(run, tmp_path, monkeypatch):
    """torch takes no "cuda" without a number there, the name of a machine's only GPU."""
    monkeypatch.setattr(torch.cuda, "set_device", lambda index: print(f"took {index!r}"))
    assert sorted(run(lambda unit, device, guard: unit, [1, 2], devices=["cuda", "cuda:1"]))
    logs = [(tmp_path / "logs" / name).read_text() for name in ("cuda.log", "cuda-1.log")]
    assert ["took 0" in logs[0], "took 1" in logs[1]] == [True, True]


def test_a_bug_is_a_bug_here_too(run, tmp_path):
    def do(unit, device, guard):
        return 1 / unit

    with pytest.raises(RuntimeError, match=r"(?s)unit 0 on cpu .*ZeroDivisionError"):
        run(do, [0], devices=["cpu"])
    assert "ZeroDivisionError" in (tmp_path / "logs" / "cpu.log").read_text()


def test_a_start_that_fails_is_named(forked, tmp_path):
    def start(device, guard):
        raise ConfigError("no such encoder")

    with pytest.raises(OoflineError, match="the start on cpu failed: no such encoder"):
        share([1], ["cpu"], start, tmp_path, Guard(), str)


@pytest.mark.parametrize(("number", "alone"), [
    (signal.SIGINT, False), (signal.SIGTERM, False), (signal.SIGTERM, True),
])  # fmt: skip
def test_an_interrupt_reaches_every_worker(run, forked, capsys, number, alone):
    ready, parent = forked.Semaphore(0), os.getpid()

    def do(unit, device, guard):
        if unit == 1:
            assert ready.acquire(timeout=WAIT)
            os.kill(parent, number)
        stop_when_asked(unit, device, guard, ready)

    before = signal.getsignal(number)
    with pytest.raises(Stopped, match="interrupted with 3 of 3 left") as stop:
        run(do, [0, 1, 2], alone=alone, go_on=alone)
    assert stop.value.exit_code == 130
    assert signal.getsignal(number) is before
    out = capsys.readouterr().out
    assert "unit 0 is saved" in out
    assert "unit 1 is saved" in out
    assert "unit 2" not in out
    assert "failed" not in out


@pytest.mark.parametrize("alone", [False, True])
def test_the_time_limit_ends_each_worker_on_its_own(run, forked, capsys, alone):
    both, late = forked.Barrier(2), forked.Semaphore(0)

    def do(unit, device, guard):
        assert 0 < guard.seconds_left() < math.inf
        both.wait(WAIT)
        if unit == 0:
            late.release()
            raise Stopped("time_limit_hours reached: unit 0 is saved", 0)
        assert late.acquire(timeout=WAIT)  # the other has stopped; this one still has the time
        return unit

    with pytest.raises(Stopped, match="time_limit_hours reached with 1 of 2 left") as stop:
        run(do, [0, 1], guard=Guard(time_limit_hours=99.0), alone=alone)
    assert stop.value.exit_code == 0
    assert "unit 0 is saved" in capsys.readouterr().out


def test_a_failure_after_the_time_limit_is_no_success(run, forked):
    both, late = forked.Barrier(2), forked.Semaphore(0)

    def do(unit, device, guard):
        both.wait(WAIT)
        if unit == 0:
            late.release()
            raise Stopped("time_limit_hours reached: unit 0 is saved", 0)
        assert late.acquire(timeout=WAIT)
        raise OoflineError("the disk is full")

    with pytest.raises(OoflineError, match=r"unit 1 on cpu/\d failed: the disk is full"):
        run(do, [0, 1], guard=Guard(time_limit_hours=99.0))


def test_no_worker_is_started_when_time_is_up(run, tmp_path):
    with pytest.raises(Stopped, match="time_limit_hours reached with 2 of 2 left") as stop:
        run(lambda unit, device, guard: unit, [0, 1], guard=Guard(time_limit_hours=1e-6))
    assert stop.value.exit_code == 0
    assert not (tmp_path / "logs").exists()


def test_each_unit_can_have_a_process_a_log_and_lines_of_its_own(run, tmp_path, capfd):
    def do(unit, device, guard):
        say(f"resumed at step {unit}")
        os.write(2, b"a library wrote this\n")
        return unit, os.getpid(), guard.seconds_left()

    ended = []
    outcomes = run(
        do, range(5), guard=Guard(time_limit_hours=99.0), alone=True,
        after=lambda *pair: ended.append(pair),
    )  # fmt: skip
    assert ended == [(outcome[0], outcome) for outcome in outcomes]
    assert sorted(unit for unit, _ in ended) == list(range(5))
    assert len({pid for _, pid, _ in outcomes} | {os.getpid()}) == 6
    assert all(98 * 3600 < left < 99 * 3600 for *_, left in outcomes)
    out, err = capfd.readouterr()
    for unit in range(5):
        log = (tmp_path / "logs" / f"unit-{unit}.log").read_text()
        assert re.findall(r"resumed at step \d", log) == [f"resumed at step {unit}"]
        assert log.count("a library wrote this") == 1
        assert f"unit {unit} | resumed at step {unit}" in out
    assert (err, "library" in out) == ("", False)


@pytest.mark.parametrize("alone", [False, True])
def test_units_that_fail_or_are_killed_can_be_outcomes(run, capsys, alone):
    def do(unit, device, guard):
        if unit == 1:
            raise ConfigError("no effect")
        if unit == 2:
            os.kill(os.getpid(), signal.SIGKILL)
        return unit

    ended = {}
    outcomes = run(
        do, range(6), devices=["cpu"], alone=alone, go_on=True, after=ended.__setitem__
    )  # fmt: skip
    killed = "its process was killed by signal 9 (out of memory?)"
    assert outcomes == [0, Failure(1, "no effect"), Failure(2, killed), 3, 4, 5]
    assert outcomes == list(ended.values())
    assert list(ended) == list(range(6))
    out = capsys.readouterr().out.splitlines()
    assert out[-2].startswith("failed: unit 1: no effect (log: ")
    assert out[-1].startswith(f"failed: unit 2: {killed} (log: ")
    assert any(line.endswith("units: 4 done, 2 failed") for line in out)


def test_a_bug_stops_all_also_where_the_others_go_on(run, forked, capsys):
    ready = forked.Semaphore(0)

    def do(unit, device, guard):
        if unit == 1:
            assert ready.acquire(timeout=WAIT)
            return 1 / 0
        return stop_when_asked(unit, device, guard, ready)

    ended = []
    says = r"(?s)^unit 1 on cpu/\d \(log: \S+unit-1.log\): Traceback .*ZeroDivisionError"
    with pytest.raises(RuntimeError, match=says):
        run(do, [0, 1, 2], alone=True, go_on=True, after=lambda *pair: ended.append(pair))
    assert ended == []
    out = capsys.readouterr().out
    assert "unit 0 is saved" in out
    assert "Traceback" not in out


def test_a_unit_that_is_killed_while_all_stop_has_not_failed(run, forked):
    ready, parent = forked.Semaphore(0), os.getpid()

    def do(unit, device, guard):
        if unit == 1:
            assert ready.acquire(timeout=WAIT)
            os.kill(parent, signal.SIGTERM)
        try:
            stop_when_asked(unit, device, guard, ready)
        finally:
            os.kill(os.getpid(), signal.SIGKILL)  # it was given too little time to save

    ended = []
    with pytest.raises(Stopped, match="interrupted with 2 of 2 left"):
        run(do, [0, 1], alone=True, go_on=True, after=lambda *pair: ended.append(pair))
    assert ended == []


def test_a_start_that_fails_is_no_endless_loop(forked, tmp_path):
    def start(device, guard):
        raise ConfigError("no such encoder")

    with pytest.raises(OoflineError, match="the start on cpu failed: no such encoder"):
        share([1, 2], ["cpu"], start, tmp_path, Guard(), str, go_on=True)
    outcomes = share([1, 2], ["cpu"], start, tmp_path, Guard(), str, alone=True, go_on=True)
    assert outcomes == [Failure(1, "no such encoder"), Failure(2, "no such encoder")]


def test_workers_end_when_their_parent_is_killed(run, forked):
    started, saved = forked.Semaphore(0), forked.Semaphore(0)

    def do(unit, device, guard):
        try:
            stop_when_asked(unit, device, guard, started)
        finally:
            saved.release()

    def parent():
        run(do, [0, 1])

    process = forked.Process(target=parent)
    process.start()
    for _ in range(2):
        assert started.acquire(timeout=WAIT)
    process.kill()
    for _ in range(2):
        assert saved.acquire(timeout=WAIT)
    process.join(WAIT)
