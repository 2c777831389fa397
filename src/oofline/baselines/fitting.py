"""One fold of a baseline: choose on inner rows, fit on all training rows, predict."""

from dataclasses import dataclass

import numpy as np
import pandas as pd
from scipy import sparse

from oofline.baselines.boosting import Boosted, Check, choose_rounds, fit_boosted
from oofline.baselines.features import Features, fit_features
from oofline.baselines.inner import inner_split
from oofline.baselines.linear import Linear, choose_penalty, fit_linear
from oofline.baselines.problems import Problem, loss_of, problems_of
from oofline.baselines.rows import Source
from oofline.config import CFG
from oofline.data.folds import Folds
from oofline.errors import ConfigError
from oofline.results import Task

STAGES = 10
"""Points of the learning curve of a boosted model."""


@dataclass(frozen=True)
class Stage:
    """The model after some rounds (a linear model has one stage).

    Attributes:
        rounds: boosting rounds so far, 1 for a linear model.
        train_loss: on the training rows, mean over targets.
        valid_loss: on the validation rows, mean over targets.
        valid: (n_v, T) float64 predictions.
    """

    rounds: int
    train_loss: float
    valid_loss: float
    valid: np.ndarray


@dataclass(frozen=True)
class Baseline:
    """A fitted baseline.

    Attributes:
        features: its columns.
        models: one for each problem.
        choices: what inner rows chose for each: rounds or penalty.
    """

    features: Features
    models: tuple[Boosted | Linear, ...]
    choices: tuple[float, ...]

    def predict(self, x: sparse.csr_matrix) -> np.ndarray:
        """(r, T) float64 probabilities or values."""
        return np.hstack([model.predict(x) for model in self.models])


def refuse_targets(cfg: CFG, task: Task, y: np.ndarray) -> None:
    """Baselines predict classes and values; logistic regression and class weights are for classes.

    Raises:
        ConfigError: answers are to be found in a context, or a target is a value.
    """
    if task.truth == "answer":
        raise ConfigError(
            f'kind = "{cfg.kind}" finds no answers in a context ({task.kind}): use "transformer"'
        )
    if all(problem.sort != "value" for problem in problems_of(task, y)):
        return
    remedy = ', or ordinal = "classes"' if task.kind == "ordinal" else ""
    if cfg.kind == "logistic":
        raise ConfigError(
            f'kind = "logistic" is for classes and {task.kind} has values: use "ridge"{remedy}'
        )
    if cfg.class_weights != "none":
        raise ConfigError(f'class_weights acts on classes: set "none" for {task.kind}{remedy}')


def fit_baseline(
    cfg: CFG, task: Task, source: Source, y: np.ndarray, folds: Folds, fold: int, seed: int,
    check: Check,
) -> Baseline:  # fmt: skip
    """Fit on the training rows of a fold; its validation rows are not touched.

    Args:
        cfg: settings.
        task: what is predicted.
        source: columns of all rows.
        y: (n,) or (n, T) targets.
        folds: which row validates where.
        fold: fold index.
        seed: of the inner split, the SVD and LightGBM.
        check: called now and then; may raise `oofline.errors.Stopped`.
    """
    rows = folds.train_rows(fold)
    problems = problems_of(task, y)
    choices = _choose(cfg, source, problems, folds, rows, seed, check)
    features = fit_features(cfg, source, rows, seed)
    x = features.transform(source, rows)
    models: list[Boosted | Linear] = []
    for problem, choice in zip(problems, choices, strict=True):
        check()
        known = problem.at(rows)
        if cfg.kind == "lightgbm":
            models.append(fit_boosted(cfg, known, x, int(choice), seed, check))
        else:
            models.append(fit_linear(cfg, known, x, choice))
    return Baseline(features, tuple(models), tuple(choices))


