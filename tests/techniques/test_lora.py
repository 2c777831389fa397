"""LoRA among the techniques: alive, and everything that acts on weights acts on the adapters."""

import pytest
import torch

from oofline.config import CFG
from oofline.errors import ConfigError
from oofline.models.adapters import adapted_layers
from oofline.techniques.awp import Awp
from oofline.techniques.ema import Ema
from oofline.techniques.lora import Lora
from oofline.training.drift import Drift
from oofline.training.optim import build_optimizer, parameter_groups

ON = {"lora_r": 4, "lora_alpha": 8.0}
FAMILIES = ["bert", "llama", "qwen2", "gemma"]


def train(shop, steps):
    """AdamW steps as the loop takes them."""
    optimizer = build_optimizer(shop.cfg, shop.model)
    for index in range(steps):
        step = shop.step(index)
        shop.gradients(step)
        optimizer.step()
        for technique in shop.techniques:
            technique.after_update(step)
    return optimizer


def technique_of(shop, kind):
    return next(t for t in shop.techniques if isinstance(t, kind))


@pytest.mark.parametrize("family", FAMILIES)
def test_the_optimizer_holds_state_for_what_is_trained_alone(workshop, family):
    shop = workshop(family=family, **ON)
    optimizer = train(shop, 1)
    trained = sum(p.numel() for p in shop.model.parameters() if p.requires_grad)
    whole = sum(p.numel() for p in shop.model.parameters())
    moments = [v for s in optimizer.state.values() for k, v in s.items() if k != "step"]
    assert sum(m.numel() for m in moments) == 2 * trained < whole
    assert all(p.grad is None for p in shop.model.parameters() if not p.requires_grad)


def test_layer_wise_rates_and_decay_reach_the_adapters(workshop):
    shop = workshop(family="llama", layer_decay=0.5, head_lr=0.1, group_decays="layer.2=0.3", **ON)
    groups = {g["name"]: g for g in parameter_groups(shop.cfg, shop.model)}
    rates = {name: g["lr"] for name, g in groups.items() if not name.startswith("head")}
    assert rates == {"layer.1": 1e-3 / 4, "layer.2": 1e-3 / 2, "layer.3": 1e-3}
    assert groups["layer.2"]["weight_decay"] == 0.3
    assert groups["head"]["lr"] == 0.1
    shop = workshop(family="llama", group_lrs="embeddings=1e-4", **ON)
    with pytest.raises(ConfigError, match="group_lrs sets embeddings, which is frozen"):
        parameter_groups(shop.cfg, shop.model)


@pytest.mark.parametrize("family", FAMILIES)
def test_awp_moves_the_adapters_and_nothing_that_is_frozen(workshop, family):
    shop = workshop(family=family, awp_last_epochs=1, awp_eps=0.0, epochs=1, **ON)
    train(shop, 2)  # B is 0 before its first update, and has no length to be relative to
    seen = []
    awp = technique_of(shop, Awp)
    names = {id(p): name for name, p in shop.model.named_parameters()}
    clean = {name: p.detach().clone() for name, p in shop.model.named_parameters()}
    shop.model.register_forward_pre_hook(
        lambda *_: seen.append({n: p.detach().clone() for n, p in shop.model.named_parameters()})
    )
    shop.gradients(shop.step(2))
    attacked = seen[-1]
    moved = {name for name, value in attacked.items() if not torch.equal(value, clean[name])}
    assert moved == {names[id(p)] for p in awp.targets(shop.model)}
    assert {n for n in moved if ".lora_" not in n} == {"output.weight"}
    for name in moved:
        length = (attacked[name] - clean[name]).norm() / clean[name].norm()
        assert length == pytest.approx(shop.cfg.awp_lr, rel=1e-3), name
    assert awp.verdict(finished=True) is None


def test_ema_averages_what_is_trained_alone(workshop):
    shop = workshop(family="llama", ema_decay=0.9, **ON)
    train(shop, 3)
    ema = technique_of(shop, Ema)
    averaged = {k.removeprefix("average.") for k in ema.state() if k.startswith("average.")}
    assert averaged == {n for n, p in shop.model.named_parameters() if p.requires_grad}
    assert ema.verdict(finished=True) is None


def test_frozen_layers_keep_adapters_of_zero(workshop):
    shop = workshop(family="llama", freeze_layers=2, **ON)
    drift = Drift(shop.model)
    train(shop, 2)
    layers = shop.model.backbone.layers
    for index, layer in enumerate(layers):
        for adapted in adapted_layers(layer):
            assert bool(adapted.lora_B["default"].weight.any()) == (index == 2)
    far = drift.check()
    assert far["layer.1"] == far["layer.2"] == far["embeddings"] == 0 < far["layer.3"]


def test_r_drop_is_fed_by_lora_dropout_alone(workshop):
    shop = workshop("multiclass", "llama", rdrop_alpha=1.0, lora_dropout=0.3, dropout=0.0, **ON)
    train(shop, 2)
    for technique in shop.techniques:
        assert technique.verdict(finished=True) is None
    with pytest.raises(ConfigError, match="every dropout of this model is 0"):
        workshop("multiclass", "llama", rdrop_alpha=1.0, **ON)
    with pytest.raises(ConfigError, match="R-Drop compares two dropout masks"):
        CFG(rdrop_alpha=1.0, dropout=0.0, **ON)


@pytest.mark.parametrize("family", ["llama", "gpt2"])
def test_the_figure_is_the_size_of_the_additions(workshop, family):
    shop = workshop(family=family, **ON)
    train(shop, 2)
    lora = technique_of(shop, Lora)
    added, pretrained = [], []
    for layer in lora.layers:
        a, b = (m["default"].weight.double() for m in (layer.lora_A, layer.lora_B))
        added.append((2.0 * b @ a).flatten())
        pretrained.append(layer.base_layer.weight.double().flatten())
    wanted = torch.cat(added).norm() / torch.cat(pretrained).norm()
    assert float(lora._update()) == pytest.approx(wanted.item(), rel=1e-4)
    share = lora.tally.means()["trained_share"]
    assert 0 < share < 0.5


def test_additions_that_stay_zero_are_reported(workshop):
    shop = workshop(family="llama", lr=0.0, head_lr=1e-3, **ON)
    (lora,) = shop.techniques
    train(shop, 2)
    assert "still 0: raise lr" in lora.verdict(finished=True)
    assert lora.verdict(finished=False) is None


def test_off_by_default():
    assert Lora.from_cfg(CFG(), None) is None
