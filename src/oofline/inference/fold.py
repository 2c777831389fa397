"""One stored fold predicts: its model and its tokenizer come from its folder alone."""

import functools
import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from oofline.blocks import average, joined, largest_difference
from oofline.config import CFG
from oofline.data.batches import sorted_batches
from oofline.data.competition import Competition, read_competition
from oofline.data.tokens import Row, Tokens, cutting_of, tokenize
from oofline.inference.baseline import StoredBaseline, open_baseline
from oofline.inference.files import (
    check_files,
    check_outputs,
    stored_validation,
    write_test_predictions,
)
from oofline.inference.needs import Unit, unit_name
from oofline.models.backbone import load_tokenizer
from oofline.models.text_model import TextModel, load_model
from oofline.progress import bar
from oofline.results import Task
from oofline.storage import Paths
from oofline.training.guard import Guard
from oofline.training.precision import Precision, choose_precision, native_precision
from oofline.training.predict import predict
from oofline.training.speed import keep_freed_memory, return_freed_memory


@dataclass(frozen=True)
class Outcome:
    """What one fold's prediction was like.

    Attributes:
        unit: which fold.
        precision: number format that it computed in.
        seconds: time in the forward passes over the test rows.
        difference: largest absolute difference between validation predictions made now and the
            stored ones; None where they were not asked for, or no row was found.
        n_checked: validation rows behind it.
    """

    unit: Unit
    precision: str
    seconds: float = 0.0
    difference: float | None = None
    n_checked: int = 0


@dataclass(frozen=True)
class Order:
    """What is asked of every fold.

    Attributes:
        cfgs: settings of each experiment.
        stored: where the models are (read only).
        paths: where predictions go, and where the competition's files are.
        test: predict the test rows.
        check_rows: validation rows to predict again; 0 = none.
    """

    cfgs: dict[str, CFG]
    stored: Paths
    paths: Paths
    test: bool = True
    check_rows: int = 0


def fold_predictor(order: Order, device: str, guard: Guard) -> Callable[[Unit], Outcome]:
    """What predicts folds in this process, one after the other, on one device."""
    keep_freed_memory()
    return _Predictor(order, device, guard).run


class _Predictor:
    """Predicts with one stored fold after the other."""

    def __init__(self, order: Order, device: str, guard: Guard) -> None:
        self.order, self.device, self.guard = order, device, guard
        self._competition = functools.cache(self._read_competition)

    def _read_competition(self, exp: str) -> Competition:
        return read_competition(self.order.cfgs[exp], self.order.paths)

    def run(self, unit: Unit) -> Outcome:
        """Load the fold's model and predict what is asked for.

        Raises:
            DataError: a file of the fold is not the one that was trained, or predictions are not
                finite.
            ConfigError: the model cannot be loaded.
            Stopped: interrupted.
        """
        order, folder = self.order, self.order.stored.fold(*unit)
        task = self._competition(unit[0]).task
        check_files(folder)
        check_outputs(folder, task)
        cfg = replace(order.cfgs[unit[0]], device=self.device)
        stored = self._open(unit, folder, cfg, task)
        outcome = Outcome(unit, stored.precision.name)
        if order.test:
            outcome = replace(outcome, seconds=stored.predict_test(self._competition(unit[0])))
        if order.check_rows:
            found = stored.check(self._competition(unit[0]), order.check_rows)
            outcome = replace(outcome, difference=found[0], n_checked=found[1])
        return_freed_memory()
        return outcome

    def _open(
        self, unit: Unit, folder: Path, cfg: CFG, task: Task
    ) -> "_StoredFold | StoredBaseline":
        if cfg.kind != "transformer":
            return open_baseline(unit, folder, cfg, self.order.paths, self.guard)
        precision = usable_precision(cfg)
        model = load_model(cfg, task, folder).to(precision.device)
        return _StoredFold(unit, folder, cfg, model, precision, self.order.paths, self.guard)


