"""The table of an ablation, and in words what the data can tell and what they cannot."""

from typing import Any

import numpy as np
import pandas as pd

from oofline.ablation.contrast import SEEDS_TO_DRAW, Contrast, seed_interval
from oofline.ablation.entries import Entry
from oofline.data.markdown import table
from oofline.results import Task
from oofline.scoring.metrics import get_metric
from oofline.scoring.summary import spread

NAN = float("nan")


def frame_of(entries: list[Entry]) -> pd.DataFrame:
    """One row per arm, the base first.

    Columns: arm, settings, score, lo, hi, diff, diff_lo, diff_hi, verdict, p, rows_needed,
    seeds_needed, seed_sd, seed_min, seed_max, diff_seed_sd, units, failed, at_chance, minutes,
    time_ratio, memory_mb, memory_ratio, alive, why_failed, and "score/<target>" where there are
    several (means over units). The base's own differences are nan, its
    verdict "base"; an arm without a unit that the base finished too has the verdict "failed".
    """
    return pd.DataFrame([_row(entry, entries[0]) for entry in entries])


def _row(entry: Entry, base: Entry) -> dict[str, Any]:
    names = ("score", "lo", "hi", "diff", "diff_lo", "diff_hi", "verdict", "p", "rows_needed",
             "seeds_needed", "seed_sd", "seed_min", "seed_max", "diff_seed_sd")  # fmt: skip
    row: dict[str, Any] = {"arm": entry.arm.name, "settings": entry.arm.changes}
    row |= dict.fromkeys(names, NAN) | {"verdict": "failed"}
    if entry.contrast is not None:
        row |= _compared(entry.contrast, entry is base)
    elif entry is base:
        row["verdict"] = "base"
    memory = [s["peak_memory_mb"] for s in entry.scores.values() if s.get("peak_memory_mb")]
    return row | {
        "units": entry.n_units, "failed": len(entry.failures), "at_chance": entry.n_at_chance,
        "minutes": sum(float(s.get("minutes") or 0.0) for s in entry.scores.values()),
        "time_ratio": entry.ratio(base, "minutes"),
        "memory_mb": float(np.mean(memory)) if memory else NAN,
        "memory_ratio": entry.ratio(base, "peak_memory_mb"),
        "alive": alive(entry), "why_failed": "; ".join(dict.fromkeys(entry.failures)),
        **_by_target(entry),
    }  # fmt: skip


def _by_target(entry: Entry) -> dict[str, float]:
    """Score of every target, mean over the finished units; {} where there is one target."""
    units = [scores.get("target_scores") or {} for scores in entry.scores.values()]
    found = pd.DataFrame(units, dtype=np.float64).mean()
    return {f"score/{name}": float(value) for name, value in found.items()}


def _compared(found: Contrast, is_base: bool) -> dict[str, Any]:
    """The columns of a contrast; the base has no difference to itself."""
    spreads = spread(found.seed_scores), spread(found.seed_differences)
    row: dict[str, Any] = {
        "score": found.score,
        "lo": found.ci95[0],
        "hi": found.ci95[1],
    }
    if spreads[0] is not None:
        lowest, highest = float(found.seed_scores.min()), float(found.seed_scores.max())
        row |= {"seed_sd": spreads[0], "seed_min": lowest, "seed_max": highest}
    if is_base:
        return row | {"verdict": "base"}
    lo, hi = found.difference_ci95
    needed = {"rows_needed": found.rows_needed, "seeds_needed": found.seeds_needed}
    row |= {key: NAN if value is None else value for key, value in needed.items()}
    return row | {
        "diff": found.difference, "diff_lo": lo, "diff_hi": hi, "verdict": found.verdict,
        "p": NAN if found.p is None else found.p,
        "diff_seed_sd": NAN if spreads[1] is None else spreads[1],
    }  # fmt: skip