def _choose(
    cfg: CFG, source: Source, problems: list[Problem], folds: Folds, rows: np.ndarray, seed: int,
    check: Check,
) -> list[float]:  # fmt: skip
    """Rounds or penalty of each problem, chosen on inner rows with columns fitted on the others."""
    if cfg.kind == "lightgbm" and cfg.lgbm_patience == 0:
        return [cfg.lgbm_rounds] * len(problems)
    if cfg.kind != "lightgbm" and cfg.linear_penalty is not None:
        return [cfg.linear_penalty] * len(problems)
    fit, inner = inner_split(folds, rows, cfg.inner_share, seed)
    features = fit_features(cfg, source, fit, seed)
    x, x_inner = features.transform(source, fit), features.transform(source, inner)
    choices: list[float] = []
    for problem in problems:
        check()
        sides = problem.at(fit), x, problem.at(inner), x_inner
        choices.append(
            choose_rounds(cfg, *sides, seed, check)
            if cfg.kind == "lightgbm"
            else choose_penalty(cfg, *sides)
        )
    return choices


def stages(
    baseline: Baseline, problems: list[Problem], source: Source, rows: np.ndarray, valid: np.ndarray
) -> list[Stage]:
    """Losses and predictions after every tenth of the rounds; only looked at, never chosen by.

    Args:
        baseline: fitted.
        problems: of all rows.
        source: columns of all rows.
        rows: training rows.
        valid: validation rows.
    """
    sides = [(r, baseline.features.transform(source, r)) for r in (rows, valid)]
    rounds = max(m.rounds if isinstance(m, Boosted) else 1 for m in baseline.models)
    marks = sorted({round(rounds * (i + 1) / STAGES) for i in range(STAGES)} - {0})
    curves = [[_curve(m, x, marks) for m in baseline.models] for _, x in sides]
    result = []
    for stage, mark in enumerate(marks):
        losses, preds = [], []
        for (at, _), curve in zip(sides, curves, strict=True):
            pred = [points[stage] for points in curve]
            losses.append(
                float(np.mean([loss_of(p.at(at), v) for p, v in zip(problems, pred, strict=True)]))
            )
            preds.append(np.hstack(pred))
        result.append(Stage(mark, losses[0], losses[1], preds[1]))
    return result


def _curve(model: Boosted | Linear, x: sparse.csr_matrix, marks: list[int]) -> list[np.ndarray]:
    """Predictions after each mark; trees are summed up once."""
    if isinstance(model, Linear):
        return [model.predict(x)] * len(marks)
    raw, done, points = np.zeros(1), 0, []
    for mark in marks:
        upto = min(mark, model.rounds)
        if upto > done:
            raw, done = raw + model.raw(x, done, upto - done), upto
        points.append(model.link(raw))
    return points


def importance_frame(
    baseline: Baseline, task: Task, source: Source, rows: np.ndarray
) -> pd.DataFrame:
    """How much each column counts: ``sort, name, importance`` and, for linear models, ``towards``.

    Importance sums to 1: gain of the splits, or |coefficient| x standard deviation of the column in
    the training rows. ``towards`` is the output that the column speaks for most, with + or - for a
    single output. Columns that count nothing are left out.
    """
    frame = pd.DataFrame(list(baseline.features.names), columns=["sort", "name"])
    linear = [model for model in baseline.models if isinstance(model, Linear)]
    frame["towards"] = ""
    if linear:
        x = baseline.features.transform(source, rows)
        mean = np.asarray(x.mean(axis=0)).ravel()
        square = np.asarray(x.multiply(x).mean(axis=0)).ravel()
        spread = np.sqrt(np.maximum(square - mean**2, 0.0))
        signed = np.hstack([model.importance(spread) for model in linear])
        size = np.abs(signed).mean(axis=1)
        frame["towards"] = _towards(task, signed)
    else:
        size = sum(m.importance() for m in baseline.models if isinstance(m, Boosted))
    frame["importance"] = size / max(1e-300, float(np.sum(size)))
    kept = frame[frame["importance"] > 0].sort_values("importance", ascending=False, kind="stable")
    return kept.reset_index(drop=True)


def _towards(task: Task, signed: np.ndarray) -> list[str]:
    if signed.shape[1] == 1:
        return ["+" if value > 0 else "-" for value in signed[:, 0]]
    names = task.outputs if signed.shape[1] == len(task.outputs) else task.labels
    return [names[index] for index in signed.argmax(axis=1)]
