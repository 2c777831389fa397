"""SiFT against a float64 model, and the forms of it that do nothing or something else."""

import copy
import json

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import nn
from torch.utils.flop_counter import FlopCounterMode
from transformers import AutoTokenizer

from oofline.config import CFG
from oofline.crossval import train_units
from oofline.data.batches import collate
from oofline.errors import ConfigError
from oofline.models.text_model import save_model
from oofline.results import Task
from oofline.techniques import sift as sift_module
from oofline.techniques.divergence import divergence
from oofline.techniques.sift import Sift, ascend, embedding_norm

FAMILIES = ["bert", "roberta", "deberta", "electra", "modernbert"]
SETTINGS = [{"precision": "bf16"}, {"gradient_checkpointing": True}, {"accumulation": 2}]
TASK = Task("multiclass", ("y",), ("a", "b"), ("a", "b"), "accuracy", "label")
LARGE = {"sift_lambda": 3.0, "sift_noise": 0.1, "sift_lr": 0.05}
"""Settings under which float32 shows the effect clearly."""


def extra(shop, seed=5):
    """Logits and added loss of the first micro-batch of the first step."""
    torch.manual_seed(seed)
    step = shop.step()
    for _ in step:
        logits, loss = step.forward()
        return step, logits, shop.techniques[-1].extra_loss(step, logits, loss)


def distance(first, second, kind):
    """Independent of the product form: sums of p log(p / q), in the precision of the logits."""
    if kind == "regression":
        return ((first - second) ** 2).mean()
    if kind == "binary":
        first, second = (torch.cat([t, torch.zeros_like(t)], -1) for t in (first, second))
    p, q = first.log_softmax(-1), second.log_softmax(-1)
    return (p.exp() * (p - q) + q.exp() * (q - p)).sum(-1).mean() / 2


class Reference:
    """The paper's text in float64, with embeddings that are normalised and then disturbed."""

    def __init__(self, shop, kind):
        self.model, self.cfg, self.kind = copy.deepcopy(shop.model).double(), shop.cfg, kind
        self.norm, self.delta = embedding_norm(self.model.backbone), None
        self.norm.register_forward_pre_hook(
            lambda _, x: F.layer_norm(x[0], x[0].shape[-1:], eps=1e-12) + self.delta
        )
        self.ids, self.mask, *_ = collate(
            shop.steps.data.tokens, shop.step().parts[0], torch.device("cpu")
        )

    def logits(self, delta):
        self.delta = delta
        states = self.model.backbone(self.ids, attention_mask=self.mask).last_hidden_state
        mask = torch.ones_like(self.ids) if self.mask is None else self.mask
        pooled = (states * mask[..., None]).sum(1) / mask.sum(1, keepdim=True)
        return F.linear(pooled, self.model.output.weight, self.model.output.bias)[None]

    def added(self, noise):
        """The added loss; ``noise`` is delta0 (B, L, H) float32."""
        delta = noise.double().requires_grad_()
        clean = self.logits(torch.zeros(()))
        before = distance(clean.detach(), self.logits(delta), self.kind)
        (g,) = torch.autograd.grad(before, delta)
        largest = g.abs().amax(-1, keepdim=True)
        step = torch.where(largest > 0, self.cfg.sift_lr * g / largest.clamp(min=1e-300), 0)
        self.sides = clean, self.logits((delta + step).detach())
        return self.cfg.sift_lambda * distance(*self.sides, self.kind)


