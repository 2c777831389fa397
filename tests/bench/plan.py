"""What `oofline plan` foretells, beside what the training then really takes, on the demo.

Every repeat is a new experiment: planned, then trained, by the commands that a user types, in
processes of their own. The truth is the time from typing `oofline train` to the last fold's scores,
the peak memory that the folds report, and the size of their folders. What is compared is the middle
of the forecast (geometric, of its range), and whether the truth lies within the range.

    python tests/bench/plan.py [--comp demo] [--set n_folds=2 ...] [--repeats 3] [--minutes 1] \
        [--root .] [--out output/bench]
"""

import argparse
import json
import math
import os
import subprocess
import sys
import time
from pathlib import Path

import pandas as pd

DEFAULTS = ("n_folds=2", "epochs=1")
NEAR = 0.02
"""Share of an end by which the truth may lie beyond a range: a size is foretold as one number."""


def command(options, root, verb, exp, *more):
    """Run a verb in a process of its own; returns when it began."""
    settings = [word for pair in (*DEFAULTS, *options.set) for word in _option(pair)]
    argv = [sys.executable, "-m", "oofline", verb, "--comp", options.comp, "--exp", exp,
            "--wandb", "disabled", *settings, *more]  # fmt: skip
    environment = os.environ | {"OOFLINE_ROOT": str(root)}
    began = time.time()
    subprocess.run(argv, check=True, env=environment, cwd=options.root)
    return began


def _option(pair):
    name, _, value = pair.partition("=")
    return f"--{name.replace('_', '-')}", value


def repeat(options, root, number):
    """{quantity: (lowest, highest, truth)} of one repeat."""
    exp = f"plan{number}"
    command(options, root, "plan", exp, "--minutes", str(options.minutes))
    output = root / "output" / options.comp
    plan = json.loads((output / "plan" / f"{exp}.json").read_text())
    row = plan["machines"][0]
    began = command(options, root, "train", exp)
    folds = sorted((output / exp).glob("seed*/fold*"))
    scores = [json.loads((fold / "scores.json").read_text()) for fold in folds]
    ended = max((fold / "scores.json").stat().st_mtime for fold in folds)
    size = sum(path.stat().st_size for fold in folds for path in fold.rglob("*") if path.is_file())
    memory = max(score["peak_memory_mb"] for score in scores) / 1000
    return {
        "minutes": (*row["minutes"], (ended - began) / 60),
        "memory, GB": (*row["memory_gb"], memory),
        "disk, GB": (row["disk_gb"], row["disk_gb"], size / 1e9),
    }


def error(low, high, truth):
    """Percent by which the middle of a range is above the truth."""
    return 100 * (math.sqrt(low * high) / truth - 1)


def table(runs):
    """One row per repeat and quantity."""
    return pd.DataFrame(
        [
            {
                "case": f"repeat {number}, {name}", "forecast low": low, "forecast high": high,
                "truth": truth, "error %": error(low, high, truth),
                "within": "yes" if (1 - NEAR) * low <= truth <= (1 + NEAR) * high else "no",
            }
            for number, run in enumerate(runs, start=1)
            for name, (low, high, truth) in run.items()
        ]
    )  # fmt: skip


def parsed(argv=None):
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--comp", default="demo")
    parser.add_argument("--set", action="append", default=[], metavar="NAME=VALUE")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--minutes", type=float, default=1.0)
    parser.add_argument("--root", default=".")
    parser.add_argument("--out", default="output/bench")
    return parser.parse_args(argv)


def main(argv=None):
    from oofline.report.terminal import print_frame

    options = parsed(argv)
    root = Path(options.out).resolve() / "plan"
    source, target = (Path(r).resolve() / "input" / options.comp for r in (options.root, root))
    if not target.exists():
        target.parent.mkdir(parents=True, exist_ok=True)
        target.symlink_to(source)
    for leftover in (root / "output" / options.comp).glob("plan[0-9]*"):
        sys.exit(f"{leftover} is there: delete {root / 'output'} to measure again")
    frame = table([repeat(options, root, number) for number in range(options.repeats)])
    print_frame(frame, f"{options.comp}: foretold and true")
    out = Path(options.out) / "plan.json"
    out.write_text(json.dumps(frame.to_dict("records"), indent=2) + "\n", encoding="utf-8")
    print(f"wrote {out}")


if __name__ == "__main__":
    main()
