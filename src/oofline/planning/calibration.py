"""A minute of the real thing: steps, predictions, states and files of one fold, timed and counted.

Every step is a step of the experiment, at its batch sizes, its lengths and with its techniques. The
windows are chosen evenly over the windows of an epoch by their tokens, so that their mean is that
of the epoch. What is written goes to a temporary folder beside the token cache.
"""

import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch.utils.flop_counter import FlopCounterMode

from oofline.models.structure import layer_count
from oofline.models.text_model import save_model
from oofline.planning.calendar import Rates, Stretch
from oofline.planning.stepping import MOST, Stepper, evenly, wait_for
from oofline.results import prediction_frame
from oofline.scoring.summary import write_frame
from oofline.training.alive import evaluating
from oofline.training.fold_files import fold_interval
from oofline.training.material import Material
from oofline.training.predict import Predicted, predict
from oofline.training.probe import Probe
from oofline.training.pulse import peak_memory_mb
from oofline.training.state import Progress, save_state

SHARES = (0.6, 0.25)
"""Shares of the time for steps and for predictions."""


@dataclass(frozen=True)
class Calibration:
    """What a minute of a fold showed.

    Attributes:
        rates: seconds.
        tokens_per_s: real tokens trained in a second, for each stretch.
        samples_per_s: the same in rows.
        train_flops_per_token: operations of a step per real token, for each stretch.
        predict_flops_per_token: the same of predictions.
        passes: forward passes of a step, for each stretch.
        layers: of the backbone.
        fixed_gb: weights, gradients and optimizer, 10^9 bytes.
        half_gb: the weights in 16 bits.
        activation_gb: what the forward pass of the largest micro-batch keeps.
        memory_gb: peak of the process, or of the GPU.
        state_gb: a resumable state.
        model_gb: model and tokenizer of a finished fold.
        row_gb: (out-of-fold, test) predictions of a row.
        gradient_gb: gradients, which several GPUs of a fold would exchange.
        steps: optimizer steps that were timed.
        seconds: how long all of it took.
    """

    rates: Rates
    tokens_per_s: tuple[float, ...]
    samples_per_s: tuple[float, ...]
    train_flops_per_token: tuple[float, ...]
    predict_flops_per_token: float
    passes: tuple[float, ...]
    layers: int
    fixed_gb: float
    half_gb: float
    activation_gb: float
    memory_gb: float
    state_gb: float
    model_gb: float
    row_gb: tuple[float, float]
    gradient_gb: float
    steps: int
    seconds: float


