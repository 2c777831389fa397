"""Multi-sample dropout: losses are averaged, one head, and samples that differ."""

import numpy as np
import pytest
import torch
from torch import nn

from oofline.config import CFG
from oofline.errors import ConfigError
from oofline.results import Task
from oofline.techniques.multi_sample import MultiSample

FAMILIES = ["bert", "roberta", "deberta", "electra", "modernbert"]
TASK = Task("multiclass", ("y",), ("a", "b"), ("a", "b"), "accuracy", "label")


def row_loss(logits, label, kind):
    """float64 loss of one row of logits."""
    if kind == "regression":
        return ((logits - label) ** 2).mean()
    if kind == "binary":
        return -(logits.sigmoid() if label else (-logits).sigmoid()).log().sum()
    return -logits.log_softmax(0)[label]


@pytest.mark.parametrize("kind", ["binary", "multiclass", "regression"])
def test_losses_are_averaged_and_not_logits(workshop, kind):
    shop = workshop(kind, dropout=0.0, dropout_samples=4, dropout_sample_p=0.5, n=4)
    with torch.no_grad():
        shop.model.output.weight.mul_(20)  # so that the samples are far apart
    step = shop.step()
    for _ in step:
        logits, loss = step.forward()
        assert logits.shape == (4, 4, 3 if kind == "multiclass" else 1)
        labels = shop.steps.data.labels[torch.from_numpy(step.parts[0])]
    exact = logits.detach().double()
    per_sample = [
        torch.stack([row_loss(row, y, kind) for row, y in zip(sample, labels, strict=True)]).mean()
        for sample in exact
    ]
    assert loss.item() == pytest.approx(torch.stack(per_sample).mean().item(), rel=1e-5)
    averaged = exact.mean(0)
    faulty = torch.stack([row_loss(row, y, kind) for row, y in zip(averaged, labels, strict=True)])
    assert faulty.mean().item() < 0.99 * loss.item()  # the loss is convex: Jensen


def test_gradient_is_the_mean_of_single_sample_gradients(workshop):
    shop = workshop(dropout=0.0, dropout_samples=3, dropout_sample_p=0.4, n=4)
    step, output = shop.step(), shop.model.output
    for _ in step:
        logits, loss = step.forward()
        weights = [output.weight, next(shop.model.backbone.parameters())]
        whole = torch.autograd.grad(loss, weights, retain_graph=True)
        singles = [
            torch.autograd.grad(step.loss_of(sample[None]), weights, retain_graph=True)
            for sample in logits
        ]
        faulty = torch.autograd.grad(step.loss_of(logits.mean(0, keepdim=True)), weights)
    for index, gradient in enumerate(whole):
        mean = torch.stack([single[index] for single in singles]).mean(0)
        torch.testing.assert_close(gradient, mean, rtol=1e-4, atol=1e-8)
        assert not torch.equal(singles[0][index], singles[1][index])
    assert not torch.allclose(whole[0], faulty[0], rtol=1e-3)


def test_one_shared_head(workshop):
    one = workshop(dropout_samples=1, dropout_sample_p=0.3)
    many = workshop(dropout_samples=5, dropout_sample_p=0.3)
    assert [m for m in many.model.children() if isinstance(m, nn.Linear)] == [many.model.output]
    shapes = [{n: p.shape for n, p in s.model.named_parameters()} for s in (one, many)]
    assert shapes[0] == shapes[1]


def test_p_of_0_is_refused_and_one_sample_is_off():
    with pytest.raises(ConfigError, match="dropout_sample_p = 0 draws the same mask"):
        CFG(dropout_samples=4, dropout_sample_p=0.0)
    assert MultiSample.from_cfg(CFG(), TASK) is None
    assert MultiSample.from_cfg(CFG(dropout_sample_p=0.5), TASK) is None


def test_tally_and_verdict(workshop):
    shop = workshop(dropout_samples=4, dropout_sample_p=0.5)
    (watcher,) = shop.techniques
    assert watcher.verdict(finished=False) is None
    assert "no training step" in watcher.verdict(finished=True)
    step = shop.step()
    for _ in step:
        logits, loss = step.forward()
        assert watcher.extra_loss(step, logits, loss) is None
    spread = logits.detach().double().numpy().std(0).mean()
    assert watcher.figures() == pytest.approx(
        {"multi_sample/sample_spread": spread, "multi_sample/loss": loss.item()}, rel=1e-5
    )
    assert spread > 1e-3
    assert watcher.verdict(finished=True) is None


def test_verdict_on_samples_that_are_the_same(workshop):
    shop = workshop(dropout_samples=4, dropout_sample_p=0.5)
    shop.model.dropout.p = 0.0  # what the settings cannot see
    shop.gradients(shop.step())
    assert "set dropout_sample_p" in shop.techniques[0].verdict(finished=False)
    shop = workshop(dropout_samples=4, dropout_sample_p=0.5)
    shop.model.samples = 1
    shop.gradients(shop.step())
    assert "set dropout_sample_p" in shop.techniques[0].verdict(finished=False)


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("settings", [
    {"precision": "bf16"}, {"gradient_checkpointing": True}, {"accumulation": 2},
], ids=str)  # fmt: skip
def test_every_family_gets_another_gradient_and_keeps_its_evaluation(workshop, family, settings):
    plain = workshop(family=family, dropout=0.0, dropout_sample_p=0.5, **settings)
    shop = workshop(family=family, dropout=0.0, dropout_sample_p=0.5, dropout_samples=4, **settings)
    gradients, without = shop.gradients(shop.step()), plain.gradients(plain.step())
    assert gradients.keys() == without.keys()
    assert not torch.allclose(gradients["output.weight"], without["output.weight"], rtol=1e-3)
    assert shop.techniques[0].verdict(finished=True) is None
    assert np.array_equal(shop.predict(), plain.predict())
