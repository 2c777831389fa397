"""Search by Parzen estimators or a Gaussian process beside drawing at random, at equal cost.

Every repeat is a whole `oofline tune` with a sampler seed of its own, on real folds, nothing
stopped early, so each trial costs the same. The default is not among the trials of a repeat unless
it lies within the space, and then it is so for every sampler. What counts is how many trials it
takes to reach 99 % of the best score that any repeat of any sampler found; a repeat that never
gets there counts as one trial more than it had.

    python tests/bench/tuning.py --comp disaster --space "linear_penalty=log(1e-3,1e3)" \
        [--set kind=ridge ...] [--samplers tpe,gp,random] [--trials 30] [--repeats 5] \
        [--near 0.99] [--root .] [--out output/bench]

It goes on where it was stopped: repeats are kept below <out>/tuning/.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd


def repeat(options, sampler, number):
    """(n_trials,) scores of one repeat in the order of start; nan where a trial failed."""
    root = Path(options.out).resolve() / "tuning"
    source, target = (Path(r).resolve() / "input" / options.comp for r in (options.root, root))
    if not target.exists():
        target.parent.mkdir(parents=True, exist_ok=True)
        target.symlink_to(source)
    name = f"{sampler}-{number}"
    settings = [word for pair in options.set for word in _option(pair)]
    command = [
        sys.executable, "-m", "oofline", "tune", "--comp", options.comp, "--name", name,
        "--space", options.space, "--trials", options.trials, "--sampler", sampler,
        "--sampler-seed", number, "--prune", "none", "--confirm", 0, "--wandb", "disabled",
        "--bootstrap-samples", 10, *settings,
    ]  # fmt: skip
    environment = os.environ | {"OOFLINE_ROOT": str(root)}
    subprocess.run([str(word) for word in command], check=True, env=environment)
    frame = pd.read_csv(root / "output" / options.comp / "tuning" / name / "trials.csv")
    return frame.sort_values("trial")["score"].to_numpy(float)[: options.trials]


def _option(pair):
    name, _, value = pair.partition("=")
    return f"--{name.replace('_', '-')}", value


def trials_to_reach(scores, best, near, greater):
    """Trials up to the first whose score is within (1 - near) of the best; one more than all.

    Args:
        scores: (n,) in the order of start, nan = failed.
        best: the best score of all repeats.
        near: share of the best that counts, 0..1.
        greater: whether higher is better.
    """
    margin = (1 - near) * abs(best)
    good = scores >= best - margin if greater else scores <= best + margin
    return int(np.argmax(good)) + 1 if good.any() else len(scores) + 1


def table(runs, near, greater):
    """One row per sampler from {sampler: [(n,) scores of each repeat]}."""
    pick = np.nanmax if greater else np.nanmin
    best = pick([pick(scores) for repeats in runs.values() for scores in repeats])
    rows = []
    for sampler, repeats in runs.items():
        needed = [trials_to_reach(scores, best, near, greater) for scores in repeats]
        found = [float(pick(scores)) for scores in repeats]
        rows.append(
            {
                "case": sampler, "repeats": len(repeats), "trials": len(repeats[0]),
                "median trials needed": statistics.median(needed),
                "needed": ", ".join(map(str, needed)), "reached": sum(
                    n <= len(s) for n, s in zip(needed, repeats, strict=True)
                ),
                "mean best": float(np.mean(found)), "worst best": float(
                    min(found) if greater else max(found)
                ),
            }
        )  # fmt: skip
    return pd.DataFrame(rows)


def parsed(argv=None):
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--comp", required=True)
    parser.add_argument("--space", required=True)
    parser.add_argument("--set", action="append", default=[], metavar="NAME=VALUE")
    parser.add_argument("--samplers", default="tpe,random")
    parser.add_argument("--trials", type=int, default=30)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--near", type=float, default=0.99)
    parser.add_argument("--lower", action="store_true", help="lower scores are better")
    parser.add_argument("--root", default=".")
    parser.add_argument("--out", default="output/bench")
    return parser.parse_args(argv)


def main(argv=None):
    from oofline.report.terminal import print_frame

    options = parsed(argv)
    samplers = options.samplers.split(",")
    runs = {sampler: [] for sampler in samplers}
    for number in range(options.repeats):
        for sampler in samplers:  # in turns, so that a broken-off run compares equals
            runs[sampler].append(repeat(options, sampler, number))
    frame = table(runs, options.near, not options.lower)
    print_frame(frame, f"{options.comp}: {options.space}, trials to {options.near:.0%} of the best")
    out = Path(options.out) / "tuning.json"
    out.parent.mkdir(parents=True, exist_ok=True)
    content = {"table": frame.to_dict("records"), "scores": {k: [s.tolist() for s in v]
                                                             for k, v in runs.items()}}  # fmt: skip
    out.write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")
    print(f"wrote {out}")


if __name__ == "__main__":
    main()
