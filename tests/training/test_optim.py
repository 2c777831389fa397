import math
import re

import pytest
import torch

from oofline.config import CFG
from oofline.errors import ConfigError
from oofline.models.structure import embeddings_module, encoder_layers
from oofline.training.optim import build_optimizer, layer_rate, parameter_groups, rates, set_rates
from oofline.training.plan import Plan, rate_factor

FAMILIES = ["bert", "roberta", "deberta", "electra", "modernbert"]


@pytest.mark.parametrize("family", FAMILIES)
def test_every_trainable_parameter_stands_in_exactly_one_group(parts, family):
    p = parts(family=family, pooling="attention", layer_decay=0.8)
    groups = parameter_groups(p.cfg, p.model)
    placed = [id(q) for g in groups for q in g["params"]]
    assert sorted(placed) == sorted(id(q) for q in p.model.parameters() if q.requires_grad)
    assert len(set(placed)) == len(placed)
    assert len({g["name"] for g in groups}) == len(groups)


@pytest.mark.parametrize("family", FAMILIES)
def test_layer_wise_rates_follow_the_closed_form(parts, family):
    p = parts(family=family, layer_decay=0.5, head_lr=0.01)
    peak = {
        g["name"].removesuffix(".no_decay"): g["peak_lr"] for g in parameter_groups(p.cfg, p.model)
    }
    wanted = {f"layer.{i}": 1e-3 * 0.5 ** (3 - i) for i in (1, 2, 3)}
    assert peak == pytest.approx(wanted | {"embeddings": 1e-3 * 0.125, "head": 0.01})
    assert layer_rate(p.cfg, 3, 3) == 1e-3


def test_biases_and_norms_do_not_decay(parts):
    p = parts()
    names = {id(q): name for name, q in p.model.named_parameters()}
    for group in parameter_groups(p.cfg, p.model):
        for q in group["params"]:
            name = names[id(q)]
            free = name.endswith("bias") or "norm" in name.lower()
            assert group["weight_decay"] == (0.0 if free else 0.01), name


def test_body_lr_zero_leaves_the_backbone_bit_identical(parts):
    p = parts(body_lr=0.0)
    before = {k: v.clone() for k, v in p.model.state_dict().items()}
    optimizer = build_optimizer(p.cfg, p.model)
    for index in range(3):
        p.gradient(p.steps.make(index, 4))
        optimizer.step()
    after = p.model.state_dict()
    changed = {k for k in before if not torch.equal(before[k], after[k])}
    assert changed == {"output.weight", "output.bias"}


def test_no_rate_at_all_is_refused(parts):
    p = parts(body_lr=0.0, head_lr=0.0)
    with pytest.raises(ConfigError, match="every learning rate is 0"):
        parameter_groups(p.cfg, p.model)


def test_schedule_reaches_every_group_under_its_own_name(parts):
    p = parts(layer_decay=0.5)
    plan = Plan(10, 10, 0, frozenset({10}))
    optimizer = build_optimizer(p.cfg, p.model)
    set_rates(optimizer, p.cfg, plan, 4)
    shown = rates(optimizer)
    assert len(shown) == len(optimizer.param_groups)
    assert shown["lr/layer.2"] == pytest.approx(5e-4 * rate_factor(p.cfg, plan, 4))


def test_adamw_corrects_its_bias(parts):
    """The first step of AdamW with bias correction moves by lr, whatever the gradient's size."""
    p = parts(weight_decay=0.0)
    optimizer = build_optimizer(p.cfg, p.model)
    weight = p.model.output.bias
    before = weight.detach().clone()
    p.gradient(p.steps.make(0, 4))
    optimizer.step()
    assert (weight - before).abs().item() == pytest.approx(1e-3, rel=1e-2)


