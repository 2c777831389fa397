"""Arms as training leaves them, without training, and units done in this process."""

import dataclasses

import numpy as np
import pytest

from oofline import cli
from oofline.ablation import spread
from oofline.claim import claim_experiment, inputs_of
from oofline.data.competition import read_competition
from oofline.data.folds import ensure_folds
from oofline.engines.outcome import Failure
from oofline.errors import OoflineError
from oofline.results import Task, prediction_frame
from oofline.storage import write_json


@pytest.fixture
def task():
    """task(kind, metric) -> Task with one target, or two labels or values."""

    def make(kind, metric):
        if kind in ("multilabel", "multi-target"):
            labels, asks = (("0", "1"), "label") if kind == "multilabel" else ((), "value")
            return Task(kind, ("a", "b"), labels, ("a", "b"), metric, asks)
        if kind == "ordinal":
            return Task(kind, ("target",), ("1", "2", "3"), ("target",), metric, "label")
        labels = {"binary": ("0", "1"), "multiclass": ("a", "b", "c"), "regression": ()}[kind]
        outputs = labels if kind == "multiclass" else ("target",)
        return Task(kind, ("target",), labels, outputs, metric, "label" if labels else "value")

    return make


@pytest.fixture
def oofline(tmp_path, capsys, monkeypatch):
    """oofline("ablation", ...) -> (exit code, stdout, stderr), run below tmp_path."""
    monkeypatch.setenv("COLUMNS", "200")

    def run(*argv):
        code = cli.run([str(a) for a in argv], tmp_path)
        captured = capsys.readouterr()
        return code, captured.out, captured.err

    return run


@pytest.fixture
def done_by(monkeypatch):
    """done_by(train): train(cfg, (seed, fold)) is called here, in place of a process of its own."""

    def use(train):
        def share(jobs, devices, start, logs, guard, name, threads, *, alone, go_on, after):
            assert alone
            assert go_on
            for job in jobs:
                try:
                    outcome = train(job[0].cfg, job[1])
                except OoflineError as error:
                    outcome = Failure(job, str(error))
                after(job, outcome)

        monkeypatch.setattr(spread, "share", share)

    return use


@pytest.fixture
def fails(done_by):
    """fails(error): every unit that would be trained raises it; returns the list of those tried."""

    def use(error):
        tried = []

        def train(cfg, unit):
            tried.append((cfg.exp, unit))
            raise error

        done_by(train)
        return tried

    return use


@pytest.fixture
def fabricate(write_competition, load_settings):
    """fabricate({arm: noise}, seeds, folds) -> (paths, cfg, competition, fold) of finished units.

    Predictions are the truth plus noise of that size; nothing is trained.
    """

    def make(arms, seeds=(1, 2), folds=(0, 1, 2), kind="regression", n=90, **settings):
        paths = write_competition(kind, n=n, **settings)
        cfg = load_settings(paths)
        competition = read_competition(cfg, paths)
        fold = ensure_folds(cfg, paths, competition)[0].fold
        for arm, (noise, changes) in arms.items():
            made = dataclasses.replace(cfg, exp=f"ablation-{arm}", **changes)
            claim_experiment(made, paths, inputs_of(made, paths, competition))
            for seed in seeds:
                for k in folds:
                    _write(paths.fold(made.exp, seed, k), competition, fold, seed, k, noise)
        return paths, cfg, competition, fold

    return make


def _write(folder, competition, fold, seed, k, noise):
    rows = np.random.default_rng(seed + k).permutation(np.flatnonzero(fold == k))
    rng = np.random.default_rng([seed, k, round(1000 * noise)])
    truth = competition.y[rows].reshape(-1, 1).astype(float)
    pred = truth + noise * rng.normal(size=truth.shape)
    if competition.task.kind == "binary":
        pred = 1 / (1 + np.exp(-4 * (pred - 0.5)))
    folder.mkdir(parents=True)
    ids = competition.train_ids[rows]
    frame = prediction_frame(competition.task, ids, seed, k, pred=pred, last=pred, best=pred)
    frame.to_parquet(folder / "oof.parquet")
    scores = {
        "score": 0.5, "minutes": 1.0 + noise, "peak_memory_mb": 100.0 * (1 + noise),
        "device": "cpu", "techniques": {"awp": {"active": 0.25 * seed}},
    }  # fmt: skip
    write_json(folder / "scores.json", scores)
