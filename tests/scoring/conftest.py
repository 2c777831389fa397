"""Small tasks with predictions, and experiment folders as training leaves them."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest

from oofline.blocks import from_cells
from oofline.results import Answer, Task, prediction_frame
from oofline.scoring.oof import Oof, collect
from oofline.scoring.summary import write_oof
from oofline.storage import Paths, write_json


@pytest.fixture
def make_task() -> Callable[..., Task]:
    """Factory of tasks: ``make_task("binary", "f1")``."""

    def make(kind: str, metric: str, n_classes: int = 3, n_targets: int = 1) -> Task:
        if kind == "binary":
            return Task("binary", ("target",), ("0", "1"), ("target",), metric, "label")
        if kind == "multiclass":
            labels = tuple(f"class{k}" for k in range(n_classes))
            return Task("multiclass", ("target",), labels, labels, metric, "label")
        if kind == "ordinal":
            return Task("ordinal", ("target",), tuple("12345"), ("target",), metric, "label")
        if kind == "multilabel":
            names = ("label0", "label1", "label2")
            return Task("multilabel", names, ("0", "1"), names, metric, "probability")
        if kind == "qa":
            return Task("qa", ("y",), (), ("start", "end"), metric, "answer", longest=14)
        n_targets = 3 if kind == "multi-target" else n_targets
        targets = tuple(f"target{t}" for t in range(n_targets))
        if kind == "multi-target":
            return Task("multi-target", targets, (), targets, metric, "value")
        return Task("regression", targets, (), targets, metric, "value")

    return make


@pytest.fixture
def sample() -> Callable[..., tuple[np.ndarray, np.ndarray]]:
    """Factory of (y, pred) with some signal: ``sample("multiclass", n=200, seed=0)``."""

    def draw(
        kind: str, n: int = 200, seed: int = 0, n_classes: int = 3, n_targets: int = 1
    ) -> tuple[np.ndarray, np.ndarray]:
        rng = np.random.default_rng(seed)
        if kind == "qa":
            return _answers(rng, n)
        if kind in ("regression", "multi-target"):
            y = rng.normal(size=(n, 3 if kind == "multi-target" else n_targets))
            return y, y + rng.normal(size=y.shape)
        if kind == "multilabel":
            y = (rng.random((n, 3)) < (0.5, 0.3, 0.1)).astype(np.int64)
            return y, 1 / (1 + np.exp(-(2.0 * y - 1 + 1.5 * rng.normal(size=y.shape))))
        if kind == "ordinal":
            y = rng.integers(0, 5, n)
            return y, (y + rng.normal(size=n))[:, None]
        if kind == "binary":
            y = rng.integers(0, 2, n)
            return y, 1 / (1 + np.exp(-(2 * y - 1 + 1.5 * rng.normal(size=n))))[:, None]
        y = rng.integers(0, n_classes, n)
        logits = rng.normal(size=(n, n_classes)) + 1.2 * np.eye(n_classes)[y]
        exp = np.exp(logits)
        return y, exp / exp.sum(axis=1, keepdims=True)

    return draw


def _answers(rng: np.random.Generator, n: int) -> tuple[np.ndarray, Any]:
    """Two words of nine, and probabilities that lean to them."""
    context = "one two three four five six seven eight nine"
    first = np.array([context.index(word) for word in context.split()])
    last = first + [len(word) - 1 for word in context.split()]
    chosen = rng.integers(0, 8, n)
    y = np.empty(n, dtype=object)
    y[:] = [Answer(context, context[first[k] : last[k + 1] + 1], int(first[k])) for k in chosen]
    logits = rng.normal(size=(2, n, 9))
    logits[0, np.arange(n), chosen] += 1.5
    logits[1, np.arange(n), chosen + 1] += 1.5
    chances = np.exp(logits) / np.exp(logits).sum(-1, keepdims=True)
    columns = np.stack([np.tile(2 * first, (n, 1)), np.tile(2 * last + 1, (n, 1))])
    rows = np.tile(np.arange(n)[:, None], (2, 1, 9))
    return y, from_cells(rows.ravel(), columns.ravel(), chances.ravel(), n)


@dataclass
class Competition:
    """A small competition on disk: ids, folds, targets, and a way to add trained experiments."""

    paths: Paths
    task: Task
    ids: np.ndarray
    fold: np.ndarray
    y: np.ndarray
    truth: np.ndarray
    test_ids: np.ndarray
    test_truth: np.ndarray

    def noisy(self, noise: float, seed: int, truth: np.ndarray | None = None) -> np.ndarray:
        """Predictions (n, T) with some noise on the logits or values."""
        truth = self.truth if truth is None else truth
        values = truth + noise * np.random.default_rng(seed).normal(size=truth.shape)
        if self.task.truth == "values":
            return values
        if self.task.kind == "binary":
            return 1 / (1 + np.exp(-values))
        return np.exp(values) / np.exp(values).sum(axis=1, keepdims=True)

    def train(self, exp: str, noise: float = 1.0, seeds: tuple[int, ...] = (42,)) -> None:
        """Write the fold folders of an experiment as training leaves them, rows shuffled."""
        for seed in seeds:
            pred = self.noisy(noise, seed + len(exp) * 100 + ord(exp[0]))
            for k in np.unique(self.fold[self.fold >= 0]):
                self.write_fold(exp, seed, int(k), pred)

    def write_fold(self, exp: str, seed: int, k: int, pred: np.ndarray) -> None:
        rng = np.random.default_rng(seed + k)
        rows = rng.permutation(np.flatnonzero(self.fold == k))
        frame = prediction_frame(
            self.task, self.ids[rows], seed, k, pred=pred[rows], last=pred[rows], best=pred[rows]
        )
        folder = self.paths.fold(exp, seed, k)
        folder.mkdir(parents=True, exist_ok=True)
        frame.to_parquet(folder / "oof.parquet")
        order = rng.permutation(len(self.test_ids))
        test = self.noisy(0.1, seed + k, self.test_truth)
        frame = prediction_frame(self.task, self.test_ids[order], seed, k, pred=test[order])
        frame.to_parquet(folder / "test.parquet")
        write_json(folder / "scores.json", {"score": 0.5, "minutes": 2.0, "samples_per_s": 10.0})

    def collect(self, exp: str, seeds: list[int] | None = None) -> Oof:
        return collect(self.paths, exp, self.task, self.ids, self.fold, self.test_ids, seeds)

    def score(self, exp: str, n_samples: int = 100) -> dict[str, Any]:
        return write_oof(self.paths, self.task, self.collect(exp), self.y, n_samples=n_samples)


@pytest.fixture
def competition(tmp_path, make_task) -> Callable[..., Competition]:
    """Factory: ``competition("binary", "f1", n=300, n_folds=3)``."""

    def build(kind: str, metric: str, n: int = 300, n_folds: int = 3) -> Competition:
        rng, task = np.random.default_rng(7), make_task(kind, metric)
        total = n + 40
        if kind in ("regression", "multi-target"):
            y = rng.normal(size=(total, task.n_outputs))
            truth = y
        else:
            y = rng.integers(0, 2 if kind == "binary" else 3, total)
            truth = (2.0 * y - 1)[:, None] if kind == "binary" else 2 * np.eye(3)[y]
        return Competition(
            Paths("comp", tmp_path), task, np.array([f"id{i:04d}" for i in rng.permutation(n)]),
            rng.permutation(np.arange(n) % n_folds), y[:n], truth[:n],
            np.array([f"test{i:03d}" for i in rng.permutation(40)]), truth[n:],
        )  # fmt: skip

    return build
