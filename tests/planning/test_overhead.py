"""What an engine takes for a unit: read where it was measured, else measured now."""

import pytest

from oofline.planning.overhead import engine_overhead, measured_overhead, stored_overhead
from oofline.storage import Paths, write_json

ROWS = [
    {"case": "speed-up of two processes", "seconds_per_unit": None, "ratio": 1.8},
    {"case": "local, units that do nothing", "seconds_per_unit": 0.002, "ratio": None},
    {"case": "Ray, units that do nothing", "seconds_per_unit": 0.05, "ratio": None},
]


@pytest.mark.parametrize("content", [ROWS, {"table": ROWS}])
def test_the_benchmarks_figures_are_taken(tmp_path, content):
    write_json(tmp_path / "output" / "bench" / "engines.json", content)
    paths = Paths("toy", tmp_path)
    assert engine_overhead("local", paths)[0] == 0.002
    seconds, source = engine_overhead("ray", paths)
    assert seconds == 0.05
    assert source.endswith("engines.json")


def test_an_engine_that_was_not_benchmarked_is_not_in_it():
    assert stored_overhead(ROWS[:1], "local") is None
    assert stored_overhead([], "ray") is None


def test_units_that_do_nothing_are_timed(forked, capsys):
    assert 0 < measured_overhead() < 5
    assert capsys.readouterr().out == ""
