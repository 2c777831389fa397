"""LightGBM on sparse columns, with early stopping that never sees a validation row."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import lightgbm
import numpy as np
from lightgbm.basic import LightGBMError
from scipy import sparse

from oofline.baselines.problems import Problem, Sort, predictions_of, row_weights
from oofline.config import CFG
from oofline.errors import ConfigError
from oofline.storage import write_text

_OBJECTIVES = {
    "binary": "binary", "classes": "multiclass", "scale": "multiclass", "value": "regression",
}  # fmt: skip
_CHECK_EVERY = 10

Check = Callable[[], None]
"""Called every few rounds; raises `oofline.errors.Stopped` when it is time to leave."""


@dataclass(frozen=True)
class Boosted:
    """A fitted LightGBM model of one problem.

    Attributes:
        booster: LightGBM's own object.
        sort: of the problem.
    """

    booster: lightgbm.Booster
    sort: Sort

    def raw(self, x: sparse.csr_matrix, start: int = 0, count: int = -1) -> np.ndarray:
        """(r, n_logits) float64 sum of ``count`` trees from ``start`` on (-1 = all)."""
        values = self.booster.predict(x, raw_score=True, start_iteration=start, num_iteration=count)
        return np.asarray(values, dtype=np.float64).reshape(x.shape[0], -1)

    def link(self, raw: np.ndarray) -> np.ndarray:
        """(r, width) predictions of raw sums (r, n_logits)."""
        return predictions_of(self.sort, raw)

    def predict(self, x: sparse.csr_matrix) -> np.ndarray:
        """(r, width) float64: probabilities of classes, or values."""
        return self.link(self.raw(x))

    def importance(self) -> np.ndarray:
        """(V,) float64: total gain of the splits on each column."""
        return np.asarray(self.booster.feature_importance("gain"), dtype=np.float64)

    @property
    def rounds(self) -> int:
        """Number of boosting rounds."""
        return int(self.booster.current_iteration())

    def save(self, path: Path) -> None:
        """Write LightGBM's own text format."""
        write_text(path, self.booster.model_to_string(num_iteration=-1))


def load_boosted(path: Path, sort: Sort) -> Boosted:
    """Read what `Boosted.save` wrote."""
    return Boosted(lightgbm.Booster(model_str=path.read_text(encoding="utf-8")), sort)


def parameters(cfg: CFG, problem: Problem, seed: int) -> dict[str, Any]:
    """LightGBM's parameters for a problem.

    The number of threads is OpenMP's: all cores, or what OMP_NUM_THREADS says.
    """
    given: dict[str, Any] = {
        "objective": _OBJECTIVES[problem.sort], "learning_rate": cfg.lgbm_lr,
        "num_leaves": cfg.lgbm_leaves, "min_data_in_leaf": cfg.lgbm_min_rows,
        "feature_fraction": cfg.lgbm_features, "bagging_fraction": cfg.lgbm_rows,
        "bagging_freq": int(cfg.lgbm_rows < 1), "lambda_l2": cfg.lgbm_l2, "max_bin": 63,
        "seed": seed, "deterministic": True, "force_col_wise": True, "verbosity": -1,
    }  # fmt: skip
    if problem.n_logits > 1:
        given["num_class"] = problem.n_classes
    kind, _, number = cfg.device.partition(":")
    if kind == "cuda":
        given |= {"device_type": "cuda", "gpu_device_id": int(number or 0)}
        del given["force_col_wise"]
    return given


def choose_rounds(
    cfg: CFG, problem: Problem, x: sparse.csr_matrix, inner: Problem, x_inner: sparse.csr_matrix,
    seed: int, check: Check,
) -> int:  # fmt: skip
    """Rounds after which the loss on inner rows was lowest, boosting on the others.

    Args:
        cfg: gives lgbm_*; lgbm_patience = 0 takes lgbm_rounds as it is.
        problem: rows to boost on.
        x: (r, V) their columns.
        inner: rows to choose by.
        x_inner: (s, V) their columns.
        seed: of LightGBM.
        check: see `Check`.
    """
    if cfg.lgbm_patience == 0:
        return cfg.lgbm_rounds
    stopping = lightgbm.early_stopping(cfg.lgbm_patience, verbose=False)
    booster = _boost(
        cfg, problem, x, cfg.lgbm_rounds, seed, check, (inner, x_inner), [stopping]
    )  # fmt: skip
    return int(booster.best_iteration or booster.current_iteration())


def fit_boosted(
    cfg: CFG, problem: Problem, x: sparse.csr_matrix, rounds: int, seed: int, check: Check
) -> Boosted:
    """Boost a number of rounds on all rows of ``x`` (n, V)."""
    return Boosted(_boost(cfg, problem, x, rounds, seed, check), problem.sort)


def _boost(
    cfg: CFG, problem: Problem, x: sparse.csr_matrix, rounds: int, seed: int, check: Check,
    valid: tuple[Problem, sparse.csr_matrix] | None = None, callbacks: list[Any] | None = None,
) -> lightgbm.Booster:  # fmt: skip
    given = parameters(cfg, problem, seed)
    data = lightgbm.Dataset(x, problem.y, weight=row_weights(problem, cfg.class_weights))
    watched = []
    if valid is not None:
        inner, x_inner = valid
        watched = [lightgbm.Dataset(x_inner, inner.y, reference=data,
                                    weight=row_weights(inner, cfg.class_weights))]  # fmt: skip

    def between(environment: Any) -> None:
        """Leave in time."""
        if environment.iteration % _CHECK_EVERY == 0:
            check()

    try:
        return lightgbm.train(
            given, data, rounds, valid_sets=watched, callbacks=[between, *(callbacks or [])]
        )
    except LightGBMError as error:
        if "device_type" in given:
            raise ConfigError(
                f'device = "{cfg.device}": LightGBM cannot use it ({error}); the package of PyPI '
                'computes on the CPU: leave device at "auto"'
            ) from None
        raise