@dataclass(frozen=True)
class _StoredFold:
    """A loaded fold."""

    unit: Unit
    folder: Path
    cfg: CFG
    model: TextModel
    precision: Precision
    paths: Paths
    guard: Guard

    @property
    def name(self) -> str:
        """How messages call it."""
        return unit_name(self.unit)

    def _tokens(self, rows: Sequence[Row], what: str) -> Tokens:
        tokenizer = load_tokenizer(str(self.folder))
        return tokenize(self.paths, rows, tokenizer, cutting_of(self.cfg), what)

    def predict_test(self, competition: Competition) -> float:
        """Write the fold's test.parquet; returns the seconds of its forward passes."""
        tokens = self._tokens(competition.test_rows, "test")
        rows, started = np.arange(tokens.n_rows), time.perf_counter()
        with bar(f"{self.name} test", len(tokens)) as progress:
            pred = predict(
                self.model, tokens, rows, self.precision, self.cfg.eval_batch_size,
                progress=progress, between=self.guard.check, orders=tokens.orders,
            ).pred  # fmt: skip
        seconds = time.perf_counter() - started
        remedy = f"use --precision fp32 in place of {self.precision.name}, or restore {self.folder}"
        target = self.paths.fold(*self.unit)
        write_test_predictions(
            target, competition.task, competition.test_ids, self.unit, pred, remedy
        )
        return seconds

    def check(self, competition: Competition, n_rows: int) -> tuple[float | None, int]:
        """Predict validation rows again: (largest absolute difference, rows compared).

        Whole batches are taken as training's evaluation made them, evenly from the longest rows to
        the shortest: only so are the figures the same in bf16 and fp16, where the padding of a
        batch changes the last digits.
        """
        at, wanted = stored_validation(self.folder, competition)
        if not len(at):
            return None, 0
        tokens = self._tokens([competition.train_rows[row] for row in at], "check")
        parts = []
        size = self.cfg.eval_batch_size
        batches = some_batches(tokens, size, n_rows)
        for batch in batches:
            found = predict(
                self.model, tokens, batch, self.precision, size, between=self.guard.check
            ).pred
            parts.append((batch, found))
        order = np.concatenate(batches)
        rows, orders = np.unique(order % len(at), return_counts=True)
        rows = rows[orders == tokens.orders]
        now = joined(parts)
        sides = [rows + side * len(at) for side in range(tokens.orders)]
        mean = average([now[np.searchsorted(np.sort(order), side)] for side in sides])
        difference = largest_difference(mean, wanted[rows])
        return math.inf if math.isnan(difference) else difference, len(rows)


def warm_up(order: Order, units: list[Unit]) -> None:
    """Tokenise the test rows once for each experiment, before several processes want them."""
    for exp, unit in {unit[0]: unit for unit in reversed(units)}.items():
        cfg, folder = order.cfgs[exp], order.stored.fold(*unit)
        if cfg.kind != "transformer":
            continue
        rows = read_competition(cfg, order.paths).test_rows
        tokenize(order.paths, rows, load_tokenizer(str(folder)), cutting_of(cfg), "test")


def some_batches(tokens: Tokens, batch_size: int, n_rows: int) -> list[np.ndarray]:
    """About ``n_rows`` rows in whole evaluation batches, from long to short ones.

    At least one batch is taken. Pairs that are averaged over both orders come with the batches
    that hold their other order.
    """
    batches = sorted_batches(tokens.lengths, batch_size, tokens.n_windows)
    wanted = n_rows * len(batches) // (tokens.n_rows * tokens.orders)
    count = min(len(batches), max(1, wanted))
    chosen = np.unique(np.linspace(0, len(batches) - 1, count).round().astype(np.int64))
    rows = np.concatenate([batches[index] for index in chosen]) % tokens.n_rows
    return [batch for batch in batches if np.isin(batch % tokens.n_rows, rows).any()]


def usable_precision(cfg: CFG) -> Precision:
    """The format an experiment was trained in, where this device computes it, else its own.

    A T4 has no bf16 and a CPU no fast fp16: what was trained in these is predicted there all the
    same.

    Raises:
        ConfigError: the device is absent.
    """
    auto = choose_precision(replace(cfg, precision="auto"))
    kind = auto.device.type
    lacking = (cfg.precision == "bf16" and native_precision(auto.device) == "fp16") or (
        cfg.precision == "fp16" and kind != "cuda"
    )
    return auto if lacking else choose_precision(cfg)
