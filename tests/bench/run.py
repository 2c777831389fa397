"""make bench: our loop beside the Hugging Face Trainer, a plain loop and the floor, in one run.

Every case runs in a process of its own, the cases take turns, and the median of the turns counts.
The first steps of a turn are not counted. The floor is forward, backward and AdamW step on
tensors that are ready, with our model and number format: no data, no clipping, no log.

A second table holds what each technique costs, see techniques.py.

    python tests/bench/run.py [--rows 1600] [--batch-size 32] [--repeats 3] [--model FOLDER]
        [--table all|loops|techniques] [--technique-rows 800] [--data train.csv] [--out FOLDER]
"""

import argparse
import contextlib
import dataclasses
import io
import json
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import pandas as pd
import torch

sys.path.insert(0, str(Path(__file__).parent))
import techniques

ROOT = Path(__file__).resolve().parents[2]
CASES = ("oofline", "trainer", "plain", "floor")
TITLES = {
    "oofline": "oofline train",
    "trainer": "HF Trainer, same precision, length grouping, fused AdamW",
    "plain": "plain loop, float32, padded to max_len",
    "floor": "floor: forward, backward, step alone",
}
SKIP_STEPS = techniques.SKIP_STEPS
DEMO = str(ROOT / "input" / "demo" / "train.csv")


def settings(options, root, **changes):
    """CFG, Paths and training table of a throw-away competition with the first rows of the demo."""
    from oofline.config import CFG
    from oofline.storage import Paths

    train = pd.read_csv(options.data).head(options.rows)
    paths = Paths("bench", root)
    paths.input.mkdir(parents=True)
    train.to_csv(paths.input / "train.csv", index=False)
    test = train.head(8)[["id", "text"]].assign(id=lambda f: "t" + f["id"].astype(str))
    test.to_csv(paths.input / "test.csv", index=False)
    test[["id"]].assign(rating=0.0).to_csv(paths.input / "sample_submission.csv", index=False)
    cfg = CFG(
        comp="bench", model=options.model, epochs=1, batch_size=options.batch_size, lr=2e-5,
        max_len=options.max_len, wandb="offline", near_duplicates=0.0, precision=options.precision,
        bootstrap_samples=10,
    )  # fmt: skip
    return dataclasses.replace(cfg, **changes), paths, train


class Clock:
    """Rows and seconds after the first steps."""

    def __init__(self):
        self.steps, self.rows, self.started, self.ended = 0, 0, 0.0, 0.0

    def on_step(self, rows):
        if torch.cuda.is_available():
            torch.cuda.synchronize()
        self.ended = time.perf_counter()
        self.steps += 1
        if self.steps == SKIP_STEPS:
            self.started = self.ended
        elif self.steps > SKIP_STEPS:
            self.rows += rows

    def samples_per_s(self):
        return self.rows / (self.ended - self.started)


def run_ours(options, root, clock):
    """`train_fold` itself: loop, tracking, progress; the clock looks on from outside."""

    def watched(trainer, step):
        before = trainer.progress.rows_trained
        step(trainer)
        clock.on_step(trainer.progress.rows_trained - before)

    train_all_rows(*settings(options, root), watched)


def train_all_rows(cfg, paths, train, watched):
    """Train one fold on all rows; each optimizer step goes through ``watched(trainer, step)``.

    Returns the folder of the fold.
    """
    import numpy as np

    from oofline.data.folds import Folds
    from oofline.training.fold import train_fold
    from oofline.training.guard import Guard
    from oofline.training.material import Material
    from oofline.training.preparation import prepare
    from oofline.training.trainer import Trainer

    class AllRows(Folds):
        def train_rows(self, fold):
            return np.arange(len(train))

    material = prepare(cfg, paths)
    folds = AllRows(**vars(material.folds))
    material = Material(**(vars(material) | {"folds": folds}))
    folder = paths.fold("base", 0, 0)
    folder.mkdir(parents=True)
    step = Trainer._optimizer_step
    Trainer._optimizer_step = lambda trainer: watched(trainer, step)
    try:
        train_fold(cfg, material, 0, 0, Guard())
    finally:
        Trainer._optimizer_step = step
    return folder


def run_floor(options, root, clock):
    """Forward, backward, step on the batches that our loop would take, already on the device."""
    import numpy as np

    from oofline.data.batches import collate, shuffled_batches
    from oofline.models.losses import build_loss
    from oofline.models.text_model import build_model
    from oofline.training.optim import build_optimizer
    from oofline.training.precision import choose_precision
    from oofline.training.preparation import prepare
    from oofline.training.speed import keep_freed_memory

    cfg, paths, _ = settings(options, root)
    material, precision = prepare(cfg, paths), choose_precision(cfg)
    keep_freed_memory()
    y, task = material.competition.y, material.competition.task
    model, loss = build_model(cfg, task, y).to(precision.device), build_loss(cfg, task, y)
    optimizer = build_optimizer(cfg, model)
    labels = torch.from_numpy(model.encode(y)).to(precision.device)
    tokens, device = material.train_tokens, precision.device
    multiple = 8 if device.type == "cuda" else 1
    unit_seed = int(np.random.SeedSequence([0, 0]).generate_state(1)[0])  # as `train_fold` has it
    batches = [
        (*collate(tokens, rows, device, multiple)[:2], labels[torch.from_numpy(np.asarray(rows))])
        for rows in shuffled_batches(tokens.lengths, cfg.batch_size, unit_seed, 0)
    ]
    model.train()
    for ids, mask, target in batches:
        with precision.autocast():
            logits = model(ids, mask)
        loss(logits, target).backward()
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        clock.on_step(len(ids))


