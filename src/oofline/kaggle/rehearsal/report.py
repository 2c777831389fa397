"""rehearsal.json, rehearsal.md and the table: what was rehearsed, what it takes on Kaggle."""

import math
from dataclasses import dataclass
from typing import Any

import pandas as pd

from oofline.kaggle.image import limits
from oofline.kaggle.rehearsal.environment import Environment
from oofline.kaggle.rehearsal.isolation import Finished
from oofline.kaggle.rehearsal.verdict import Difference


@dataclass(frozen=True)
class Rehearsal:
    """Everything one rehearsal found.

    Attributes:
        manifest: the kernel's manifest.
        manifest_sha256: of manifest.json.
        isolation: how the notebook was kept apart.
        environment: what it ran in.
        finished: how it ended.
        rows: rows of the hidden test, and of the public one.
        predict: contents of predict.json.
        differences: comparisons with stored predictions.
        problems: why it failed; empty = passed.
    """

    manifest: dict[str, Any]
    manifest_sha256: str
    isolation: str
    environment: Environment
    finished: Finished
    rows: tuple[int, int]
    predict: dict[str, Any]
    differences: list[Difference]
    problems: list[str]


def projected(rehearsal: Rehearsal, rows: int, speedup: float) -> pd.DataFrame:
    """Time of the full test on one and two GPUs, against Kaggle's limit.

    Start-up (install, reading, loading models) is taken as measured; forward passes grow with the
    rows. Two GPUs share the folds.

    Args:
        rehearsal: gives the measured times.
        rows: rows of the full test.
        speedup: of one GPU over this machine, in forward passes.

    Returns:
        Columns gpus, start-up (s), per 1,000 rows (s), rows, total (h), limit (h), share.
    """
    forward = float(rehearsal.predict.get("forward_seconds", 0.0))
    units = max(1, int(rehearsal.predict.get("folds", 1)))
    startup = max(0.0, rehearsal.finished.seconds - forward)
    per_row = forward / max(1, rehearsal.rows[0]) / speedup
    lines, limit = [], float(limits()["submission_hours"])
    for gpus in (1, 2):
        share = math.ceil(units / gpus) / units
        hours = (startup + per_row * rows * share) / 3600
        lines.append(
            {
                "gpus": gpus,
                "startup_s": round(startup, 1),
                "s_per_1000_rows": per_row * 1000 * share,
                "rows": rows,
                "hours": hours,
                "limit_h": limit,
                "share_of_limit": hours / limit,
            }
        )
    return pd.DataFrame(lines)


def as_json(rehearsal: Rehearsal, times: pd.DataFrame, created: str) -> dict[str, Any]:
    """Contents of rehearsal.json."""
    return {
        "manifest_sha256": rehearsal.manifest_sha256,
        "passed": not rehearsal.problems,
        "problems": rehearsal.problems,
        "created": created,
        "mode": rehearsal.manifest["mode"],
        "isolation": rehearsal.isolation,
        "python": rehearsal.environment.python,
        "remarks": rehearsal.environment.remarks,
        "exchanged_wheels": rehearsal.environment.exchanged,
        "seconds": rehearsal.finished.seconds,
        "peak_gb": rehearsal.finished.peak_gb,
        "hidden_rows": rehearsal.rows[0],
        "public_rows": rehearsal.rows[1],
        "precision": rehearsal.predict.get("precision", []),
        "differences": [vars(difference) for difference in rehearsal.differences],
        "projected": times.to_dict(orient="records"),
    }


def as_markdown(
    rehearsal: Rehearsal, times: pd.DataFrame, speedup: float, stored: set[str]
) -> str:  # fmt: skip
    """rehearsal.md.

    Args:
        rehearsal: what was found.
        times: see `projected`.
        speedup: as given by the user; 1 = not stated.
        stored: formats that the stored predictions were computed in.
    """
    manifest, environment = rehearsal.manifest, rehearsal.environment
    verdict = "passed" if not rehearsal.problems else "FAILED"
    lines = [
        f"# Rehearsal of {manifest['title']}: {verdict}", "",
        *[f"- **{problem}**" for problem in rehearsal.problems], *[""] * bool(rehearsal.problems),
        f"Mode {manifest['mode']}, experiment {manifest['exp']}, commit "
        f"`{manifest['git_commit'][:12] or 'none'}`, manifest `{rehearsal.manifest_sha256[:12]}`.",
        "",
        f"- Isolation: {rehearsal.isolation}.",
        f"- Environment: {_environment(manifest, environment)}.",
        *[f"  - {remark}" for remark in environment.remarks],
        *[f"  - exchanged: {name}, which this Python cannot install, for the running "
          "environment's" for name in environment.exchanged],
        f"- Hidden test: {rehearsal.rows[0]:,} rows; the public one has {rehearsal.rows[1]:,}; one "
        "empty text, new ids, unseen groups where there are groups.",
        f"- It took {rehearsal.finished.seconds:.0f} s and {rehearsal.finished.peak_gb:.1f} GB of "
        f"memory; Kaggle's limits are {limits()['submission_hours']} h and "
        f"{limits()['memory_gb']} GB.",
    ]  # fmt: skip
    if rehearsal.differences:
        lines += ["", "## Against the stored predictions", "", *_differences(rehearsal, stored)]
    if rehearsal.predict:
        lines += ["", "## On the full test", "", *_times(times, speedup)]
    tail = [line for line in rehearsal.finished.log.splitlines() if line.strip()][-30:]
    return "\n".join([*lines, "", "## End of the log", "", "```", *tail, "```", ""])


def _environment(manifest: dict[str, Any], environment: Environment) -> str:
    image = f"image {manifest['image']} (Python {manifest['python']}, torch {manifest['torch']})"
    if not environment.remarks and not environment.exchanged:
        return f"fresh, with the versions of {image}"
    differing = len(environment.remarks)
    return (
        f"fresh, but with the running environment's packages in the place of those of {image}: "
        f"{differing} differ, so what depends on their versions is not rehearsed"
    )


def _differences(rehearsal: Rehearsal, stored: set[str]) -> list[str]:
    now = ", ".join(rehearsal.predict.get("precision", [])) or "an unknown format"
    lines = [
        f"Stored predictions were computed in {', '.join(sorted(stored))}, these in {now}. "
        f"Kaggle's {limits()['gpu']} computes what is not set to fp32 in fp16.", "",
        "| predictions | rows | largest difference | bound | |", "|---|---|---|---|---|",
    ]  # fmt: skip
    for each in rehearsal.differences:
        mark = "holds" if each.holds else "**EXCEEDED**"
        figures = f"{each.rows} | {each.largest:.2g} | {each.bound:.2g}"
        lines.append(f"| {each.what} | {figures} | {mark} |")
    return lines


def _times(times: pd.DataFrame, speedup: float) -> list[str]:
    stated = (
        f"Forward passes are taken {speedup:g} times as fast as here, as stated with --speedup."
        if speedup != 1
        else "These are this machine's forward passes, not those of Kaggle's GPU: state how much "
        "faster it is with --speedup, once measured."
    )
    head = "| GPUs | start-up (s) | per 1,000 rows (s) | rows | total (h) | limit (h) | share |"
    lines = [stated, "", head, "|---|---|---|---|---|---|---|"]
    for row in times.itertuples():
        lines.append(
            f"| {row.gpus} | {row.startup_s:.0f} | {row.s_per_1000_rows:.2f} | {row.rows:,} | "
            f"{row.hours:.3f} | {row.limit_h:g} | {row.share_of_limit:.1%} |"
        )
    return lines
