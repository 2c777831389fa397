"""Units: (seed, fold) of an arm, each trained in a process of its own, and read back."""

import contextlib
import dataclasses
import multiprocessing
import sys
import traceback
from collections.abc import Callable
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from oofline.ablation.contrast import Runs
from oofline.blocks import Block, blank, finite, joined, stacked
from oofline.config import CFG
from oofline.crossval import begin, is_done, trainer_of
from oofline.engines.threads import limit_threads
from oofline.engines.worker import output_to
from oofline.errors import DataError, OoflineError, Stopped
from oofline.progress import log_to, quiet, relay_to
from oofline.results import Task, prediction_array
from oofline.scoring.metrics import get_metric, score
from oofline.scoring.oof import join, read_parquet
from oofline.scoring.summary import decided_score
from oofline.storage import Paths
from oofline.training.guard import Guard, no_ctrl_c

Unit = tuple[int, int]
"""(seed, fold)."""


def train_apart(
    cfg: CFG, paths: Paths, unit: Unit, guard: Guard, device: str, log: Path,
    tell: Callable[..., None],
) -> str | None:  # fmt: skip
    """Train one unit in a new process, so that its peak memory is its own.

    Args:
        cfg: of the arm.
        paths: of the competition.
        unit: (seed, fold).
        guard: of this process; what is left of its time limit is the unit's, and a request to
            stop is passed on.
        device: where it computes, an entry of `device_list`.
        log: file that everything the unit's process says is appended to.
        tell: called as ``tell("say", text)`` and ``tell("bar", title, done, total, note)``.

    Returns:
        Why the unit failed, in one line; None when it is done, or another process trains it.

    Raises:
        Stopped: time limit or interrupt, with a resumable state.
        RuntimeError: a bug, with its traceback.
    """
    if cfg.time_limit_hours:
        cfg = dataclasses.replace(cfg, time_limit_hours=guard.seconds_left() / 3600.0)
    context = multiprocessing.get_context("spawn")
    ours, theirs = context.Pipe(duplex=False)
    process = context.Process(target=_train, args=(theirs, cfg, paths, unit, device, log))
    with no_ctrl_c():  # Ctrl-C reaches it as the request that is passed on
        process.start()
    theirs.close()
    kind, outcome = _wait(ours, process, guard, tell)
    process.join()
    if isinstance(outcome, Stopped):
        raise outcome
    if kind == "end":
        return None if outcome is None else str(outcome)
    where = f"seed {unit[0]} fold {unit[1]} of {cfg.exp} (log: {log})"
    if kind == "bug":
        raise RuntimeError(f"{where}: {outcome}")
    if guard.interrupted:
        raise Stopped("interrupted; the same command goes on from there", guard.exit_code)
    if (process.exitcode or 0) < 0:
        return f"its process was killed by signal {-(process.exitcode or 0)} (out of memory?)"
    raise RuntimeError(f"{where}: its process ended ({process.exitcode})")


def _wait(
    ours: Connection, process: Any, guard: Guard, tell: Callable[..., None]
) -> tuple[str, Any]:
    """How the unit ended: ("end", error or None), ("bug", traceback) or ("died", None)."""
    asked = False
    while True:
        if guard.interrupted and not asked and sys.platform != "win32":
            process.terminate()  # SIGTERM: it saves its state and stops
            asked = True
        if not ours.poll(0.2):
            continue
        try:
            kind, *content = ours.recv()
        except EOFError:
            return "died", None
        if kind in ("end", "bug"):
            return kind, content[0]
        tell(kind, *content)


def _train(theirs: Connection, cfg: CFG, paths: Paths, unit: Unit, device: str, log: Path) -> None:
    """What runs in the unit's process."""

    def send(*message: Any) -> None:
        """Tell the other end, if anyone is there."""
        with contextlib.suppress(BrokenPipeError):
            theirs.send(message)

    with output_to(log):
        log_to(log)
        relay_to(send)
        try:
            _do(cfg, paths, unit, device)
            send("end", None)
        except (OoflineError, Stopped) as error:
            send("end", error)
        except Exception:
            traceback.print_exc()
            send("bug", traceback.format_exc())


def _do(cfg: CFG, paths: Paths, unit: Unit, device: str) -> None:
    """Train the unit in this process."""
    if cfg.cpus_per_fold:
        limit_threads(cfg.cpus_per_fold)
    guard = Guard(cfg.time_limit_hours)
    with guard.signals():
        with quiet():  # what there is to say of the data is said once, before the first unit
            material = begin(cfg, paths)
        trainer_of(dataclasses.replace(cfg, device=device), material, guard)(unit)


