"""AWP on the real model and step; its formula stands in test_attack.py."""

import copy

import numpy as np
import pytest
import torch
from torch import nn

from oofline.config import CFG
from oofline.crossval import train_units
from oofline.data.batches import collate
from oofline.errors import ConfigError
from oofline.results import Task
from oofline.storage import read_json
from oofline.techniques import Technique, build_techniques
from oofline.techniques.attack import standing_at
from oofline.techniques.awp import Awp
from oofline.techniques.delay import Delay
from oofline.training.optim import build_optimizer

FAMILIES = ["bert", "roberta", "deberta", "electra", "modernbert"]
ON = {"awp_last_epochs": 3, "dropout": 0.0}
OFF = {"dropout": 0.0}
TASK = Task("binary", ("y",), ("0", "1"), ("y",), "f1", "label")


def weights_of(model):
    return {n: (p.data_ptr(), p.detach().clone()) for n, p in model.named_parameters()}


def untouched(model, before):
    return all(
        p.data_ptr() == before[n][0] and torch.equal(p, before[n][1])
        for n, p in model.named_parameters()
    )


def reference(model, loss_function, data, rows, lr, eps):
    """Clean and adversarial gradient of a whole window, in one pass each."""
    model = copy.deepcopy(model)
    ids, mask, *_ = collate(data.tokens, rows, torch.device("cpu"))
    labels = data.labels[torch.from_numpy(rows)]
    trained = {n: p for n, p in model.named_parameters() if p.requires_grad}

    def gradient():
        loss = loss_function(model(ids, mask), labels)
        found = torch.autograd.grad(loss, list(trained.values()), allow_unused=True)
        return {n: g for n, g in zip(trained, found, strict=True) if g is not None}

    clean = gradient()
    with torch.no_grad():
        for name, g in clean.items():
            w = trained[name].clone()
            if w.ndim < 2 or "weight" not in name:
                continue
            length = float((w**2).sum().sqrt()) / max(1e-300, float((g**2).sum().sqrt()))
            moved = (w + lr * g * length).numpy()
            if eps:
                moved = np.clip(moved, (w - eps * w.abs()).numpy(), (w + eps * w.abs()).numpy())
            trained[name].copy_(torch.from_numpy(moved))
    return clean, gradient()


def assert_close(found, wanted, tolerance):
    assert found.keys() == wanted.keys()
    size = torch.cat([g.flatten() for g in wanted.values()]).norm()
    for name, g in found.items():
        assert (g - wanted[name]).norm() <= tolerance * (wanted[name].norm() + 0.01 * size), name


@pytest.mark.parametrize("mode", ["add", "replace"])
@pytest.mark.parametrize("index", [0, 1], ids=["full window", "short last window"])
@pytest.mark.parametrize("eps", [0.0, 0.02])
def test_the_window_gradient_is_that_of_the_formula(workshop, mode, index, eps):
    shop = workshop(**ON, accumulation=2, awp_lr=0.1, awp_eps=eps, awp_mode=mode)
    step = shop.step(index)
    assert len(step.parts) == [2, 1][index]  # batches of 10 rows: 4, 4, 2
    rows = np.concatenate(step.parts)
    clean, adversarial = reference(shop.model, shop.loss, shop.steps.data, rows, 0.1, eps)
    before = weights_of(shop.model)
    found = shop.gradients(step)
    add = mode == "add"
    wanted = {n: g + clean[n] if add else g for n, g in adversarial.items()}
    assert_close(found, wanted, 1e-3)
    assert untouched(shop.model, before)
    with pytest.raises(AssertionError):  # the attack does something that this check sees
        assert_close(found, {n: g * (2 if add else 1) for n, g in clean.items()}, 1e-3)


@pytest.mark.parametrize("family", FAMILIES)
def test_every_family_is_attacked_and_left_untouched(workshop, family):
    plain = workshop(**OFF, family=family)
    clean = plain.gradients(plain.step())
    shop = workshop(**ON, family=family, awp_lr=0.1, awp_eps=0.0)
    before = weights_of(shop.model)
    found = shop.gradients(shop.step())
    assert untouched(shop.model, before)
    assert found.keys() == clean.keys()
    assert all(not torch.equal(found[n], g) for n, g in clean.items() if g.norm() > 0)
    assert shop.techniques[0].figures()["awp/relative_perturbation"] == pytest.approx(0.1, rel=1e-3)
    assert shop.techniques[0].verdict(finished=True) is None