def noise_of(shop, shape, seed=5):
    torch.manual_seed(seed)
    sigma = shop.cfg.sift_noise
    return (sigma * torch.randn(shape)).clamp(-2 * sigma, 2 * sigma)


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("kind", ["binary", "multiclass", "regression"])
def test_equals_the_paper_in_float64(workshop, kind, family):
    shop = workshop(kind, family, dropout=0.0, n=4, **LARGE)
    norm = embedding_norm(shop.model.backbone)
    norm.eps = norm.variance_epsilon = 1e-12  # or the reference would normalise less twice
    with torch.no_grad():
        shop.model.output.weight.mul_(20)
    reference = Reference(shop, kind)
    _, _, ours = extra(shop)
    wanted = reference.added(noise_of(shop, (*reference.ids.shape, norm.weight.numel())))
    assert wanted > 1e-3
    assert ours.item() == pytest.approx(wanted.item(), rel=2e-3)

    ours.backward()
    wanted.backward(retain_graph=True)
    exact = dict(reference.model.named_parameters())
    for name, parameter in shop.model.named_parameters():
        if exact[name].grad is None or exact[name].grad.norm() < 1e-6:
            continue
        difference = parameter.grad.double() - exact[name].grad
        assert difference.norm() < 1e-2 * exact[name].grad.norm(), name

    weight = reference.model.output.weight
    clean, disturbed = reference.sides
    one_sided = shop.cfg.sift_lambda * distance(clean, disturbed.detach(), kind)
    (faulty,) = torch.autograd.grad(one_sided, weight)
    assert (faulty - weight.grad).norm() > 0.1 * weight.grad.norm()


def test_ascend_moves_each_token_by_the_rate_in_the_inf_norm():
    delta, g = torch.randn(2, 3, 4), torch.randn(2, 3, 4)
    moved = ascend(delta, g * 2.0**16, 0.1)  # whatever the loss scale
    expected = delta.double() + 0.1 * g.double() / np.abs(g.double()).amax(-1, keepdim=True)
    torch.testing.assert_close(moved.double(), expected, rtol=1e-6, atol=1e-7)
    assert (moved - delta).abs().amax(-1) == pytest.approx(0.1, rel=1e-5)
    faulty = delta + 0.1 * g / g.abs().amax()  # one step length for all tokens together
    assert ((faulty - delta).abs().amax(-1) < 0.0999).sum() == 5


def test_a_token_without_a_usable_gradient_keeps_its_noise():
    delta, g = torch.randn(1, 4, 3), torch.randn(1, 4, 3)
    g[0, 0], g[0, 1, 1], g[0, 2, 0] = 0.0, float("inf"), float("nan")
    moved = ascend(delta, g, 0.1)
    assert torch.equal(moved[0, :3], delta[0, :3])
    assert not torch.equal(moved[0, 3], delta[0, 3])
    faulty = delta + 0.1 * g / g.abs().amax(-1, keepdim=True)
    assert not faulty[0, :3].isfinite().all()


def test_noise_is_normal_and_clamped(workshop):
    drawn = []
    torch.manual_seed(0)
    sift_module._draw(torch.zeros(50, 50, 40), 0.01, drawn)
    (delta,) = drawn
    assert delta.requires_grad
    assert delta.is_leaf
    assert delta.abs().max().item() == pytest.approx(0.02)
    assert delta.std().item() == pytest.approx(0.00959, rel=0.01)  # normal, tails at 2 sigma
    assert abs(delta.mean().item()) < 1e-4


def test_the_ascent_leaves_parameters_and_their_gradients_alone(workshop):
    shop = workshop(dropout=0.1, **LARGE)
    for number, parameter in enumerate(shop.model.parameters()):
        parameter.grad = torch.full_like(parameter, float(number))
    shop.model.backbone.get_input_embeddings().weight.requires_grad_(False)
    flags = [p.requires_grad for p in shop.model.parameters()]
    step, logits, added = extra(shop)

    def untouched():
        same = all((p.grad == i).all() for i, p in enumerate(shop.model.parameters()))
        return same and flags == [p.requires_grad for p in shop.model.parameters()]

    assert untouched()
    assert added.requires_grad

    for _ in step:  # an ascent by backward() writes into the accumulated gradients
        divergence(logits.detach(), step.forward()[0], "softmax").backward()
        break
    assert not untouched()
    for number, parameter in enumerate(shop.model.parameters()):
        parameter.grad = torch.full_like(parameter, float(number))
    assert untouched()
    for parameter in shop.model.parameters():  # an ascent that freezes, and thaws what was frozen
        parameter.requires_grad_(False)
        parameter.requires_grad_(True)
    assert not untouched()


