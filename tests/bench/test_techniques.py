"""The table of costs: every case is there, runs, and is really trained with its technique."""

import contextlib
import importlib
import io
import json
from pathlib import Path

import pandas as pd
import pytest

from oofline.storage import read_json
from oofline.training import learner as learner_module

KEYS = {"case", "step_ms", "ratio", "peak_mb", "memory_ratio", "aim", "met"}
AIMS = {
    "AWP, active": 2.05, "FGM": 2.05, "AWP in the last of 4 epochs": 1.27, "R-Drop": 2.0,
    "SiFT": 2.6, "Mixout (no dropout)": 1.15, "multi-sample dropout, 5 masks": 1.02, "EMA": 1.03,
}  # fmt: skip


@pytest.fixture(scope="module")
def bench():
    """The module tests/bench/run.py, as `make bench` runs it."""
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(Path(__file__).parent)
        yield importlib.import_module("run")


@pytest.fixture
def quick(bench, tmp_path, tiny_model):
    """quick(*argv) -> options with few rows and a tiny model."""
    words = ["good day", "bad fire", "the a b c good", "a bad one", "fire and c"]
    rows = [(f"r{i}", f"{words[i % 5]} {i}", float(i % 5)) for i in range(64)]
    data = tmp_path / "train.csv"
    pd.DataFrame(rows, columns=["id", "text", "rating"]).to_csv(data, index=False)
    return lambda *argv: bench.read_options([
        "--rows", "64", "--technique-rows", "64", "--batch-size", "8", "--max-len", "24",
        "--repeats", "1", "--precision", "fp32", "--model", str(tiny_model("bert")),
        "--data", str(data), "--out", str(tmp_path / "out"), "--table", "techniques", *argv,
    ])  # fmt: skip


def in_this_process(bench):
    """turn() without a process of its own."""

    def turn(options, case):
        given = bench.read_options(["--case", case])
        vars(given).update({k: v for k, v in vars(options).items() if k != "case"})
        printed = io.StringIO()
        with contextlib.redirect_stdout(printed):
            bench.run_case(given)
        return json.loads(printed.getvalue())

    return turn


def test_the_loops_stand_in_their_table(bench, quick, tmp_path):
    """Through the real command line, each case in a process of its own."""
    bench.main(quick("--table", "loops"))
    table = read_json(tmp_path / "out" / "train.json")
    assert [row["case"] for row in table] == list(bench.TITLES.values())
    assert all(row["samples_per_s"] > 0 and row["peak_mb"] > 0 for row in table)
    assert table[1]["ratio_to_trainer"] == table[3]["ratio_to_floor"] == 1.0


def test_no_case_stands_in_both_tables(bench):
    assert set(bench.CASES) & set(bench.techniques.CASES) == set()


def test_every_case_runs_and_stands_in_the_table(bench, quick, tmp_path, capsys):
    bench.techniques.compare(quick(), in_this_process(bench))
    table = read_json(tmp_path / "out" / "techniques.json")
    assert [row["case"] for row in table] == [c.title for c in bench.techniques.CASES.values()]
    assert all(set(row) >= KEYS for row in table)
    assert all(row["step_ms"] > 0 and row["peak_mb"] > 0 for row in table)
    assert "cost of techniques" in capsys.readouterr().out


def test_ratios_are_medians_of_the_turns_over_their_own_base(bench, quick, tmp_path, monkeypatch):
    times = {"step": [10, 100, 10], "awp": [20, 210, 19], "no-dropout": [8, 8, 8],
             "mixout": [10, 10, 10]}  # fmt: skip
    calls = []

    def turn(options, case):
        number = calls.count(case)
        calls.append(case)
        return {
            "step_ms": times.get(case, [12, 12, 12])[number],
            "peak": 500 + 50 * (case == "awp"),
        }

    bench.techniques.compare(quick("--repeats", "3"), turn)
    rows = {row["case"]: row for row in read_json(tmp_path / "out" / "techniques.json")}
    awp, mixout = rows["AWP, active"], rows["Mixout (no dropout)"]
    assert (awp["ratio"], awp["lowest"], awp["highest"]) == (2.0, 1.9, 2.1)
    assert (awp["step_ms"], awp["met"], awp["memory_ratio"]) == (20, True, 1.1)
    assert (mixout["ratio"], mixout["met"]) == (1.25, False)
    assert {name: row["aim"] for name, row in rows.items() if row["aim"]} == AIMS
    assert rows["Mixconnect (no dropout)"]["met"] is None
    assert rows["plain step, no dropout"]["ratio"] == 1.0
    names = list(bench.techniques.CASES)
    assert calls == names * 3  # they take turns


def test_plain_cases_run(bench, quick):
    turn = in_this_process(bench)
    for case in ("step", "checkpointing", "no-dropout", "plain-4"):
        assert set(turn(quick(), case)) == {"step_ms", "peak"}


def test_the_last_epoch_weighs_as_much_as_the_first(bench, quick, tmp_path, monkeypatch):
    """Steps that are skipped at the start do not change the share of the active epoch."""

    class Trainer:
        class progress:
            step = 0

        class plan:
            steps_per_epoch = 8

        techniques = ()

    clock = [0.0]
    monkeypatch.setattr(bench.techniques, "now", lambda: clock[0])

    def train_all_rows(cfg, paths, train, watched):
        def step(trainer):
            clock[0] += 2.0 if trainer.progress.step >= 24 else 1.0

        for index in range(32):
            Trainer.progress.step = index
            watched(Trainer, step)

    options = quick("--case", "plain-4")
    taken = bench.techniques.step_ms(options, tmp_path / "c", bench.settings, train_all_rows)
    assert taken == pytest.approx(1250.0)


@pytest.mark.parametrize("case", ["awp", "multi-sample", "mixconnect", "awp-last"])
def test_a_technique_that_is_not_built_stops_the_table(bench, quick, monkeypatch, case):
    monkeypatch.setattr(learner_module, "build_techniques", lambda cfg, task: [])
    with pytest.raises(SystemExit, match=f"case {case} needs the techniques"):
        in_this_process(bench)(quick(), case)


def test_a_turn_that_fails_in_its_process_stops_the_table(bench, quick):
    """Through the real command line: the child's last words are shown."""
    options = quick()
    options.data = "nothing.csv"
    with pytest.raises(SystemExit, match=r"case step failed[\s\S]*nothing\.csv"):
        bench.turn(options, "step")
