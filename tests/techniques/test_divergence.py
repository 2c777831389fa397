"""The divergence against float64 sums of plain KL terms, and the forms that fail silently."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from oofline.errors import ConfigError
from oofline.techniques.divergence import divergence

KINDS = ["sigmoid", "softmax", "corn", "identity"]


def logits(kind, scale=1.0, seed=0):
    generator = torch.Generator().manual_seed(seed)
    outputs = 1 if kind == "sigmoid" else 4
    return scale * torch.randn(2, 3, outputs, generator=generator)


def distributions(values, kind):
    """float64 log-probabilities (S, B, T, K): K classes, or yes and no for each label."""
    values = values.detach().double().numpy()
    if kind == "softmax":
        values = values[:, :, None, :]
    else:
        values = np.stack([values, np.zeros_like(values)], -1)
    return values - np.logaddexp.reduce(values, -1, keepdims=True)


def reference(first, second, kind):
    if kind == "identity":
        return float(((first.double() - second.double()) ** 2).mean())
    p, q = distributions(first, kind), distributions(second, kind)
    forward = (np.exp(p) * (p - q)).sum((-1, -2))
    backward = (np.exp(q) * (q - p)).sum((-1, -2))
    return float((0.5 * (forward + backward)).mean())


@pytest.mark.parametrize("scale", [0.05, 1.0, 8.0])
@pytest.mark.parametrize("kind", KINDS)
def test_equals_the_float64_sum_of_both_kl_terms(kind, scale):
    first, second = logits(kind, scale, 1), logits(kind, scale, 2)
    expected = reference(first, second, kind)
    assert expected > 1e-5
    assert float(divergence(first, second, kind)) == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize("kind", KINDS)
def test_symmetric_zero_for_equals_and_positive(kind):
    first, second = logits(kind, 1.0, 1), logits(kind, 1.0, 2)
    assert float(divergence(first, first.clone(), kind)) == 0
    assert divergence(first, second, kind) == divergence(second, first, kind) > 0


@pytest.mark.parametrize("kind", KINDS)
def test_float32_also_for_half_precision(kind):
    first, second = logits(kind, 1.0, 1).bfloat16(), logits(kind, 1.0, 2).half()
    result = divergence(first, second, kind)
    assert (result.dtype, result.shape) == (torch.float32, ())
    assert float(result) == pytest.approx(reference(first, second, kind), rel=1e-5)


@pytest.mark.parametrize("kind", KINDS)
def test_gradients_reach_both_sides_and_are_the_true_ones(kind):
    first = logits(kind, 1.0, 1).requires_grad_()
    second = logits(kind, 1.0, 2).requires_grad_()
    divergence(first, second, kind).backward()
    for index, tensor in enumerate((first, second)):
        assert tensor.grad.abs().max() > 0
        numeric = np.zeros(tensor.shape)
        for place in np.ndindex(*tensor.shape):
            sides = [[t.detach().double() for t in (first, second)] for _ in range(2)]
            sides[0][index][place] += 1e-5
            sides[1][index][place] -= 1e-5
            numeric[place] = (reference(*sides[0], kind) - reference(*sides[1], kind)) / 2e-5
        np.testing.assert_allclose(tensor.grad.numpy(), numeric, atol=1e-6)


@pytest.mark.parametrize(("first", "second"), [(50.0, -50.0), (50.0, 40.0), (-50.0, 50.0)])
@pytest.mark.parametrize("kind", ["sigmoid", "softmax", "corn"])
def test_log_of_softmax_with_eps_is_unstable_and_ours_is_not(kind, first, second):
    other = [0.0] if kind == "softmax" else []
    a = torch.tensor([[[first, *other]]], requires_grad=True)
    b = torch.tensor([[[second, *other]]], requires_grad=True)
    result = divergence(a, b, kind)
    result.backward()
    expected = reference(a, b, kind)
    assert result.item() == pytest.approx(expected, rel=1e-5, abs=1e-6)
    assert a.grad.isfinite().all()
    assert b.grad.isfinite().all()
    if expected > 1:
        p, q = (
            t.softmax(-1) if other else torch.cat([t.sigmoid(), 1 - t.sigmoid()]) for t in (a, b)
        )
        faulty = ((p - q) * ((p + 1e-8).log() - (q + 1e-8).log())).sum() / 2
        assert faulty.item() < 0.5 * expected  # log(eps) caps what should grow with the logits


def test_bare_logs_of_saturated_probabilities_are_not_finite():
    a, b = torch.tensor([[[200.0, 0.0]]]), torch.tensor([[[-200.0, 0.0]]])
    p, q = a.softmax(-1), b.softmax(-1)
    faulty = ((p - q) * (p.log() - q.log())).sum()
    assert not faulty.isfinite()
    assert float(divergence(a, b, "softmax")) == pytest.approx(200)


def test_softmax_kl_over_one_logit_is_always_zero_so_it_is_refused():
    first, second = logits("sigmoid", 3.0, 1), logits("sigmoid", 3.0, 2)
    faulty = F.kl_div(
        first.log_softmax(-1), second.log_softmax(-1), log_target=True, reduction="sum"
    )
    assert float(faulty) == 0  # whatever the model predicts
    for kind in ("sigmoid", "corn", "identity"):
        assert float(divergence(first, second, kind)) > 0.1
    with pytest.raises(ConfigError, match="one logit is always 0"):
        divergence(first, second, "softmax")


def test_classes_are_summed_and_rows_averaged():
    first, second = logits("softmax", 1.0, 1), logits("softmax", 1.0, 2)
    ours = float(divergence(first, second, "softmax"))
    p, q = first.log_softmax(-1), second.log_softmax(-1)
    both = F.kl_div(p, q, log_target=True, reduction="none") + F.kl_div(
        q, p, log_target=True, reduction="none"
    )
    assert float(both.sum(-1).mean() / 2) == pytest.approx(ours, rel=1e-5)
    faulty_mean = float(both.mean() / 2)  # also over the T classes
    faulty_batchmean = float(both.sum() / len(first) / 2)  # by S instead of by S * B
    assert faulty_mean == pytest.approx(ours / 4, rel=1e-5)
    assert faulty_batchmean == pytest.approx(ours * 3, rel=1e-5)
    repeated = divergence(first.repeat(1, 5, 1), second.repeat(1, 5, 1), "softmax")
    assert float(repeated) == pytest.approx(ours, rel=1e-5)


def test_labels_are_summed_and_regression_outputs_averaged():
    first, second = logits("corn", 1.0, 1), logits("corn", 1.0, 2)
    twice = [t.repeat(1, 1, 2) for t in (first, second)]
    for kind, factor in (("corn", 2), ("identity", 1)):
        once = float(divergence(first, second, kind))
        assert float(divergence(*twice, kind)) == pytest.approx(factor * once, rel=1e-5)
