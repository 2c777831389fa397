"""Experiments as training leaves them, without training, and a look at what is drawn."""

import dataclasses

import numpy as np
import pandas as pd
import pytest
from matplotlib.figure import Figure

from oofline.data.competition import read_competition
from oofline.data.folds import ensure_folds
from oofline.results import Task, prediction_frame
from oofline.scoring.oof import collect
from oofline.scoring.summary import write_oof
from oofline.storage import write_json


@pytest.fixture
def drawn(monkeypatch):
    """Every figure that is written, by the stem of its file, in its final state."""
    figures = {}
    save = Figure.savefig

    def record(self, path, **kwargs):
        save(self, path, **kwargs)
        figures[path.name.removeprefix(".").split(".")[0]] = self

    monkeypatch.setattr(Figure, "savefig", record)
    return figures


@pytest.fixture
def task():
    """task(kind, metric) -> Task with target "target"."""

    def make(kind, metric):
        labels = {"binary": ("no", "yes"), "multiclass": ("a", "b", "c"), "regression": ()}[kind]
        outputs = labels if kind == "multiclass" else ("target",)
        asks = "value" if kind == "regression" else "label"
        return Task(kind, ("target",), labels, outputs, metric, asks)

    return make


@pytest.fixture
def history():
    """history(fold, seed, scores) -> one row per score, at epochs 1, 2, ..."""

    def make(fold=0, seed=1, scores=(0.5, 0.7, 0.6)):
        epochs = np.arange(1.0, len(scores) + 1)
        return pd.DataFrame(
            {
                "step": 10 * epochs, "train_loss": 1 / epochs, "valid_loss": 1.1 / epochs,
                "score": scores, "samples_per_s": 99.0, "epoch": epochs, "seed": seed, "fold": fold,
            }
        )  # fmt: skip

    return make


@pytest.fixture
def experiment(write_competition, load_settings, history):
    """experiment(kind, seeds, **settings) -> (cfg, paths, competition, oof, scores) on disk."""

    def make(kind, seeds=(1, 2), **settings):
        paths = write_competition(kind)
        cfg = load_settings(paths, **settings)
        competition = read_competition(cfg, paths)
        fold = ensure_folds(cfg, paths, competition)[0].fold
        write_json(paths.experiment(cfg.exp) / "cfg.json", dataclasses.asdict(cfg))
        ids, test_ids, task = competition.train_ids, competition.test_ids, competition.task
        for seed in seeds:
            for k in range(cfg.n_folds):
                rows = fold == k
                _write_fold(paths.fold(cfg.exp, seed, k), competition, rows, seed, k)
                history(k, seed).drop(columns=["seed", "fold"]).to_csv(
                    paths.fold(cfg.exp, seed, k) / "history.csv", index=False
                )
        oof = collect(paths, cfg.exp, task, ids, fold, test_ids)
        scores = write_oof(paths, task, oof, competition.y, None, 20)
        return cfg, paths, competition, oof, scores

    return make


def _write_fold(folder, competition, rows, seed, k):
    rng, task = np.random.default_rng(10 * seed + k), competition.task
    folder.mkdir(parents=True)
    pred = _predictions(task, competition.y[rows], rng)
    test = np.full((len(competition.test_ids), task.n_outputs), 1 / max(2, task.n_outputs))
    frame = prediction_frame(
        task, competition.train_ids[rows], seed, k, pred=pred, last=pred, best=pred
    )
    frame.to_parquet(folder / "oof.parquet")
    prediction_frame(task, competition.test_ids, seed, k, pred=test).to_parquet(
        folder / "test.parquet"
    )
    write_json(folder / "config.json", {"num_hidden_layers": 3})
    write_json(folder / "scores.json", {"minutes": 1.5, "samples_per_s": 10.0})


def _predictions(task, y, rng):
    if task.kind == "regression":
        return y + rng.normal(size=y.shape)
    logits = rng.normal(size=(len(y), len(task.labels)))
    logits[np.arange(len(y)), y] += 1.0
    p = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    return p[:, 1:] if task.kind == "binary" else p