def test_freezing_the_parameters_leaves_nothing_to_train(workshop):
    shop = workshop(dropout=0.0, **LARGE)
    for parameter in shop.model.parameters():  # not thawed again, as after an exception
        parameter.requires_grad_(False)
    _, logits, added = extra(shop)
    assert not logits.requires_grad
    assert not added.requires_grad  # which the loop's backward refuses: it cannot stay unseen


def test_the_ascent_computes_no_gradient_of_a_weight(workshop, monkeypatch):
    shop, work = workshop(dropout=0.0, n=4, **LARGE), {}
    grad = torch.autograd.grad

    def counted(outputs, inputs):
        with FlopCounterMode(display=False) as ours:
            result = grad(outputs, inputs, retain_graph=True)
        weights = [p for p in shop.model.parameters() if p.requires_grad]
        with FlopCounterMode(display=False) as whole:
            grad(outputs, [*inputs, *weights], retain_graph=True, allow_unused=True)
        work.update(ours=ours.get_total_flops(), whole=whole.get_total_flops())
        return result

    monkeypatch.setattr(torch.autograd, "grad", counted)
    extra(shop)
    assert 0 < work["ours"] < 0.6 * work["whole"]


@pytest.mark.parametrize("family", FAMILIES)
def test_with_a_delta_of_0_the_perturbed_forward_is_the_clean_one(workshop, family):
    shop = workshop(family=family, dropout=0.0, **LARGE)
    (sift,), step = shop.techniques, shop.step()
    for _ in step:
        clean = step.forward()[0]
        assert torch.equal(sift._perturbed(step, torch.zeros_like), clean)
        assert not torch.equal(sift._perturbed(step, lambda x: 0.1 + torch.rand_like(x)), clean)
        assert torch.equal(step.forward()[0], clean)


def test_relative_perturbation_does_not_depend_on_the_scale_of_the_embeddings(workshop):
    shares, figures, faulty = [], [], []
    for factor in (1.0, 10.0):
        shop = workshop(dropout=0.0, n=4, **LARGE)
        with torch.no_grad():
            for module in shop.model.backbone.embeddings.modules():
                if isinstance(module, nn.Embedding):
                    module.weight.mul_(factor)
        norm, outputs = shop.model.backbone.embeddings.LayerNorm, []
        norm.register_forward_hook(lambda *args, found=outputs: found.append(args[2].detach()))
        extra(shop)
        clean, _, disturbed = outputs
        shares.append(((disturbed - clean).norm() / clean.norm()).item())
        figures.append(shop.techniques[0].tally.means()["relative_perturbation"])
        noise = noise_of(shop, clean.shape)
        norm._forward_pre_hooks.clear()  # the faulty form: the same noise on the bare embeddings
        norm.register_forward_pre_hook(lambda _, x, noise=noise: x[0] + noise)
        extra(shop)
        faulty.append(((outputs[-1] - clean).norm() / clean.norm()).item())
    assert shares[0] == pytest.approx(shares[1], rel=1e-3)
    assert figures[0] == pytest.approx(figures[1], rel=1e-3)
    assert figures[0] == pytest.approx(shares[0], rel=0.05)
    assert 0.08 < figures[0] < 0.15
    assert faulty[0] > 3 * faulty[1]


def test_softmax_over_one_logit_would_never_disturb_anything(workshop):
    for kind in ("binary", "regression"):
        shop = workshop(kind, dropout=0.0, **LARGE)
        step, logits, added = extra(shop)
        assert added.item() > 1e-6
        for _ in step:
            other = shop.techniques[0]._perturbed(step, torch.rand_like)
            assert distance(logits, other, "multiclass") == 0  # the faulty form
            break


def test_a_token_of_zeros_has_a_finite_gradient(monkeypatch):
    """Padding can be all zeros, as DeBERTa's is: its deviation has an infinite slope there."""
    sift = Sift(1.0, 1e-4, 1e-2, "sigmoid")
    sift._delta_of = torch.ones_like

    def slope():
        x = torch.zeros(1, 2, 4, requires_grad=True)
        return torch.autograd.grad(sift._perturb(x).square().sum(), x)[0]

    assert slope().isfinite().all()
    monkeypatch.setattr(sift_module, "VARIANCE_EPS", 0.0)  # the faulty form
    assert not slope().isfinite().all()


