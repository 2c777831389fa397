"""Ridge and logistic regression on sparse columns."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from safetensors.numpy import load_file, save_file
from scipy import sparse
from sklearn.linear_model import LogisticRegression, Ridge

from oofline.baselines.problems import Problem, Sort, loss_of, predictions_of, row_weights
from oofline.config import CFG
from oofline.storage import replacing

PENALTIES = {
    "ridge": (0.1, 0.3, 1.0, 3.0, 10.0, 30.0, 100.0),
    "logistic": (0.03, 0.1, 0.3, 1.0, 3.0),
}
"""Strengths that are tried on inner rows: ridge's alpha, 1 / C of logistic regression."""
_NEVER = -30.0


@dataclass(frozen=True)
class Linear:
    """A fitted linear model of one problem.

    Attributes:
        kind: "ridge" or "logistic".
        sort: of the problem.
        coef: (V, n_logits) float32.
        intercept: (n_logits,) float32.
    """

    kind: str
    sort: Sort
    coef: np.ndarray
    intercept: np.ndarray

    def predict(self, x: sparse.csr_matrix) -> np.ndarray:
        """(r, width) float64: probabilities of classes, or values.

        Ridge fits 0/1 targets; a softmax (sigmoid) whose slope at equal probabilities is 1 turns
        its values into probabilities without changing their order.
        """
        raw = np.asarray(x @ self.coef, dtype=np.float64) + self.intercept
        if self.kind == "ridge" and self.sort != "value":
            raw = 4.0 * (raw - 0.5) if self.sort == "binary" else raw.shape[1] * raw
        return predictions_of(self.sort, raw)

    def importance(self, spread: np.ndarray) -> np.ndarray:
        """(V, n_logits) signed weights: coefficient x standard deviation of its column."""
        return self.coef * spread[:, None]

    def save(self, path: Path) -> None:
        """Write the weights as safetensors."""
        with replacing(path) as temporary:
            tensors = {"coef": self.coef, "intercept": self.intercept}
            save_file({k: np.ascontiguousarray(v) for k, v in tensors.items()}, temporary)


def load_linear(path: Path, kind: str, sort: Sort) -> Linear:
    """Read what `Linear.save` wrote."""
    tensors = load_file(path)
    return Linear(kind, sort, tensors["coef"], tensors["intercept"])


def fit_linear(cfg: CFG, problem: Problem, x: sparse.csr_matrix, penalty: float) -> Linear:
    """Fit one problem on all rows of ``x`` (n, V)."""
    weights = row_weights(problem, cfg.class_weights)
    fit = _ridge if cfg.kind == "ridge" else _logistic
    coef, intercept = fit(problem, x, weights, penalty)
    return Linear(cfg.kind, problem.sort, coef.astype(np.float32), intercept.astype(np.float32))


def _ridge(
    problem: Problem, x: sparse.csr_matrix, weights: np.ndarray, penalty: float
) -> tuple[np.ndarray, np.ndarray]:
    model = Ridge(alpha=penalty, solver="sparse_cg", tol=1e-4)
    model.fit(x.astype(np.float64), problem.onehot(), sample_weight=weights)
    return model.coef_.reshape(problem.n_logits, -1).T, np.atleast_1d(model.intercept_)


def _logistic(
    problem: Problem, x: sparse.csr_matrix, weights: np.ndarray, penalty: float
) -> tuple[np.ndarray, np.ndarray]:
    """A class that no row has gets a constant that makes it all but impossible."""
    found = np.unique(problem.y.astype(np.int64))
    coef, intercept = np.zeros((x.shape[1], problem.n_logits)), np.full(problem.n_logits, _NEVER)
    if len(found) == 1:
        if problem.n_logits > 1:
            intercept[found] = -_NEVER
        elif found[0] == 1:
            intercept[0] = -_NEVER
        return coef, intercept
    model = LogisticRegression(C=1.0 / penalty, max_iter=300, tol=1e-3)
    model.fit(x.astype(np.float64), problem.y.astype(np.int64), sample_weight=weights)
    if problem.sort == "binary":
        return model.coef_.T, model.intercept_
    if len(found) == 2:  # scikit-learn then has one row of weights, for the second class
        coef[:, found[1]], intercept[found] = model.coef_[0], [0.0, model.intercept_[0]]
        return coef, intercept
    coef[:, found], intercept[found] = model.coef_.T, model.intercept_
    return coef, intercept


def choose_penalty(
    cfg: CFG, problem: Problem, x: sparse.csr_matrix, inner: Problem, x_inner: sparse.csr_matrix
) -> float:
    """The penalty with the lowest loss on inner rows, fitted on the others.

    Args:
        cfg: gives kind; linear_penalty is taken as it is where it is set.
        problem: rows to fit on.
        x: (r, V) their columns.
        inner: rows to choose by.
        x_inner: (s, V) their columns.
    """
    if cfg.linear_penalty is not None:
        return cfg.linear_penalty
    tried = PENALTIES[cfg.kind]
    losses = [loss_of(inner, fit_linear(cfg, problem, x, p).predict(x_inner)) for p in tried]
    return tried[int(np.argmin(losses))]