class Calibrator:
    """Times one fold.

    Args:
        material: of the competition.
        probe: the fold before its first step.
        fold: which one it is.
        parts: its stretches.
        seconds: time for steps and predictions.
        clock: tells the time in seconds.
    """

    def __init__(
        self, material: Material, probe: Probe, fold: int, parts: list[Stretch], seconds: float,
        clock: Callable[[], float] = time.perf_counter,
    ) -> None:  # fmt: skip
        self.material, self.probe, self.fold, self.parts = material, probe, fold, parts
        self.seconds, self.clock = seconds, clock

    def run(self, build_s: float) -> Calibration:
        """Measure everything once.

        Args:
            build_s: seconds that building the probe took.
        """
        began = self.clock()
        stepper = Stepper(self.probe, self.clock)
        activation = stepper.activations()
        time_each = SHARES[0] * self.seconds / len(self.parts)
        stretches = [stepper.stretch(part, time_each) for part in self.parts]
        tokens_per_s, predict_flops, sample, rows = self._predictions()
        interval_s = self._interval(sample, rows)
        save_s, state_gb, write_s, model_gb, row_gb = self._files(sample, rows)
        parameters = list(self.probe.model.parameters())
        rates = Rates(
            tuple(s.seconds_per_token for s in stretches), tokens_per_s, build_s, interval_s,
            save_s, write_s, max(s.error for s in stretches),
        )  # fmt: skip
        return Calibration(
            rates,
            tuple(1 / s.seconds_per_token for s in stretches),
            tuple(float(s.rows.sum() / s.seconds.sum()) for s in stretches),
            tuple(s.flops_per_token for s in stretches), predict_flops,
            tuple(s.passes for s in stretches), layer_count(self.probe.model.backbone),
            _fixed_bytes(self.probe) / 1e9, 2e-9 * sum(p.numel() for p in parameters),
            activation / 1e9, peak_memory_mb(self.probe.precision.device) / 1e3,
            state_gb, model_gb, row_gb, _gradient_bytes(self.probe) / 1e9,
            sum(len(s.seconds) for s in stretches), self.clock() - began,
        )  # fmt: skip

    def _predict(self, rows: np.ndarray) -> Predicted:
        probe = self.probe
        orders = 2 if probe.cfg.pair_swap == "train+test" else 1
        with evaluating(probe.techniques, probe.model):
            found = predict(
                probe.model, probe.data.tokens, rows, probe.precision, probe.cfg.eval_batch_size,
                probe.labels, probe.loss_function, orders=orders,
            )  # fmt: skip
        wait_for(probe.precision.device)
        return found

    def _predictions(self) -> tuple[float, float, Predicted, np.ndarray]:
        """Real tokens a second, operations per token, and predictions of some validation rows."""
        valid, size = self.material.folds.valid_rows(self.fold), self.probe.cfg.eval_batch_size
        orders = 2 if self.probe.cfg.pair_swap == "train+test" else 1
        lengths = self.probe.data.tokens.lengths
        rows = valid[evenly(lengths[valid], size)]
        with FlopCounterMode(display=False) as counter:
            self._predict(rows)
        flops = counter.get_total_flops() / float(orders * lengths[rows].sum())
        before = self.clock()
        self._predict(rows)
        took = max(1e-9, self.clock() - before)
        batches = int(np.clip(SHARES[1] * self.seconds / took, 1, MOST))
        rows = valid[evenly(lengths[valid], size * batches)]
        before = self.clock()
        found = self._predict(rows)
        took = max(1e-9, self.clock() - before)
        return float(orders * lengths[rows].sum()) / took, flops, found, rows

    def _interval(self, sample: Predicted, rows: np.ndarray) -> float:
        """Seconds of the bootstrap interval, per validation row."""
        task, y = self.material.competition.task, self.material.competition.y
        before = self.clock()
        fold_interval(task, y[rows], sample.pred, self.probe.cfg.bootstrap_samples)
        return (self.clock() - before) / len(rows)

    def _files(
        self, sample: Predicted, rows: np.ndarray
    ) -> tuple[float, float, float, float, tuple[float, float]]:
        """Seconds and size of a state, of a finished model, and size of a row's predictions."""
        probe, paths = self.probe, self.material.paths
        task, ids = self.material.competition.task, self.material.competition.train_ids[rows]
        paths.cache.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=paths.cache, prefix="plan-") as name:
            folder = Path(name)
            before = self.clock()
            save_state(
                folder / "state.safetensors", Progress(), None, probe.model, probe.optimizer,
                probe.scaler, probe.techniques,
            )  # fmt: skip
            save_s, state_gb = self.clock() - before, _folder_gb(folder)
            before = self.clock()
            save_model(probe.model, self.material.tokenizer, folder / "model")
            model_gb = _folder_gb(folder / "model")
            sizes = []
            for prefixes in (("pred", "last", "best"), ("pred",)):
                blocks = dict.fromkeys(prefixes, sample.pred)
                frame = prediction_frame(task, ids, 0, self.fold, **blocks)
                path = folder / f"{len(prefixes)}.parquet"
                write_frame(path, [frame])
                sizes.append(path.stat().st_size / 1e9 / len(rows))
            write_s = self.clock() - before
        return save_s, state_gb, write_s, model_gb, (sizes[0], sizes[1])


def _folder_gb(folder: Path) -> float:
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file()) / 1e9


def _fixed_bytes(probe: Probe) -> int:
    """Weights, gradients of the trained ones, and the optimizer's tensors."""
    parameters = list(probe.model.parameters())
    weights = sum(p.numel() * p.element_size() for p in parameters)
    entries = probe.optimizer.state.values()
    states = sum(t.numel() * t.element_size() for e in entries for t in e.values()
                 if isinstance(t, torch.Tensor))  # fmt: skip
    return weights + _gradient_bytes(probe) + states


def _gradient_bytes(probe: Probe) -> int:
    parameters = probe.model.parameters()
    return sum(p.numel() * p.element_size() for p in parameters if p.requires_grad)
