"""R-Drop on the real step: its formula, and settings under which it would compare equal masks."""

import numpy as np
import pytest
import torch

from oofline.config import CFG
from oofline.errors import ConfigError
from oofline.models.dropout import set_dropout
from oofline.models.losses import Loss
from oofline.results import Task
from oofline.techniques.rdrop import RDrop

FAMILIES = ["bert", "roberta", "deberta", "electra", "modernbert"]
CLASSES = Task("multiclass", ("y",), ("a", "b"), ("a", "b"), "accuracy", "label")
REGRESSION = Task("regression", ("y",), (), ("y",), "rmse", "value")


def symmetric_kl(first, second, kind):
    """float64, one row of logits each."""
    if kind == "regression":
        return ((first - second) ** 2).mean()
    if kind == "binary":
        first, second = (torch.cat([t, torch.zeros_like(t)]) for t in (first, second))
    p, q = first.softmax(0), second.softmax(0)
    return 0.5 * (p * (p / q).log()).sum() + 0.5 * (q * (q / p).log()).sum()


def task_loss(row, label, kind):
    """float64, one row of logits."""
    if kind == "regression":
        return ((row - label) ** 2).mean()
    if kind == "binary":
        return -(row.sigmoid() if label else (-row).sigmoid()).log().sum()
    return -row.log_softmax(0)[label]


@pytest.mark.parametrize("kind", ["binary", "multiclass", "regression"])
def test_loss_is_half_of_both_task_losses_plus_alpha_times_divergence(workshop, kind):
    shop = workshop(kind, dropout=0.3, rdrop_alpha=0.7, accumulation=2)
    with torch.no_grad():
        shop.model.output.weight.mul_(20)  # so that the divergence weighs as much as the loss
    (rdrop,) = shop.techniques
    step, parts = shop.step(), []
    for _ in step:
        parts.append(shop.steps.data.labels[torch.from_numpy(step.parts[len(parts)])])
        logits, loss = step.forward()
        total = loss + rdrop.extra_loss(step, logits, loss)
        rows, n = logits[0].detach().double(), len(parts[-1])
        assert len(rows) == 2 * n
        tasks = [sum(task_loss(r, y, kind) for r, y in zip(half, parts[-1], strict=True)) / n
                 for half in (rows[:n], rows[n:])]  # fmt: skip
        distance = sum(symmetric_kl(rows[i], rows[n + i], kind) for i in range(n)) / n
        assert distance > 1e-3
        expected = 0.5 * (tasks[0] + tasks[1]) + 0.7 * distance
        assert total.item() == pytest.approx(expected.item(), rel=1e-5)
        without_half = tasks[0] + tasks[1] + 0.7 * distance
        assert total.item() != pytest.approx(without_half.item(), rel=1e-2)
    assert len(parts) == 2
    assert rdrop.tally.count("divergence") == 2
    assert rdrop.figures()["rdrop/added_loss"] == pytest.approx(
        0.7 * rdrop.tally.means()["divergence"], rel=1e-6
    )


@pytest.mark.parametrize("one_pass", [True, False])
def test_one_doubled_batch_and_two_passes_agree_in_the_mean_gradient(workshop, one_pass):
    shop = workshop("multiclass", dropout=0.1, rdrop_alpha=1.0, n=4)
    calls = []
    shop.model.register_forward_hook(lambda *_: calls.append(1))
    step = shop.step()
    step.one_pass = one_pass
    draws = [shop.gradients(step, seed)["output.weight"] for seed in range(60)]
    assert len(calls) == 60 * (1 if one_pass else 2)
    assert shop.techniques[0].tally.means()["divergence"] > 1e-6
    logits = []
    for _ in step:
        torch.manual_seed(0)
        logits = step.forward()[0]
    assert logits.shape == (1, 8, 3)
    assert not torch.equal(logits[:, :4], logits[:, 4:])
    mean = torch.stack(draws).mean(0)
    shop.model.eval()
    centre = shop.gradients(step)["output.weight"]
    assert (mean - centre).norm() < 0.2 * centre.norm()


def test_gradients_flow_through_both_passes(workshop):
    shop = workshop("multiclass", dropout=0.3, rdrop_alpha=5.0, n=4)
    (rdrop,), step = shop.techniques, shop.step()
    for _ in step:
        logits, loss = step.forward()
        (ours,) = torch.autograd.grad(rdrop.extra_loss(step, logits, loss), logits)
        first, second = logits.chunk(2, dim=1)
        with_one_side = torch.cat([first, second.detach()], dim=1)
        (faulty,) = torch.autograd.grad(rdrop.extra_loss(step, with_one_side, loss), logits)
    assert (ours.abs().amax(-1) > 0).all()
    assert (faulty[:, 4:] == 0).all()  # the detached pass learns nothing
    assert torch.allclose(ours[:, :4], faulty[:, :4])


@pytest.mark.parametrize(("task", "settings", "says"), [
    (REGRESSION, {}, "which values have by default: set dropout"),
    (REGRESSION, {"dropout": 0.0}, "set dropout"),
    (CLASSES, {"dropout": 0.0}, "set dropout"),
])  # fmt: skip
def test_without_any_dropout_it_is_refused(task, settings, says):
    with pytest.raises(ConfigError, match=says):
        RDrop.from_cfg(CFG(rdrop_alpha=1.0, **settings), task)


