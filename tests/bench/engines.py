"""What the engines cost: seconds that a unit takes besides its work, and what two processes gain.

    python tests/bench/engines.py [--cases local,ray,simulated,speed-up] [--units 200] \
        [--rows 600] [--epochs 2] [--out output/bench]

- local, ray: units that do nothing, on two processes; seconds per unit once the processes are there
  (the first units bring them up and are not counted).
- simulated: 10,000 units over 100 nodes of 4 slots whose ends are drawn by chance: what is left is
  the hand-out itself.
- speed-up: the same folds of a small transformer by one process and by two, one thread each;
  ratio = time of one over time of two.
"""

import argparse
import contextlib
import dataclasses
import io
import json
import os
import sys
import tempfile
import time
from pathlib import Path

for parent in ("engines", "."):
    sys.path.insert(0, str(Path(__file__).parents[1] / parent))

WARM_UP = 20
"""First units, which are not counted."""


def nothing_local(device, guard):
    return lambda unit: time.time()


def nothing_ray(paths, device, guard):
    return lambda unit: time.time()


def _per_unit(ends):
    """Seconds between units, from when each ended."""
    ends = sorted(ends)[WARM_UP:]
    return (ends[-1] - ends[0]) / (len(ends) - 1)


def local(options, root):
    from oofline.engines.workers import share
    from oofline.training.guard import Guard

    units = list(range(options.units + WARM_UP))
    ends = share(units, ["cpu", "cpu"], nothing_local, root / "logs", Guard(), str)
    return {"seconds_per_unit": _per_unit(ends), "units": options.units, "processes": 2}


def ray(options, root):
    from oofline.config import CFG
    from oofline.engines.ray_start import connected
    from oofline.sharing import Work, do_on_cluster
    from oofline.storage import Paths
    from oofline.training.guard import Guard

    os.environ.pop("RAY_ADDRESS", None)
    units = list(range(options.units + WARM_UP))
    work = Work(units, nothing_ray, root / "logs", str, most=0)
    with connected():
        cfg = CFG(engine="ray", device="cpu", cpus_per_fold=1)
        ends = do_on_cluster(cfg, Paths("none", root), work, Guard())
    return {
        "seconds_per_unit": _per_unit(ends),
        "units": options.units,
        "processes": os.cpu_count(),
    }


def simulated(options, root):
    from simulated import SimulatedCluster

    from oofline.board import board
    from oofline.engines.dispatch import Dispatch
    from oofline.training.guard import Guard

    cluster, units = SimulatedCluster(100, 4, deaths=0.001), list(range(10_000))
    started = time.perf_counter()
    with board("units", len(units)) as table:
        outcomes = Dispatch(cluster, units, str, Guard(), table).run()
    seconds = time.perf_counter() - started
    assert sorted(outcomes) == units
    return {"seconds_per_unit": seconds / len(units), "units": len(units), "nodes": 100}


def speed_up(options, root):
    from conftest import _save, competition_writer

    from oofline.sharing import train_on_devices
    from oofline.sources import load_cfg

    write = competition_writer(lambda family: _save(family, root / "models" / family))
    paths = write(root, "binary", options.rows, epochs=options.epochs, n_folds=4, cpus_per_fold=1)
    cfg, seconds = load_cfg(paths), {}
    for name, device in (("begin", "cpu"), ("one", "cpu"), ("two", "cpu,cpu")):
        started = time.perf_counter()
        folds = [0] if name == "begin" else [0, 1, 2, 3]  # the first makes folds and tokens
        train_on_devices(dataclasses.replace(cfg, exp=name, device=device), paths, folds, [1])
        seconds[name] = time.perf_counter() - started
    return {
        "seconds_one": seconds["one"], "seconds_two": seconds["two"],
        "ratio": seconds["one"] / seconds["two"], "units": 4, "processes": 2,
    }  # fmt: skip


CASES = {
    "local": ("local engine, units that do nothing", local),
    "ray": ("ray engine, units that do nothing", ray),
    "simulated": ("10,000 units over 100 simulated nodes", simulated),
    "speed-up": ("two processes against one, four folds", speed_up),
}


def parsed(argv=None):
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--cases", default=",".join(CASES))
    parser.add_argument("--units", type=int, default=200)
    parser.add_argument("--rows", type=int, default=600)
    parser.add_argument("--epochs", type=int, default=2)
    parser.add_argument("--out", default="output/bench")
    return parser.parse_args(argv)


def main(argv=None):
    import pandas as pd

    from oofline.report.terminal import print_frame

    options = parsed(argv)
    rows = []
    for case in options.cases.split(","):
        title, run = CASES[case]
        load = os.getloadavg()[0] if hasattr(os, "getloadavg") else 0.0
        shown = io.StringIO()
        with tempfile.TemporaryDirectory() as folder, contextlib.redirect_stdout(shown):
            figures = run(options, Path(folder))
        rows.append({"case": title, **figures, "load_before": load})
    print_frame(pd.DataFrame(rows), "engines")
    out = Path(options.out) / "engines.json"
    out.parent.mkdir(parents=True, exist_ok=True)
    out.write_text(json.dumps(rows, indent=2) + "\n", encoding="utf-8")
    print(f"wrote {out}")


if __name__ == "__main__":
    main()