def run_peer(options, root, clock):
    """A peer's loop on the same rows."""
    import peers

    from oofline.training.precision import choose_precision

    cfg, _, train = settings(options, root)
    y = (train["rating"] - train["rating"].mean()) / train["rating"].std()
    job = peers.Job(
        train["text"].tolist(), y.tolist(), options.model, options.batch_size, options.max_len,
        2e-5, str(root / "out"), choose_precision(cfg).name,
    )  # fmt: skip
    {"trainer": peers.hf_trainer, "plain": peers.plain_loop}[options.case](job, clock.on_step)


def run_case(options):
    """One turn of one case; prints a line of JSON."""
    from oofline.training.pulse import peak_memory_mb

    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    if options.case in techniques.CASES:
        with tempfile.TemporaryDirectory() as folder:
            step_ms = techniques.step_ms(options, Path(folder), settings, train_all_rows)
        print(json.dumps({"step_ms": step_ms, "peak": peak_memory_mb(device)}))
        return
    clock = Clock()
    run = {"oofline": run_ours, "floor": run_floor}.get(options.case, run_peer)
    noise = io.StringIO()
    with tempfile.TemporaryDirectory() as folder, contextlib.redirect_stdout(noise):
        run(options, Path(folder), clock)
    print(json.dumps({"speed": clock.samples_per_s(), "peak": peak_memory_mb(device)}))


def turn(options, case):
    """Run one case in a process of its own."""
    argv = [sys.executable, __file__, "--case", case]
    for name in ("rows", "batch_size", "max_len", "model", "precision", "data"):
        argv += [f"--{name.replace('_', '-')}", str(getattr(options, name))]
    done = subprocess.run(argv, capture_output=True, text=True, check=False)
    if done.returncode:
        sys.exit(f"bench: case {case} failed\n{done.stderr[-3000:]}")
    return json.loads(done.stdout.strip().splitlines()[-1])


def main(options):
    """Both tables, or the one asked for."""
    from oofline.demo.fetch import fetch_demo

    if options.data == DEMO:
        fetch_demo(ROOT)
    if options.table != "techniques":
        compare_loops(options)
    if options.table != "loops":
        techniques.compare(options, turn)


def compare_loops(options):
    """All loops in turns; prints the table and writes train.json."""
    from oofline.progress import bar
    from oofline.report.terminal import print_frame
    from oofline.storage import write_json

    turns = {case: [] for case in CASES}
    with bar("bench", options.repeats * len(CASES)) as progress:
        for _ in range(options.repeats):
            for case in CASES:
                turns[case].append(turn(options, case))
                progress.advance()
    speed = {case: statistics.median(t["speed"] for t in turns[case]) for case in CASES}
    table = [
        {
            "case": TITLES[case],
            "samples_per_s": speed[case],
            "lowest": min(t["speed"] for t in turns[case]),
            "highest": max(t["speed"] for t in turns[case]),
            "ratio_to_trainer": speed[case] / speed["trainer"],
            "ratio_to_floor": speed[case] / speed["floor"],
            "peak_mb": statistics.median(t["peak"] for t in turns[case]),
        }
        for case in CASES
    ]
    device = torch.cuda.get_device_name() if torch.cuda.is_available() else "CPU"
    title = (
        f"training speed on {device}: {options.rows} tweets, batch {options.batch_size}, "
        f"max_len {options.max_len}, {options.repeats} turns each"
    )
    print_frame(pd.DataFrame(table), title)
    write_json(Path(options.out) / "train.json", table)


def read_options(argv=None):
    """Options of the command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--case", choices=[*CASES, *techniques.CASES], default="")
    parser.add_argument("--rows", type=int, default=1600)
    parser.add_argument("--batch-size", type=int, default=32)
    parser.add_argument("--max-len", type=int, default=80)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--precision", default="auto")
    parser.add_argument("--model", default=str(ROOT / "input" / "models" / "all-MiniLM-L6-v2"))
    parser.add_argument("--table", choices=["all", "loops", "techniques"], default="all")
    parser.add_argument("--technique-rows", type=int, default=800)
    parser.add_argument("--data", default=DEMO, help="csv with columns id, text, rating")
    parser.add_argument("--out", default=str(ROOT / "output" / "bench"))
    return parser.parse_args(argv)


if __name__ == "__main__":
    given = read_options()
    run_case(given) if given.case else main(given)