@pytest.mark.parametrize("settings", [
    {"dropout": 0.1}, {"mixout_p": 0.5}, {"dropout_sample_p": 0.1},
])  # fmt: skip
def test_any_source_of_noise_is_enough(settings):
    rdrop = RDrop.from_cfg(CFG(rdrop_alpha=1.0, **settings), REGRESSION)
    assert rdrop.copies == 2
    assert rdrop.one_pass == ("mixout_p" not in settings)  # one mixout mask per forward pass


def test_off_by_default():
    assert RDrop.from_cfg(CFG(), CLASSES) is None


def test_a_model_whose_own_dropout_is_0_is_refused(workshop):
    with pytest.raises(ConfigError, match="by its own config: set dropout"):
        workshop("multiclass", family="modernbert", rdrop_alpha=1.0)
    workshop("multiclass", family="modernbert", rdrop_alpha=1.0, dropout=0.1)
    workshop("multiclass", family="modernbert", rdrop_alpha=1.0, dropout_sample_p=0.1)


def test_verdict_on_passes_that_are_the_same(workshop):
    shop = workshop("multiclass", dropout=0.1, rdrop_alpha=1.0)
    (rdrop,) = shop.techniques
    assert rdrop.verdict(finished=False) is None
    assert "no training step" in rdrop.verdict(finished=True)
    shop.gradients(shop.step())
    assert rdrop.verdict(finished=False) is None
    assert rdrop.verdict(finished=True) is None

    shop = workshop("multiclass", dropout=0.1, rdrop_alpha=1.0)
    (rdrop,) = shop.techniques
    set_dropout(shop.model.backbone, 0.0)  # what the checks before training cannot see
    shop.gradients(shop.step())
    assert "set dropout (0.1)" in rdrop.verdict(finished=False)


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("settings", [
    {"precision": "bf16"}, {"gradient_checkpointing": True}, {"accumulation": 2},
], ids=str)  # fmt: skip
def test_every_family_gets_another_gradient_and_keeps_its_evaluation(workshop, family, settings):
    plain = workshop(family=family, dropout=0.1, **settings)
    shop = workshop(family=family, dropout=0.1, rdrop_alpha=100.0, **settings)
    weights = {name: value.clone() for name, value in shop.model.state_dict().items()}
    tokens = [shop.steps.data.tokens[row] for row in range(10)]
    labels = shop.steps.data.labels.clone()
    before = shop.predict()
    gradients, without = shop.gradients(shop.step()), plain.gradients(plain.step())
    assert gradients.keys() == without.keys()
    for name in ("output.weight", "backbone.embeddings"):
        key = next(n for n in gradients if n.startswith(name))
        assert gradients[key].isfinite().all()
        assert not torch.allclose(gradients[key], without[key], rtol=1e-3, atol=0)
    assert shop.techniques[0].verdict(finished=True) is None
    state = shop.model.state_dict()
    assert state.keys() == plain.model.state_dict().keys()
    assert all(torch.equal(value, weights[name]) for name, value in state.items())
    assert np.array_equal(before, shop.predict())
    assert np.array_equal(before, plain.predict())
    assert torch.equal(shop.steps.data.labels, labels)
    for row, ids in enumerate(tokens):
        assert (shop.steps.data.tokens[row] == ids).all()


def test_gradient_checkpointing_repeats_both_masks(workshop):
    gradients = []
    for checkpointing in (False, True):
        shop = workshop(dropout=0.2, rdrop_alpha=3.0, gradient_checkpointing=checkpointing)
        gradients.append(shop.gradients(shop.step()))
    for name, gradient in gradients[0].items():
        torch.testing.assert_close(gradient, gradients[1][name], rtol=1e-4, atol=1e-7)


def test_a_window_in_micro_batches_adds_up_like_its_rows(workshop):
    shop = workshop("multiclass", rdrop_alpha=2.0, dropout=0.1, n=6, accumulation=2)
    (rdrop,) = shop.techniques
    step, total, rows = shop.step(), 0.0, []
    torch.manual_seed(3)
    shares = []
    for _ in step:
        logits, loss = step.forward()
        total += (step.share * (loss + rdrop.extra_loss(step, logits, loss))).item()
        shares.append(len(step.parts[len(shares)]))
        rows.append((logits, shop.steps.data.labels[torch.from_numpy(step.parts[len(shares) - 1])]))
    assert sorted(shares) == [2, 4]  # a short last batch
    halves = [torch.cat([logits.chunk(2, dim=1)[i] for logits, _ in rows], dim=1) for i in (0, 1)]
    labels = torch.cat([y for _, y in rows])
    loss = Loss("cross_entropy")
    expected = (loss(halves[0], labels) + loss(halves[1], labels)) / 2
    expected = expected + 2.0 * sum(
        symmetric_kl(a.double(), b.double(), "multiclass")
        for a, b in zip(halves[0][0], halves[1][0], strict=True)
    ) / len(labels)
    assert total == pytest.approx(expected.item(), rel=1e-5)