def closed_form(model, lr=1e-3, decay=0.5, head_lr=0.01):
    """Rate of every parameter by the modules that hold it, not by any name."""
    wanted = dict.fromkeys(model.head_parameters().values(), head_lr)
    layers = encoder_layers(model.backbone)
    wanted |= dict.fromkeys(embeddings_module(model.backbone).parameters(), lr * decay**3)
    for number, layer in enumerate(layers, start=1):
        wanted |= dict.fromkeys(layer.parameters(), lr * decay ** (3 - number))
    return wanted


def wrong_rates(model, given):
    """Parameters whose rate is not the closed form's."""
    return [p for p, rate in closed_form(model).items() if not math.isclose(given[p], rate)]


def by_name_of_bert(model, lr=1e-3, decay=0.5, head_lr=0.01):
    """The faulty form: layers by the names they have in BERT, everything else is the head."""
    rates_of, prefix = {}, model.backbone.base_model_prefix
    for name, p in model.named_parameters():
        name = name.replace("backbone.", f"{prefix}.")
        layer = re.match(r"bert\.encoder\.layer\.(\d+)\.", name)
        depth = int(layer[1]) + 1 if layer else 0 if name.startswith("bert.embeddings") else None
        rates_of[p] = head_lr if depth is None else lr * decay ** (3 - depth)
    return rates_of


@pytest.mark.parametrize("family", FAMILIES)
def test_layers_are_found_by_structure_where_bert_names_miss_them(parts, family):
    p = parts(family=family, layer_decay=0.5, head_lr=0.01)
    groups = parameter_groups(p.cfg, p.model)
    ours = {q: group["peak_lr"] for group in groups for q in group["params"]}
    assert wrong_rates(p.model, ours) == []
    missed = wrong_rates(p.model, by_name_of_bert(p.model))
    assert len(missed) == 0 if family == "bert" else len(missed) > 15


def step_with(p, optimizer, decouple=0.0):
    """One optimizer step, with decay of its own where asked for; names of the body that moved."""
    before = {k: v.clone() for k, v in p.model.backbone.state_dict().items()}
    p.gradient(p.steps.make(0, 4))
    optimizer.step()
    with torch.no_grad():
        for group in optimizer.param_groups:
            for q in group["params"]:
                q.mul_(1.0 - decouple)
    return [k for k, v in p.model.backbone.state_dict().items() if not torch.equal(v, before[k])]


def test_body_lr_zero_holds_where_a_decay_apart_from_the_rate_moves_the_weights(parts):
    """Decoupled decay as Loshchilov and Hutter write it is not multiplied by the learning rate."""
    p = parts(body_lr=0.0, weight_decay=0.1)
    assert step_with(p, build_optimizer(p.cfg, p.model), decouple=1e-4) == []
    faulty = parts(weight_decay=0.1)
    optimizer = build_optimizer(faulty.cfg, faulty.model)
    for group in optimizer.param_groups:
        group["lr"] = 0.0  # the body stays in the optimizer
    assert len(step_with(faulty, optimizer, decouple=1e-4)) > 20


def test_body_lr_zero_holds_where_a_schedule_writes_one_rate_into_all_groups(parts):
    plan = Plan(10, 10, 0, frozenset({10}))
    p = parts(body_lr=0.0, weight_decay=0.1)
    optimizer = build_optimizer(p.cfg, p.model)
    set_rates(optimizer, p.cfg, plan, 0)
    assert step_with(p, optimizer) == []
    faulty = parts(weight_decay=0.1)
    optimizer = torch.optim.AdamW(
        [{"params": faulty.model.backbone.parameters(), "lr": 0.0},
         {"params": faulty.model.output.parameters()}], lr=1e-3, weight_decay=0.1,
    )  # fmt: skip
    for group in optimizer.param_groups:
        group["lr"] = 1e-3 * rate_factor(faulty.cfg, plan, 0)
    assert len(step_with(faulty, optimizer)) > 30


