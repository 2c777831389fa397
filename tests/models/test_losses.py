import numpy as np
import pytest
import torch

from oofline.config import CFG
from oofline.errors import ConfigError
from oofline.models.losses import balanced_weights, build_loss

S, B, K = 3, 7, 3
RNG = np.random.default_rng(0)
Y_CLASS = np.array([0, 0, 0, 0, 1, 1, 2])
Y_BINARY = np.array([0, 0, 0, 0, 0, 1, 1])
LOGITS = RNG.normal(size=(S, B, K)) * 2
VALUES = RNG.normal(size=(B, 2))


def run(cfg, task, logits, labels, y=None):
    loss = build_loss(cfg, task, labels if y is None else y)
    tensor = torch.tensor(logits, dtype=torch.float32, requires_grad=True)
    value = loss(tensor, torch.from_numpy(labels))
    value.backward()
    assert value.dtype == torch.float32
    assert tensor.grad.isfinite().all()
    return value.item()


def log_softmax(x):
    x = x - x.max(-1, keepdims=True)
    return x - np.log(np.exp(x).sum(-1, keepdims=True))


@pytest.mark.parametrize("smoothing", [0.0, 0.1])
@pytest.mark.parametrize("weights", ["none", "balanced"])
def test_cross_entropy(make_task, smoothing, weights):
    target = np.eye(K)[Y_CLASS] * (1 - smoothing) + smoothing / K
    rows = -(target * log_softmax(LOGITS)).sum(-1)  # (S, B)
    if weights == "balanced":
        rows = rows * (B / (K * np.array([4, 2, 1])))[Y_CLASS]
    cfg = CFG(label_smoothing=smoothing, class_weights=weights)
    value = run(cfg, make_task("multiclass"), LOGITS, Y_CLASS)
    assert value == pytest.approx(rows.mean(), rel=1e-5)


@pytest.mark.parametrize("smoothing", [0.0, 0.2])
@pytest.mark.parametrize("weights", ["none", "balanced"])
def test_bce(make_task, smoothing, weights):
    logits = LOGITS[..., :1]
    target = Y_BINARY * (1 - smoothing) + smoothing / 2
    p = 1 / (1 + np.exp(-logits[..., 0]))
    rows = -(target * np.log(p) + (1 - target) * np.log(1 - p))
    if weights == "balanced":
        rows = rows * (B / (2 * np.array([5, 2])))[Y_BINARY]
    cfg = CFG(label_smoothing=smoothing, class_weights=weights)
    value = run(cfg, make_task("binary"), logits, Y_BINARY)
    assert value == pytest.approx(rows.mean(), rel=1e-5)


@pytest.mark.parametrize("name", ["mse", "huber", "rmse"])
def test_regression_losses(make_task, name):
    logits = LOGITS[..., :2]
    error = logits - VALUES
    small = np.abs(error) <= 0.7
    expected = {
        "mse": (error**2).mean(),
        "huber": np.where(small, error**2 / 2, 0.7 * (np.abs(error) - 0.35)).mean(),
        "rmse": np.sqrt((error**2).mean(axis=1)).mean(),
    }[name]
    value = run(CFG(loss=name, huber_delta=0.7), make_task("regression"), logits, VALUES)
    assert value == pytest.approx(expected, rel=1e-5)


def test_losses_of_dropout_samples_are_averaged_not_their_logits(make_task):
    samples = run(CFG(), make_task("multiclass"), LOGITS, Y_CLASS)
    single = [run(CFG(), make_task("multiclass"), LOGITS[s : s + 1], Y_CLASS) for s in range(S)]
    of_mean = run(CFG(), make_task("multiclass"), LOGITS.mean(0, keepdims=True), Y_CLASS)
    assert samples == pytest.approx(np.mean(single), rel=1e-5)
    assert abs(samples - of_mean) > 0.05


@pytest.mark.parametrize("kind", ["multiclass", "binary", "regression"])
def test_micro_batches_weighted_by_rows_give_the_loss_of_the_batch(make_task, kind):
    y, logits = {
        "multiclass": (Y_CLASS, LOGITS),
        "binary": (Y_BINARY, LOGITS[..., :1]),
        "regression": (VALUES, LOGITS[..., :2]),
    }[kind]
    cfg = CFG(class_weights="none" if kind == "regression" else "balanced")
    whole = run(cfg, make_task(kind), logits, y)
    parts = [(0, 4), (4, 5), (5, 7)]
    sums = [(b - a) * run(cfg, make_task(kind), logits[:, a:b], y[a:b], y) for a, b in parts]
    assert sum(sums) / B == pytest.approx(whole, rel=1e-5)


def test_gradient_of_rmse_is_finite_at_a_perfect_prediction(make_task):
    assert run(CFG(loss="rmse"), make_task("regression"), VALUES[None], VALUES) < 1e-3


def test_confident_wrong_logits_do_not_overflow(make_task):
    for sign in (-1, 1):
        value = run(CFG(), make_task("binary"), np.full((1, B, 1), sign * 1e4), Y_BINARY)
        assert np.isfinite(value)


def test_half_precision_logits_are_reduced_in_float32(make_task):
    loss = build_loss(CFG(), make_task("multiclass"), Y_CLASS)
    logits = torch.tensor(LOGITS, dtype=torch.bfloat16)
    value = loss(logits, torch.from_numpy(Y_CLASS))
    assert value.dtype == torch.float32
    assert value.item() == loss(logits.float(), torch.from_numpy(Y_CLASS)).item()


def test_a_class_without_rows_gets_a_finite_weight(make_task):
    np.testing.assert_allclose(balanced_weights(np.array([0, 0, 1, 1]), 3), [2 / 3, 2 / 3, 4 / 3])
    cfg = CFG(class_weights="balanced")
    assert np.isfinite(run(cfg, make_task("multiclass"), LOGITS, Y_CLASS, np.array([0, 0, 1])))


@pytest.mark.parametrize(
    ("kind", "settings", "message"),
    [
        ("binary", {"loss": "cross_entropy"}, 'loss = "cross_entropy" .* binary .* use "bce"'),
        ("multiclass", {"loss": "bce"}, 'use "cross_entropy"'),
        ("multiclass", {"loss": "mse"}, 'use "cross_entropy"'),
        ("regression", {"loss": "bce"}, 'use "mse"'),
        ("regression", {"label_smoothing": 0.1}, "label_smoothing acts on classes"),
        ("regression", {"class_weights": "balanced"}, "class_weights acts on classes"),
    ],
)
def test_a_loss_that_does_not_fit_the_task_is_refused(make_task, kind, settings, message):
    with pytest.raises(ConfigError, match=message):
        build_loss(CFG(**settings), make_task(kind), Y_CLASS)