@pytest.mark.parametrize("family", FAMILIES)
def test_matrices_are_moved_and_nothing_else(workshop, family):
    shop = workshop(**ON, family=family)
    plain = workshop(**OFF, family=family)
    plain.gradients(plain.step())
    names = {id(p): n for n, p in plain.model.named_parameters()}
    targets = shop.techniques[0].targets(plain.model)
    chosen = {names[id(p)] for p in targets}
    assert len(chosen) == len(targets)
    norms = {
        f"{prefix}.{name}"
        for prefix, module in plain.model.named_modules()
        if "norm" in type(module).__name__.lower()
        for name, _ in module.named_parameters(recurse=False)
    }
    biases = {n for n in names.values() if n.endswith("bias")}
    rest = {n for n, p in plain.model.named_parameters() if p.grad is not None} - norms - biases
    assert not chosen & (norms | biases)
    assert chosen == {n for n in rest if "weight" in n}
    assert any("embeddings" in n for n in chosen)
    assert "output.weight" in chosen


def test_frozen_matrices_stay_out_and_all_frozen_is_an_error(workshop):
    shop = workshop(**ON)
    shop.model.backbone.requires_grad_(False)
    found = shop.gradients(shop.step())
    assert set(found) == {"output.weight", "output.bias"}
    shop.model.output.weight.requires_grad_(False)
    with pytest.raises(ConfigError, match=r"none is trained: set body_lr or head_lr"):
        shop.gradients(shop.step())


def test_nothing_to_move_shows_in_the_first_step_not_in_the_last_epoch(workshop):
    shop = workshop(dropout=0.0, awp_last_epochs=1)
    for parameter in shop.model.parameters():
        parameter.requires_grad_(parameter.ndim < 2)
    with pytest.raises(ConfigError, match="none is trained"):
        shop.gradients(shop.step())


def test_a_shared_matrix_is_moved_once():
    class Tied(nn.Module):
        def __init__(self):
            super().__init__()
            self.one, self.other = nn.Linear(3, 3), nn.Linear(3, 3)
            self.other.weight = self.one.weight

    model = Tied()
    model.other(model.one(torch.ones(1, 3))).sum().backward()
    awp = Awp(Delay("awp", 1, 1, None, True), 0.1, 0.0, replace=False)
    assert [id(p) for p in awp.targets(model)] == [id(model.one.weight)]


def test_clamping_is_that_of_w_plus_v_bit_for_bit():
    generator = torch.Generator().manual_seed(0)
    w, g = (torch.randn(50, 40, generator=generator) for _ in range(2))
    awp = Awp(Delay("awp", 1, 1, None, True), 0.1, 0.03, replace=False)
    v = g * (0.1 * w.norm() / g.norm())
    wanted = torch.clamp(w + v, w - 0.03 * w.abs(), w + 0.03 * w.abs())
    moves = [v.clone()]
    awp.limit(moves, [w])
    assert torch.equal(w + moves[0], wanted)
    assert not torch.equal(w + v, wanted)


# ---- number formats and checkpointing


@pytest.mark.parametrize("precision", ["bf16", "fp16"])
@pytest.mark.parametrize("mode", ["add", "replace"])
def test_autocast_gives_the_same_gradients_roughly(workshop, precision, mode):
    settings = {**ON, "accumulation": 2, "awp_lr": 0.1, "awp_mode": mode, "awp_eps": 0.0}
    exact = workshop(**settings)
    wanted = exact.gradients(exact.step())
    shop = workshop(**settings, precision=precision)
    before, step = weights_of(shop.model), shop.step()
    found = shop.gradients(step)
    scale = step.scaler.get_scale()
    assert scale == (65536 if precision == "fp16" else 1)
    assert_close({n: g / scale for n, g in found.items()}, wanted, 0.2)
    assert untouched(shop.model, before)


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_autocast_reads_the_perturbed_weights(workshop, precision):
    """A cast of the clean weights, kept from the pass before, would give the clean loss again."""
    shop = workshop(**ON, precision=precision, awp_lr=0.1, awp_eps=0.0)
    step = shop.step()
    with torch.no_grad():
        clean = [float(step.forward()[1]) for _ in step]
    shop.gradients(shop.step())
    assert shop.techniques[0].figures()["awp/loss"] > np.mean(clean) * 1.02


