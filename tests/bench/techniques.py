"""What each technique costs: time of a step and peak memory, over the plain step.

Same rows, same model, same batches, through `train_fold` as a user runs it. Every case runs in a
process of its own; the cases take turns, and a case is divided by the plain step of its own turn
(with the same dropout and epochs). A technique that is not built, or that is built and does
nothing, stops the table.
"""

import contextlib
import io
import statistics
import time
from dataclasses import dataclass, field
from pathlib import Path

import pandas as pd
import torch

SKIP_STEPS = 6
"""Steps at the start of a run that are not counted."""


@dataclass(frozen=True)
class Case:
    """One row of the table: settings, the case it is divided by, and the aim for the ratio."""

    title: str
    base: str
    settings: dict = field(default_factory=dict)
    technique: str = ""
    aim: float | None = None


DROPOUT = {"dropout": 0.1}
EPOCHS = 4
CASES = {
    "step": Case("plain step, dropout 0.1", "step", DROPOUT),
    "fgm": Case("FGM", "step", DROPOUT | {"fgm_eps": 0.5}, "fgm", 2.05),
    "awp": Case("AWP, active", "step", DROPOUT | {"awp_last_epochs": 1}, "awp", 2.05),
    "sift": Case("SiFT", "step", DROPOUT | {"sift_lambda": 1.0}, "sift", 2.6),
    "rdrop": Case("R-Drop", "step", DROPOUT | {"rdrop_alpha": 1.0}, "rdrop", 2.0),
    "multi-sample": Case(
        "multi-sample dropout, 5 masks", "step",
        DROPOUT | {"dropout_samples": 5, "dropout_sample_p": 0.3}, "multi_sample", 1.02,
    ),
    "ema": Case("EMA", "step", DROPOUT | {"ema_decay": 0.999}, "ema", 1.03),
    "checkpointing": Case(
        "gradient checkpointing", "step", DROPOUT | {"gradient_checkpointing": True}
    ),
    "no-dropout": Case("plain step, no dropout", "no-dropout", {"dropout": 0.0}),
    "mixout": Case("Mixout (no dropout)", "no-dropout", {"mixout_p": 0.1}, "mixout", 1.15),
    "mixconnect": Case(
        "Mixconnect (no dropout)", "no-dropout", {"mixout_p": 0.1, "mixout_mask": "element"},
        "mixout",
    ),
    "plain-4": Case("plain, 4 epochs", "plain-4", DROPOUT | {"epochs": EPOCHS}),
    "awp-last": Case(
        "AWP in the last of 4 epochs", "plain-4",
        DROPOUT | {"epochs": EPOCHS, "awp_last_epochs": 1}, "awp", 1.27,
    ),
}  # fmt: skip
"""Name -> case; those that are their own base are plain."""


def step_ms(options, root, settings, train_all_rows):
    """Milliseconds of an optimizer step of one case: mean over epochs of the mean of their steps.

    Raises:
        SystemExit: the case's technique is not what was trained with.
    """
    case, seconds = CASES[options.case], {}

    def watched(trainer, step):
        check_techniques(options.case, [technique.name for technique in trainer.techniques])
        index, epoch = trainer.progress.step, trainer.progress.step // trainer.plan.steps_per_epoch
        started = now()
        step(trainer)
        if index >= SKIP_STEPS:
            seconds.setdefault(epoch, []).append(now() - started)

    cfg, paths, train = settings(options, root, **({"epochs": 1} | case.settings))
    with contextlib.redirect_stdout(io.StringIO()):
        train_all_rows(cfg, paths, train, watched)
    return 1000.0 * statistics.mean(statistics.mean(steps) for steps in seconds.values())


def check_techniques(name, built):
    """Stop when a case is not trained with its technique, or with another one."""
    wanted = [CASES[name].technique] if CASES[name].technique else []
    if built != wanted:
        raise SystemExit(f"bench: case {name} needs the techniques {wanted}, built were {built}")


def now():
    """Seconds, when everything that was asked of the device is done."""
    if torch.cuda.is_available():
        torch.cuda.synchronize()
    return time.perf_counter()


def compare(options, turn):
    """All cases in turns; prints the table and writes techniques.json.

    Args:
        options: of the command line.
        turn: (options, case) -> {"step_ms", "peak"} of one run.
    """
    import copy

    from oofline.progress import bar
    from oofline.report.terminal import print_frame
    from oofline.storage import write_json

    options = copy.copy(options)
    options.rows = options.technique_rows
    turns = {case: [] for case in CASES}
    with bar("bench techniques", options.repeats * len(CASES)) as progress:
        for _ in range(options.repeats):
            for case in CASES:
                turns[case].append(turn(options, case))
                progress.advance(**{f"{case} ms": turns[case][-1]["step_ms"]})
    table = [row(case, turns) for case in CASES]
    device = torch.cuda.get_device_name() if torch.cuda.is_available() else "CPU"
    memory = "allocated" if torch.cuda.is_available() else "resident, all of the process"
    title = (
        f"cost of techniques on {device}: {options.rows} tweets, batch {options.batch_size}, "
        f"max_len {options.max_len}, median and range of {options.repeats} turns; memory is the "
        f"peak ({memory})"
    )
    print_frame(pd.DataFrame(table), title)
    write_json(Path(options.out) / "techniques.json", table)


def row(name, turns):
    """The table's row of a case: ratios are taken within each turn, then their median."""
    case = CASES[name]
    pairs = list(zip(turns[name], turns[case.base], strict=True))
    ratios = [own["step_ms"] / base["step_ms"] for own, base in pairs]
    ratio = statistics.median(ratios)
    return {
        "case": case.title,
        "step_ms": statistics.median(own["step_ms"] for own, _ in pairs),
        "ratio": ratio,
        "lowest": min(ratios),
        "highest": max(ratios),
        "aim": case.aim,
        "met": None if case.aim is None else ratio <= case.aim,
        "peak_mb": statistics.median(own["peak"] for own, _ in pairs),
        "memory_ratio": statistics.median(own["peak"] / base["peak"] for own, base in pairs),
    }