def read_runs(
    paths: Paths, exp: str, task: Task, ids: np.ndarray, fold: np.ndarray, units: list[Unit]
) -> Runs:
    """Out-of-fold predictions of an arm's finished units, seed by seed.

    Args:
        paths: of the competition.
        exp: the arm's experiment.
        task: gives the outputs.
        ids: (n,) str.
        fold: (n,) int64.
        units: of all arms; those that this one did not finish are left out.

    Raises:
        DataError: a file is damaged, or made for other rows.
    """
    seeds = list(dict.fromkeys(seed for seed, _ in units))
    parts: dict[int, list] = {seed: [] for seed in seeds}
    there = np.zeros((len(seeds), len(ids)), dtype=bool)
    for seed, k in units:
        if is_done(paths.fold(exp, seed, k)):
            rows = np.flatnonzero(fold == k)
            parts[seed].append((rows, _fold_predictions(paths, exp, task, ids[rows], seed, k)))
            there[seeds.index(seed), rows] = True
    for seed, known in zip(seeds, there, strict=True):
        left = np.flatnonzero(~known)
        parts[seed].append((left, blank(len(left), task.n_outputs, task.truth == "answer")))
    if not seeds:
        return Runs(np.zeros((0, len(ids), task.n_outputs)), there)
    return Runs(stacked([joined(parts[seed]) for seed in seeds]), there)


def _fold_predictions(
    paths: Paths, exp: str, task: Task, ids: np.ndarray, seed: int, k: int
) -> Block:
    """(rows, T) in the order of ``ids``."""
    path = paths.fold(exp, seed, k) / "oof.parquet"
    frame = read_parquet(path)
    if len(frame) != len(ids):
        raise DataError(
            f"{path} has {len(frame)} rows, fold {k} has {len(ids)}: folds.csv changed since "
            "training; restore it or train again under another NAME"
        )
    pred = prediction_array(task, frame)[join(path, frame["id"], pd.Index(ids.astype(str)))]
    if not finite(pred).all():
        raise DataError(f"{path} holds predictions that are not finite: delete the fold's folder")
    return pred


def chance_score(task: Task, y_train: np.ndarray, y_valid: np.ndarray) -> float:
    """Score on ``y_valid`` of the best prediction that is the same for every row.

    Labels: the class that scores best on the training rows (the majority for accuracy).
    Probabilities: the training shares of the classes. Values: the training mean. A score that a
    constant does not have (a correlation) counts as 0. Answers: the whole context.
    """
    metric = get_metric(task.metric, task.kind)
    if task.truth == "answer":
        whole = np.array([answer.context for answer in y_valid], dtype=object)
        return decided_score(task, y_valid, whole)
    if task.truth == "labels":
        shares = y_train.mean(axis=0)
        constants = [shares, np.ones(len(shares)), np.zeros(len(shares))]
        constants = constants[1:] if metric.needs == "label" else constants[:1]
    elif task.kind == "ordinal":
        constants = [np.array([float(step)]) for step in range(len(task.labels))]
    elif task.truth == "values":
        constants = [y_train.reshape(len(y_train), -1).mean(axis=0)]
    elif metric.needs == "label":
        constants = [np.array([0.0]), np.array([1.0])]
        constants = constants if task.kind == "binary" else list(np.eye(task.n_outputs))
    else:
        shares = np.bincount(y_train, minlength=max(2, task.n_outputs)) / len(y_train)
        constants = [shares[-1:] if task.kind == "binary" else shares]

    def scored(y: np.ndarray, constant: np.ndarray) -> float:
        """Score of one constant prediction; 0 where it has none."""
        value = score(task, y, np.tile(constant, (len(y), 1)))
        return value if np.isfinite(value) else 0.0

    best = max(constants, key=lambda constant: metric.sign * scored(y_train, constant))
    return scored(y_valid, best)


def at_chance(task: Task, y_train: np.ndarray, y_valid: np.ndarray, inputs: np.ndarray) -> bool:
    """Whether decided predictions score no better than a constant one (see `chance_score`).

    Args:
        task: gives metric and kind.
        y_train: (m,) or (m, T).
        y_valid: (n,) or (n, T).
        inputs: what `Decision.inputs` holds, (n,) or (n, T): as in the arm's own score.
    """
    sign = get_metric(task.metric, task.kind).sign
    value = decided_score(task, y_valid, inputs)
    return bool(sign * value <= sign * chance_score(task, y_train, y_valid) + 1e-12)