@pytest.mark.parametrize("family", ["bert", "deberta"])
def test_gradient_checkpointing_recomputes_at_the_perturbed_weights(workshop, family):
    settings = {**ON, "family": family, "awp_lr": 0.1, "awp_eps": 0.0}
    plain = workshop(**settings)
    wanted = plain.gradients(plain.step())
    shop = workshop(**settings, gradient_checkpointing=True)
    before = weights_of(shop.model)
    assert_close(shop.gradients(shop.step()), wanted, 1e-4)
    assert untouched(shop.model, before)

    class RestoredTooEarly(Technique):
        def after_backward(self, step):
            awp = shop_awp
            targets = awp.targets(step.model)
            gradients = [p.grad for p in targets]
            moved = awp._moved(targets, gradients, torch.stack([g.norm() for g in gradients]))
            for _ in step:
                with standing_at(targets, moved):
                    loss = step.forward()[1]
                step.backward(loss)

    shop_awp, shop.techniques = shop.techniques[0], [RestoredTooEarly()]
    with pytest.raises(AssertionError):
        assert_close(shop.gradients(shop.step()), wanted, 1e-4)


def test_the_fused_optimizer_steps_from_the_clean_weights(workshop):
    """One AdamW step by hand; the moments and the decay must know nothing of w + v."""
    shop = workshop(**ON, awp_lr=0.1, awp_eps=0.0, weight_decay=0.5, lr=0.01)
    optimizer = build_optimizer(shop.cfg, shop.model)
    assert optimizer.defaults["fused"]
    before = weights_of(shop.model)
    gradient = shop.gradients(shop.step())
    optimizer.step()
    for name, p in shop.model.named_parameters():
        if name in gradient:
            g, decay = gradient[name], 0.5 if p.ndim >= 2 else 0.0
            wanted = before[name][1] * (1 - 0.01 * decay) - 0.01 * g / (g.abs() + 1e-6)
            assert torch.allclose(p, wanted, atol=1e-6)
            assert p.data_ptr() == before[name][0]


def test_dropout_masks_are_drawn_anew(workshop):
    shop = workshop(awp_last_epochs=3, dropout=0.3, awp_lr=1e-30, awp_eps=0.0)
    plain = workshop(dropout=0.3)
    clean, found = (w.gradients(w.step()) for w in (plain, shop))
    one, two = (torch.cat([grads[n].flatten() for n in clean]) for grads in (clean, found))
    assert (two - 2 * one).norm() > 0.1 * one.norm()


# ---- settings and the whole loop


def test_settings_build_it_and_zero_strength_does_not():
    assert Awp.from_cfg(CFG(), TASK) is None
    awp = Awp.from_cfg(CFG(awp_last_epochs=2, awp_mode="replace"), TASK)
    assert (awp.lr, awp.eps, awp.replace) == (0.01, 0.01, True)
    assert Awp.from_cfg(CFG(awp_start_score=0.8), TASK).replace is False
    assert [t.name for t in build_techniques(CFG(awp_last_epochs=1), TASK)] == ["awp"]


def fold_scores(write_competition, load_settings, **settings):
    paths = write_competition("regression", n=66)
    cfg = load_settings(paths, **settings)
    train_units(cfg, paths, [0], [42])
    return read_json(paths.fold(cfg.exp, 42, 0) / "scores.json")


def test_a_fold_trains_with_it_in_its_last_epochs(write_competition, load_settings):
    scores = fold_scores(write_competition, load_settings, epochs=3, awp_last_epochs=2)
    figures = scores["techniques"]["awp"]
    assert figures["active"] == pytest.approx(2 / 3)
    assert 0 < figures["relative_perturbation"] < 0.011
    assert figures["loss"] > 0


def test_a_fold_starts_it_by_score(write_competition, load_settings):
    scores = fold_scores(write_competition, load_settings, epochs=3, awp_start_score=1e6)
    assert scores["techniques"]["awp"]["active"] == pytest.approx(2 / 3)  # any rmse is below 1e6


def test_a_fold_whose_score_never_gets_there_says_so(write_competition, load_settings):
    with pytest.raises(ConfigError, match=r"awp had no effect.*awp_start_score = 1e-09: raise it"):
        fold_scores(write_competition, load_settings, awp_start_score=1e-9)