def alive(entry: Entry) -> str:
    """What its techniques did, mean over units: "awp: active 0.33, perturbation 0.0099"."""
    values: dict[str, dict[str, list[float]]] = {}
    for scores in entry.scores.values():
        for technique, figures in (scores.get("techniques") or {}).items():
            found = values.setdefault(technique, {})
            for figure, value in figures.items():
                found.setdefault(figure, []).append(NAN if value is None else float(value))
    return "; ".join(
        f"{technique}: " + ", ".join(f"{name} {np.mean(v):.3g}" for name, v in figures.items())
        for technique, figures in values.items()
    )


_PRINTED = (
    ("arm", "{arm}"), ("score", "{score:.5f}"), ("diff", "{diff:+.5f}"),
    ("its 95 %", "{diff_lo:+.4f}, {diff_hi:+.4f}"), ("verdict", "{verdict}"),
    ("failed", "{failed}/{units}"), ("time", "x{time_ratio:.2f}"),
)  # fmt: skip
_SHOWN = (
    ("arm", "{arm}"), ("score (95 %)", "{score:.5f} ({lo:.4f} to {hi:.4f})"),
    ("difference (95 %)", "{diff:+.5f} ({diff_lo:+.4f} to {diff_hi:+.4f})"),
    ("verdict", "{verdict}"), ("p", "{p:.3f}"), ("rows needed", "{rows_needed}"),
    ("seeds needed", "{seeds_needed:.0f}"), ("seed sd", "{seed_sd:.4f}"),
    ("lowest to highest seed", "{seed_min:.4f} to {seed_max:.4f}"),
    ("failed", "{failed} of {units}"), ("at chance", "{at_chance}"), ("minutes", "{minutes:.3g}"),
    ("time", "x{time_ratio:.2f}"), ("memory", "x{memory_ratio:.2f}"), ("alive", "{alive}"),
)  # fmt: skip


def shown(frame: pd.DataFrame, for_terminal: bool = False) -> pd.DataFrame:
    """The table as text, empty where a value is not known; all of it, or what a terminal holds."""
    columns = _PRINTED if for_terminal else _SHOWN
    rows_needed = frame["rows_needed"].map(_rounded, na_action="ignore")
    frame = frame.assign(rows_needed=rows_needed)
    cells = {
        title: [_fill(template, row) for _, row in frame.iterrows()] for title, template in columns
    }
    targets = [name for name in map(str, frame.columns) if name.startswith("score/")]
    for name in [] if for_terminal else targets:
        cells[name.removeprefix("score/")] = [
            "" if np.isnan(value) else f"{value:.4f}" for value in frame[name]
        ]
    return pd.DataFrame(cells)


def _rounded(count: float) -> str:
    """A number of rows to two digits, which is more than it is known to."""
    return "more than 10 million" if count > 1e7 else f"about {int(float(f'{count:.2g}')):,}"


def _fill(template: str, row: pd.Series) -> str:
    names = [part.split("}")[0].split(":")[0] for part in template.split("{")[1:]]
    return "" if row[names].isna().any() else template.format(**row)


def markdown(
    comp: str, name: str, task: Task, entries: list[Entry], n_folds: int, side_by_side: bool = False
) -> str:
    """The report: what was compared, the table, what it says, and every arm's settings."""
    frame = shown(frame_of(entries))
    settings = [
        (e.arm.name, e.arm.changes or "(the settings that all start from)") for e in entries
    ]
    body = [tuple(row) for row in frame.itertuples(index=False)]
    lines = [
        f"# {comp}: ablation {name}", "", *_head(task, entries, n_folds, side_by_side), "",
        *table(tuple(frame.columns), body), "", "## What it says", "",
        *(f"- {line}" for line in conclusions(task, entries)), "", "## Arms", "",
        *table(("arm", "settings"), settings),
    ]  # fmt: skip
    return "\n".join(lines) + "\n"


