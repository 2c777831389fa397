"""Losses of several targets, several labels and scales, against plain float64 sums."""

import numpy as np
import pytest
import torch

from oofline.config import CFG
from oofline.errors import ConfigError
from oofline.models.links import linked
from oofline.models.losses import build_loss

S, B = 2, 6
RNG = np.random.default_rng(0)
LOGITS = RNG.normal(size=(S, B, 3)) * 2
VALUES = RNG.normal(size=(B, 2))
LABELS = np.array([[0, 1], [0, 0], [1, 0], [0, 0], [0, 1], [0, 0]])
STEPS = np.array([0, 1, 2, 3, 3, 1])


def run(cfg, task, logits, labels):
    loss = build_loss(cfg, task, labels)
    tensor = torch.tensor(logits, dtype=torch.float32, requires_grad=True)
    value = loss(tensor, torch.from_numpy(labels))
    value.backward()
    assert tensor.grad.isfinite().all()
    return value.item()


def sigmoid(x):
    return 1 / (1 + np.exp(-x))


def test_the_root_of_several_targets_is_mcrmse(make_task):
    logits = LOGITS[..., :2]
    expected = np.sqrt(((logits - VALUES) ** 2).mean(1)).mean()
    value = run(CFG(loss="rmse"), make_task("multi-target"), logits, VALUES)
    assert value == pytest.approx(expected, rel=1e-5)
    pooled = np.sqrt(((logits - VALUES) ** 2).mean((1, 2))).mean()  # the faulty form
    assert abs(pooled - expected) > 1e-3


@pytest.mark.parametrize("name", ["mse", "rmse", "huber"])
def test_weights_of_targets(make_task, name):
    logits, cfg = LOGITS[..., :2], CFG(loss=name, target_weights="b=3")
    task = make_task("multi-target")
    single = [run(CFG(loss=name), task.one(t), logits[..., [t]], VALUES[:, [t]]) for t in (0, 1)]
    expected = (1 * single[0] + 3 * single[1]) / 4
    assert run(cfg, task, logits, VALUES) == pytest.approx(expected, rel=1e-5)
    assert run(CFG(loss=name, target_weights="a=2, b=2"), task, logits, VALUES) == pytest.approx(
        run(CFG(loss=name), task, logits, VALUES)
    )


@pytest.mark.parametrize("name", ["mse", "rmse", "huber", "bce"])
def test_losses_by_target(make_task, name):
    logits = torch.tensor(LOGITS[..., :2])
    y = LABELS if name == "bce" else VALUES
    task = make_task("multilabel" if name == "bce" else "multi-target")
    cfg = CFG(loss=name, target_weights="" if name == "bce" else "b=3")
    loss, labels = build_loss(cfg, task, y), torch.from_numpy(y)
    parts = loss.by_target(logits, labels)
    assert parts.mean().item() == pytest.approx(loss(logits, labels).item())
    share = 1.0 if name == "bce" else 1.5  # weights are 1 and 3 over their mean
    alone = build_loss(CFG(loss=name), task.one(1), y[:, [1]])(logits[..., [1]], labels[:, [1]])
    assert parts[1].item() == pytest.approx(share * alone.item())


@pytest.mark.parametrize(
    ("text", "words"),
    [("c=1", "c is no target .they are a, b"), ("a=0, b=0", "all weights are 0"),
     ("a", "not a target and a number"), ("a=-1", "out of range")],
)  # fmt: skip
def test_weights_of_targets_refused(make_task, text, words):
    with pytest.raises(ConfigError, match=words):
        build_loss(CFG(target_weights=text), make_task("multi-target"), VALUES)


@pytest.mark.parametrize("smoothing", [0.0, 0.2])
@pytest.mark.parametrize("weights", ["none", "balanced"])
def test_several_labels(make_task, smoothing, weights):
    p = sigmoid(LOGITS[..., :2])
    target = LABELS * (1 - smoothing) + smoothing / 2
    cells = -(target * np.log(p) + (1 - target) * np.log(1 - p))
    if weights == "balanced":
        of_label = np.array([[B / (2 * 5), B / (2 * 1)], [B / (2 * 4), B / (2 * 2)]])
        cells = cells * of_label[[0, 1], LABELS]
    cfg = CFG(label_smoothing=smoothing, class_weights=weights)
    value = run(cfg, make_task("multilabel"), LOGITS[..., :2], LABELS)
    assert value == pytest.approx(cells.mean(), rel=1e-5)


def test_corn_sums_over_the_steps_that_apply_to_a_row(make_task):
    expected = 0.0
    for s in range(S):
        for row, step in enumerate(STEPS):
            for k in range(3):
                if step >= k:  # rows below k say nothing about going beyond it
                    p = sigmoid(LOGITS[s, row, k])
                    expected -= np.log(p) if step > k else np.log(1 - p)
    expected /= S * B * 3
    value = run(CFG(), make_task("ordinal-ordinal"), LOGITS, STEPS)
    assert value == pytest.approx(expected, rel=1e-5)


def test_corn_of_micro_batches_adds_up(make_task):
    task = make_task("ordinal-ordinal")
    whole = run(CFG(), task, LOGITS, STEPS)
    parts = [run(CFG(), task, LOGITS[:, rows], STEPS[rows]) for rows in (slice(4), slice(4, 6))]
    assert (4 * parts[0] + 2 * parts[1]) / 6 == pytest.approx(whole, rel=1e-5)


def test_corn_probabilities_never_rise_with_the_step():
    beyond = torch.tensor(LOGITS).sigmoid().cumprod(-1)
    assert (beyond[..., 1:] <= beyond[..., :-1]).all()
    position = linked("corn", torch.tensor(LOGITS)).numpy()
    p = np.concatenate([np.ones((S, B, 1)), beyond.numpy(), np.zeros((S, B, 1))], -1)
    shares = p[..., :-1] - p[..., 1:]  # P(y = k)
    np.testing.assert_allclose(position[:, 0], (shares * np.arange(4)).sum(-1).mean(0))


def test_the_expected_step_of_classes():
    p = np.exp(LOGITS) / np.exp(LOGITS).sum(-1, keepdims=True)
    found = linked("expected", torch.tensor(LOGITS)).numpy()
    np.testing.assert_allclose(found[:, 0], (p * np.arange(3)).sum(-1).mean(0))


@pytest.mark.parametrize(
    ("kind", "settings", "words"),
    [
        ("ordinal-ordinal", {"loss": "mse"}, 'ordinal = "ordinal".*use "corn"'),
        ("ordinal-regression", {"loss": "corn"}, 'use "mse"'),
        ("ordinal-ordinal", {"label_smoothing": 0.1}, "does not act on CORN"),
        ("ordinal-regression", {"class_weights": "balanced"}, "trained as regression"),
        ("multilabel", {"loss": "cross_entropy"}, 'multilabel task: use "bce"'),
        ("multi-target", {"label_smoothing": 0.1}, "set it to 0 for multi-target"),
    ],
)
def test_settings_that_do_not_fit(make_task, kind, settings, words):
    with pytest.raises(ConfigError, match=words):
        build_loss(CFG(**settings), make_task(kind), STEPS)
