"""The benchmark of the engines: what it writes can be read by those who forecast with it."""

import json
import runpy
from pathlib import Path

BENCH = runpy.run_path(str(Path(__file__).with_name("engines.py")))


def test_the_hand_out_itself_takes_little(tmp_path, capsys):
    BENCH["main"](["--cases", "simulated", "--out", str(tmp_path)])
    (row,) = json.loads((tmp_path / "engines.json").read_text())
    assert row["case"] == "10,000 units over 100 simulated nodes"
    assert 0 < row["seconds_per_unit"] < 0.1
    assert "engines.json" in capsys.readouterr().out


def test_start_up_is_not_counted():
    ends = [float(10 * n) for n in range(20)] + [1000.0 + n / 4 for n in range(9)]
    assert BENCH["_per_unit"](ends) == 0.25