def test_the_ascent_gains(workshop):
    shop = workshop(dropout=0.0, sift_lambda=1.0, sift_noise=0.01, sift_lr=0.05)
    shop.gradients(shop.step())
    means = shop.techniques[0].tally.means()
    assert 0.3 * means["divergence"] < means["ascent_gain"] < means["divergence"]
    assert means["added_loss"] == pytest.approx(means["divergence"])
    downhill = workshop(dropout=0.0, sift_lambda=1.0, sift_noise=0.05, sift_lr=0.01)
    downhill.techniques[0].rate *= -1  # the faulty form
    downhill.gradients(downhill.step())
    assert downhill.techniques[0].tally.means()["ascent_gain"] < 0


def test_a_hook_that_is_never_reached_is_reported(workshop):
    shop = workshop(dropout=0.1, **LARGE)
    (sift,) = shop.techniques
    assert sift.verdict(finished=False) is None
    assert "no training step" in sift.verdict(finished=True)
    shop.model.backbone.embeddings.LayerNorm = nn.LayerNorm(32)  # the hooked one no longer runs
    assert extra(shop)[2] is None
    assert "never runs" in sift.verdict(finished=False)


@pytest.mark.parametrize("family", ["llama", "qwen2", "gemma"])
@pytest.mark.parametrize("kind", ["binary", "regression"])
def test_without_a_norm_the_embeddings_themselves_are_disturbed(workshop, family, kind):
    """Decoders: e_n + delta, scaled back to where e stood, equals x + std(x) * delta."""
    shop = workshop(kind, family, dropout=0.0, n=4, **LARGE)
    words = shop.model.backbone.get_input_embeddings()
    seen = []
    words.register_forward_hook(lambda *args: seen.append(args[2].detach()))
    assert embedding_norm(shop.model.backbone) is None
    _, _, added = extra(shop)
    clean, noisy, moved = seen
    delta = noise_of(shop, clean.shape)
    mean, std = clean.mean(-1, keepdim=True), clean.std(-1, correction=0, keepdim=True)
    normalised = F.layer_norm(clean, clean.shape[-1:], eps=1e-12)
    torch.testing.assert_close(noisy, mean + std * (normalised + delta), rtol=1e-4, atol=1e-6)
    step = (moved - noisy) / std.clamp(min=1e-5)  # padding may be a vector of zeros
    assert step.abs().amax(-1).max() == pytest.approx(shop.cfg.sift_lr, rel=1e-2)
    assert added > 0


def test_norms_of_other_names_are_found(workshop):
    class SomeRMSNorm(nn.Module):
        pass

    shop = workshop()
    shop.model.backbone.embeddings.LayerNorm = norm = SomeRMSNorm()
    assert embedding_norm(shop.model.backbone) is norm


@pytest.mark.parametrize("family", ["mpnet", "distilbert", "albert", *FAMILIES])
def test_the_hooked_norm_is_the_one_the_embeddings_pass(workshop, family):
    shop = workshop(family=family, dropout=0.0, **LARGE)
    assert extra(shop)[2].item() > 0
    assert shop.techniques[0].verdict(finished=True) is None


def test_a_perturbation_without_effect_is_reported(workshop):
    shop = workshop(dropout=0.0, **LARGE)
    (sift,) = shop.techniques
    sift.noise = sift.rate = 0.0
    extra(shop)
    assert "never changed a prediction" in sift.verdict(finished=False)
    with pytest.raises(ConfigError, match="set sift_noise"):
        CFG(sift_lambda=1.0, sift_noise=0.0)


def test_off_by_default():
    assert Sift.from_cfg(CFG(), TASK) is None


