"""One softmax over all windows of a row, and what losses and divergences make of it."""

import numpy as np
import pytest
import torch

from oofline.config import CFG
from oofline.data.passages import places
from oofline.errors import ConfigError
from oofline.models.links import linked
from oofline.models.losses import Loss, build_loss
from oofline.models.spans import NOWHERE, span_logits
from oofline.models.text_model import build_model
from oofline.results import Task
from oofline.techniques.divergence import divergence

QA = Task("qa", ("y",), (), ("start", "end"), "answer_f1", "answer", longest=9)
COUNTS = np.array([7, 2, 0])


@pytest.fixture
def rows():
    """Logits (2, 5, 8, 2) of five windows of three rows, and the places of their 7, 2, 0 tokens."""
    torch.manual_seed(0)
    where = places(COUNTS, np.array([2, 3, 2]), np.array([3, 1, 1]), np.array([4, 3, 4]), 2, 8)
    return torch.randn(2, 5, 8, 2, requires_grad=True), torch.from_numpy(where)


def reference(logits, where):
    """Probabilities (S, B, 2, G) in float64, token by token."""
    flat = logits.detach().double().flatten(1, 2).numpy()
    found = np.zeros((len(flat), *where.shape[:2], 2))
    for row in range(len(where)):
        for token in range(where.shape[1]):
            for place in where[row, token].tolist():
                if place >= 0:
                    found[:, row, token] += np.exp(flat[:, place])
    total = found.sum(2, keepdims=True)
    return np.swapaxes(found / np.maximum(total, 1e-300), -1, -2)


def test_windows_of_a_row_share_one_softmax(rows):
    logits, where = rows
    joint = span_logits(logits, where)
    assert joint.shape == (2, 3, 2, 7)
    wanted = reference(logits, where)
    probabilities = joint.softmax(-1).detach().numpy()
    np.testing.assert_allclose(probabilities[:, :2], wanted[:, :2], atol=1e-6)
    assert (probabilities[:, 1, :, 2:] == 0).all()
    np.testing.assert_allclose(linked("span", joint).detach(), probabilities.mean(0), atol=1e-7)


def test_only_tokens_of_contexts_have_gradients(rows):
    logits, where = rows
    span_logits(logits, where)[:, :2].softmax(-1)[..., 0].sum().backward()
    touched = logits.grad.abs().sum((0, 3)).flatten().nonzero().flatten().tolist()
    assert set(touched) == set(where[:2].flatten().tolist()) - {-1}


def test_the_loss_is_the_mean_of_start_and_end(rows):
    logits, where = rows
    joint = span_logits(logits, where)[:, :2]
    labels = torch.tensor([[1, 5], [0, 1]])
    found = Loss("cross_entropy")(joint, labels)
    wanted = reference(logits, where)
    cells = [-np.log(wanted[s, b, k, labels[b, k]])
             for s in range(2) for b in range(2) for k in range(2)]  # fmt: skip
    assert float(found.detach()) == pytest.approx(np.mean(cells), rel=1e-5)
    parts = [Loss("cross_entropy")(joint[:, [b]], labels[[b]]) for b in range(2)]
    assert float(found.detach()) == pytest.approx(float(sum(parts).detach()) / 2)


def test_divergence_over_positions_ignores_what_is_no_token(rows):
    logits, where = rows
    joint = span_logits(logits, where)[:, :2]
    first, second = joint[:1], joint[1:]
    found = divergence(first, second, "span")
    wanted, parts = reference(logits, where), []
    for row in range(2):
        for side in range(2):
            p, q = wanted[0, row, side, : COUNTS[row]], wanted[1, row, side, : COUNTS[row]]
            parts.append(0.5 * (np.sum(p * np.log(p / q)) + np.sum(q * np.log(q / p))))
    assert float(found.detach()) == pytest.approx(np.mean(parts), rel=1e-4)
    found.backward()
    assert torch.isfinite(logits.grad).all()
    assert logits.grad.abs().sum() > 0


def test_one_token_alone_diverges_from_nothing():
    """A context of one token is no mistake, as one class would be."""
    one = torch.full((1, 2, 2, 1), NOWHERE)
    assert float(divergence(one, one + 1, "span")) == 0


@pytest.mark.parametrize("family", ["bert", "modernbert"])
def test_the_model_reads_windows_alike(tiny_model, family):
    """A context in one window predicts as the same window would among others of its batch."""
    cfg = CFG(comp="c", model=str(tiny_model(family)), max_len=24, dropout=0.0)
    torch.manual_seed(0)
    model = build_model(cfg, QA, np.empty(0, object)).eval()
    ids = torch.randint(5, 40, (2, 10))
    where = torch.from_numpy(
        places(np.array([6, 5]), np.array([3, 3]), np.ones(2, int), np.array([6, 6]), 2, 10)
    )
    with torch.no_grad():
        both = model(ids, windows=torch.ones(2, dtype=torch.int64), places=where)
        alone = model(ids[:1], places=where[:1])
    torch.testing.assert_close(both[:, :1], alone, rtol=1e-4, atol=1e-5)
    assert both.shape == (1, 2, 2, 6)


@pytest.mark.parametrize("setting", [{"label_smoothing": 0.1}, {"class_weights": "balanced"}])
def test_settings_of_classes_are_refused(setting):
    with pytest.raises(ConfigError, match="acts on classes"):
        build_loss(CFG(comp="c", **setting), QA, np.empty(0, object))
