"""Weights in half the space, and what that does to the out-of-fold score, measured."""

from collections.abc import Iterable
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from oofline.blocks import Block, joined, largest_difference
from oofline.config import CFG
from oofline.data.competition import Competition
from oofline.data.tokens import cutting_of, tokenize
from oofline.errors import ConfigError, DataError
from oofline.kaggle.bundle import Unit
from oofline.models.backbone import load_tokenizer
from oofline.models.text_model import load_model
from oofline.models.weights import read_tensors, write_tensors
from oofline.progress import bar
from oofline.results import Task
from oofline.scoring.metrics import score
from oofline.scoring.oof import read_parquet
from oofline.sources import check_value
from oofline.storage import Paths, read_json, sha256_of
from oofline.training.precision import choose_precision
from oofline.training.predict import predict

KEPT = ("target_mean", "target_std")
"""Not rounded: two numbers of each target whose error would move every prediction."""


ORIGINAL = "sha256_of_original"
"""Metadata of rounded weights: SHA-256 of the file they were made from, which predict checks."""


@dataclass(frozen=True)
class Rounding:
    """What rounding the weights to fp16 changed, on rows that the folds did not train on.

    Attributes:
        score: with the weights as trained, computed on this machine.
        score_half: with rounded weights, on the same rows in the same precision.
        max_difference: largest absolute difference of a prediction.
        rows: rows predicted twice.
        precision: number format of the forward passes.
    """

    score: float
    score_half: float
    max_difference: float
    rows: int
    precision: str


def rounded(tensors: dict[str, Tensor], source: Path) -> dict[str, Tensor]:
    """Floating-point tensors as fp16, but for `KEPT`.

    Raises:
        ConfigError: a weight is beyond fp16's range.
    """
    half = {}
    for name, value in tensors.items():
        keep = name in KEPT or not value.is_floating_point()
        half[name] = value if keep else value.half()
        if not keep and value.isfinite().all() and not half[name].isfinite().all():
            raise ConfigError(
                f"{source}: {name} has values beyond 65504, fp16 cannot hold them: use "
                "--weights-dtype fp32"
            )
    return half


def write_half(source: Path, target: Path) -> None:
    """Write a fold's weights as fp16 (see `rounded`)."""
    tensors, meta = read_tensors(source)
    write_tensors(target, rounded(tensors, source), meta | {ORIGINAL: sha256_of(source)})


def experiment_settings(paths: Paths, exp: str) -> CFG:
    """The settings an experiment was trained with."""
    path = paths.experiment(exp) / "cfg.json"
    stored = {k: check_value(k, v, str(path)) for k, v in read_json(path).items()}
    return CFG(**(stored | {"comp": paths.comp}))


def measure_rounding(
    paths: Paths, competition: Competition, units: Iterable[Unit], device: str
) -> Rounding:
    """Predict every fold's validation rows with the weights as they are and rounded.

    Args:
        paths: of the competition.
        competition: its rows.
        units: finished folds.
        device: as `CFG.device`.

    Returns:
        Scores over all rows of all folds, and the largest difference. Baselines stay as they are.

    Raises:
        ConfigError: there is no transformer among the units.
    """
    task, name = competition.task, "fp32"
    full: list[tuple[np.ndarray, Block]] = []
    half: list[tuple[np.ndarray, Block]] = []
    truth: list[np.ndarray] = []
    units = [u for u in units if experiment_settings(paths, u.exp).kind == "transformer"]
    if not units:
        raise ConfigError("weights_dtype fp16 is for transformers: a baseline's files are small")
    index = {row_id: row for row, row_id in enumerate(competition.train_ids)}
    with bar("measure fp16 weights", len(units)) as progress:
        for unit in units:
            cfg = replace(experiment_settings(paths, unit.exp), device=device)
            ids = read_parquet(unit.folder / "oof.parquet")["id"]
            if not set(ids) <= set(index):
                raise DataError(f"{unit.folder / 'oof.parquet'} holds ids that are not in train")
            rows = np.array([index[row_id] for row_id in ids])
            first, second, name = _predict_twice(cfg, paths, task, competition, unit, rows)
            at = np.arange(len(rows)) + sum(map(len, truth))
            full, half = [*full, (at, first)], [*half, (at, second)]
            truth.append(competition.y[rows])
            progress.advance()
    a, b, y = joined(full), joined(half), np.concatenate(truth)
    largest = largest_difference(a, b)
    return Rounding(score(task, y, a), score(task, y, b), largest, len(y), name)


def _predict_twice(
    cfg: CFG, paths: Paths, task: Task, competition: Competition, unit: Unit, rows: np.ndarray
) -> tuple[Block, Block, str]:  # fmt: skip
    """Predictions (n, T) with the weights as they are and rounded, and the precision's name."""
    tokenizer = load_tokenizer(str(unit.folder))
    tokens = tokenize(paths, competition.train_rows, tokenizer, cutting_of(cfg), "train")
    precision = choose_precision(cfg)
    model = load_model(cfg, task, unit.folder).to(precision.device)
    size, orders = cfg.eval_batch_size, tokens.orders
    full = predict(model, tokens, rows, precision, size, orders=orders).pred
    with torch.no_grad():
        state = rounded(model.state_dict(), unit.folder)
        model.load_state_dict({name: value.float() for name, value in state.items()})
    half = predict(model, tokens, rows, precision, size, orders=orders).pred
    return full, half, precision.name