def _head(task: Task, entries: list[Entry], n_folds: int, side_by_side: bool) -> list[str]:
    """How to read the table."""
    better = "higher" if get_metric(task.metric, task.kind).greater_is_better else "lower"
    units = {unit for entry in entries for unit in entry.scores}
    folds, seeds = (sorted({u[i] for u in units}) for i in (1, 0))
    n_rows = entries[0].contrast.n_rows if entries[0].contrast else 0
    on_gpu = any(str(s.get("device")).startswith("cuda") for s in entries[0].scores.values())
    memory = (
        "the most that was allocated on the GPU"
        if on_gpu
        else "the most that the unit's own process held, Python and libraries included"
    )
    times = (
        " Units are trained side by side: their minutes hold what they cost each other (cores, "
        "memory, disk) and how the devices differ; one device measures an arm's own time."
    )
    return [
        f"{task.metric} ({better} is better), mean over seeds of the out-of-fold score. Base: "
        f"{entries[0].arm.name}. Folds {_list(folds)} (of {n_folds}), seeds {_list(seeds)}, "
        f"{n_rows} rows.",
        "",
        f"Differences are paired: {_what_intervals_hold(len(seeds))} p is over folds, corrected "
        "for their shared training rows (Nadeau and Bengio 2003). Rows needed, seeds needed: how "
        "many would show a difference of this size with 80 % power. At chance: units no better "
        "than one and the same prediction for all rows. Time and memory are relative to the base, "
        f"the median over units; memory is {memory}." + times * side_by_side,
    ]


def _what_intervals_hold(n_seeds: int) -> str:
    if n_seeds >= SEEDS_TO_DRAW:
        return (
            "the same rows and the same seeds are drawn again for both arms, so the intervals hold "
            f"the noise of {n_seeds} seeds too."
        )
    return (
        "the same rows are drawn again for both arms. The intervals do not hold the seeds' noise, "
        f"that takes {SEEDS_TO_DRAW} seeds (seeds here: {n_seeds}): compare with the seed sd."
    )


def conclusions(task: Task, entries: list[Entry]) -> list[str]:
    """One sentence or two per arm; never more than the data can carry."""
    base, others = entries[0], entries[1:]
    lines = [f"{e.arm.name}: {_failure(e)}" for e in entries if e.failures]
    lines += [f"{e.arm.name}: {_verdict(e, base)}" for e in others if e.contrast is not None]
    if len(others) > 1:
        lines.append(
            f"{len(others)} arms were compared with {base.arm.name}: if none of them did anything, "
            f"about {0.05 * len(others):.2g} would still be called better or worse by chance. Try "
            "a winner again on other seeds."
        )
    return lines


def _failure(entry: Entry) -> str:
    reasons = "; ".join(dict.fromkeys(entry.failures))
    rest = "" if not entry.scores else " The rest flatters it: what failed has no score."
    return f"failed {len(entry.failures)} of {entry.n_units} units: {reasons}.{rest}"


def _verdict(entry: Entry, base: Entry) -> str:
    found = entry.contrast
    assert found is not None
    lo, hi = found.difference_ci95
    about = f"{found.difference:+.5f} (95 % {lo:+.5f} to {hi:+.5f})"
    if found.verdict != "no difference shown":
        return f"{found.verdict} than {base.arm.name} by {about}.{_seeds(found)}"
    if found.difference == 0:
        return f"no difference to {base.arm.name} at all."
    needed = []
    if found.rows_needed:
        needed.append(f"{_rounded(found.rows_needed)} rows (there are {found.n_rows:,})")
    if found.seeds_needed is not None:
        needed.append(f"{found.seeds_needed} seeds (there are {len(found.seed_scores)})")
    takes = f" To show a difference of this size takes {' and '.join(needed)}." * bool(needed)
    return f"no difference to {base.arm.name} shown: {about}.{takes}"


def _seeds(found: Contrast) -> str:
    """Whether the seeds agree, where the interval does not hold their noise."""
    n_seeds, between = len(found.seed_scores), seed_interval(found.seed_differences)
    if between is None:
        return " One seed: whether another would say the same is not known."
    if n_seeds >= SEEDS_TO_DRAW:
        return ""
    each = ", ".join(f"{difference:+.5f}" for difference in found.seed_differences)
    if between[0] > 0 or between[1] < 0:
        return f" By seed: {each}."
    needed = f"; {found.seeds_needed} seeds would" if found.seeds_needed else ""
    return f" By seed: {each}: {n_seeds} seeds alone do not settle it{needed}."


def _list(numbers: list[int]) -> str:
    return ", ".join(map(str, numbers)) or "-"