def test_a_logger_of_the_first_group_hides_the_others(parts):
    p = parts(layer_decay=0.5, head_lr=0.01)
    optimizer = build_optimizer(p.cfg, p.model)

    def hidden(shown):
        return {g["lr"] for g in optimizer.param_groups} - set(shown.values())

    assert hidden(rates(optimizer)) == set()
    assert {"lr/embeddings", "lr/layer.1", "lr/layer.3.no_decay", "lr/head"} <= set(
        rates(optimizer)
    )
    assert len(hidden({"lr": optimizer.param_groups[0]["lr"]})) == 4


def settings_of(groups, key):
    return {group["name"]: group[key] for group in groups}


@pytest.mark.parametrize("family", FAMILIES)
def test_overrides_of_single_groups(parts, family):
    p = parts(
        family=family, layer_decay=0.5, group_lrs="embeddings=0, layer.2=7e-4,head = 0.03",
        group_decays="layer.1=0, head=0.2",
    )  # fmt: skip
    groups = parameter_groups(p.cfg, p.model)
    peak, decay = settings_of(groups, "peak_lr"), settings_of(groups, "weight_decay")
    assert not any(name.startswith("embeddings") for name in peak)
    assert not any(q.requires_grad for q in embeddings_module(p.model.backbone).parameters())
    names = "layer.1.no_decay", "layer.2", "layer.3", "head"
    assert [peak[name] for name in names] == [2.5e-4, 7e-4, 1e-3, 0.03]
    for name, rate in peak.items():  # biases and norms follow their group
        assert rate == peak.get(name.removesuffix(".no_decay"), rate)
    assert "layer.1" not in decay
    assert (decay["layer.2"], decay["head"], decay["head.no_decay"]) == (0.01, 0.2, 0.0)
    placed = [id(q) for group in groups for q in group["params"]]
    assert sorted(placed) == sorted(id(q) for q in p.model.parameters() if q.requires_grad)


def test_decay_of_one_group_where_the_rest_has_none(parts):
    p = parts(weight_decay=0.0, group_decays="layer.3=0.1")
    decay = settings_of(parameter_groups(p.cfg, p.model), "weight_decay")
    assert {name for name, value in decay.items() if value > 0} == {"layer.3"}


def test_one_layer_of_a_frozen_body_can_be_trained(parts):
    p = parts(body_lr=0.0, group_lrs="layer.3=1e-3")
    moved = step_with(p, build_optimizer(p.cfg, p.model))
    assert moved
    assert all(name.startswith("encoder.layer.2.") for name in moved)
    assert CFG(body_lr=0.0, dropout=0.1, group_lrs="layer.3=1e-3").dropout == 0.1


@pytest.mark.parametrize(("settings", "says"), [
    ({"group_lrs": "layer.4=1e-5"},
     "group_lrs: there is no group layer.4; they are embeddings, layer.1, layer.2, layer.3, head"),
    ({"group_decays": "layer.1.no_decay=1"}, "group_decays: there is no group layer.1.no_decay"),
    ({"body_lr": 0.0, "group_decays": "layer.1=0.1"}, "group_decays sets layer.1, which is frozen"),
    ({"group_lrs": "layer.3=0", "reinit_layers": 1}, "layer.3, which reinit_layers = 1"),
    ({"group_lrs": "embeddings=0, layer.1=0, layer.2=0, layer.3=0, head=0"}, "rate is 0"),
])  # fmt: skip
def test_overrides_that_cannot_act_are_refused(parts, settings, says):
    p = parts(**settings)
    with pytest.raises(ConfigError, match=re.escape(says)):
        parameter_groups(p.cfg, p.model)


def test_a_rate_for_a_layer_that_something_else_froze_is_refused(parts):
    p = parts(group_lrs="layer.1=1e-4")
    encoder_layers(p.model.backbone)[0].requires_grad_(False)
    with pytest.raises(ConfigError, match=r"group_lrs sets layer\.1, which is frozen"):
        parameter_groups(p.cfg, p.model)