def test_an_exception_inside_the_perturbed_forward_leaves_the_hook_off(workshop):
    shop = workshop(dropout=0.0, **LARGE)
    before, calls = shop.predict(), []

    def fail(*_):
        calls.append(1)
        if len(calls) == 2:
            raise torch.OutOfMemoryError

    handle = shop.model.output.register_forward_hook(fail)
    with pytest.raises(torch.OutOfMemoryError):
        extra(shop)
    handle.remove()
    assert np.array_equal(before, shop.predict())


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("settings", SETTINGS, ids=str)
def test_every_family_gets_another_gradient_and_keeps_its_evaluation(workshop, family, settings):
    plain = workshop(family=family, dropout=0.1, **settings)
    shop = workshop(family=family, dropout=0.1, **settings, **(LARGE | {"sift_lambda": 100.0}))
    weights = {name: value.clone() for name, value in shop.model.state_dict().items()}
    labels, before = shop.steps.data.labels.clone(), shop.predict()
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


def test_saved_files_are_those_of_a_model_without_it(workshop, tmp_path):
    tokenizer = None
    for name, settings in (("plain", {}), ("sift", LARGE)):
        shop = workshop(dropout=0.0, **settings)
        tokenizer = tokenizer or AutoTokenizer.from_pretrained(shop.cfg.model)
        save_model(shop.model, tokenizer, tmp_path / name)
        shop.model.backbone.save_pretrained(tmp_path / name / "backbone")
    for path in (tmp_path / "plain").rglob("*"):
        if path.is_file():
            other = tmp_path / "sift" / path.relative_to(tmp_path / "plain")
            assert path.read_bytes() == other.read_bytes()


def test_gradient_checkpointing_changes_nothing(workshop):
    gradients = []
    for checkpointing in (False, True):
        shop = workshop(dropout=0.2, gradient_checkpointing=checkpointing, **LARGE)
        gradients.append(shop.gradients(shop.step()))
    for name, gradient in gradients[0].items():
        torch.testing.assert_close(gradient, gradients[1][name], rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("one_pass", [True, False])
def test_together_with_rdrop_every_copy_is_disturbed(workshop, one_pass):
    shop = workshop(dropout=0.1, rdrop_alpha=1.0, n=4, **LARGE)
    step = shop.step()
    step.one_pass = one_pass
    seen = []
    embedding_norm(shop.model.backbone).register_forward_hook(lambda *args: seen.append(args[2]))
    gradients = shop.gradients(step)
    assert [len(e) for e in seen] == ([8] * 3 if one_pass else [4] * 6)
    halves = [seen[0][:4], seen[0][4:]] if one_pass else seen[:2]
    moved = [seen[2][:4], seen[2][4:]] if one_pass else seen[4:]
    changes = [b - a for a, b in zip(halves, moved, strict=True)]
    assert all(change.abs().amax((-1, -2)).min() > 0 for change in changes)
    assert not torch.equal(*changes)  # noise of its own for each copy
    assert all(g.isfinite().all() for g in gradients.values())
    assert [t.verdict(True) for t in shop.techniques] == [None, None]


def test_fp16_ascends_on_the_scaled_loss(workshop, monkeypatch):
    seen = []
    monkeypatch.setattr(
        sift_module, "ascend", lambda d, g, rate: seen.append(g) or ascend(d, g, rate)
    )
    scaled = workshop(dropout=0.0, precision="fp16", n=4, **LARGE)
    _, _, added = extra(scaled)
    plain = workshop(dropout=0.0, precision="fp32", n=4, **LARGE)
    assert added.item() == pytest.approx(extra(plain)[2].item(), rel=0.2)
    ratio = seen[0].norm() / seen[1].norm()
    assert ratio.item() == pytest.approx(2.0**16, rel=0.2)


def test_a_whole_fold_with_all_three(write_competition, load_settings):
    paths = write_competition("multiclass", n=66)
    cfg = load_settings(
        paths, exp="a", sift_lambda=1.0, rdrop_alpha=1.0, dropout=0.1, dropout_samples=2,
        dropout_sample_p=0.2, accumulation=2,
    )  # fmt: skip
    train_units(cfg, paths, [0], [42])
    scores = json.loads((paths.fold("a", 42, 0) / "scores.json").read_text())
    assert set(scores["techniques"]) == {"sift", "rdrop", "multi_sample"}
    assert scores["techniques"]["sift"]["divergence"] > 0
    assert scores["techniques"]["rdrop"]["divergence"] > 0
    assert scores["techniques"]["multi_sample"]["sample_spread"] > 0
