import pytest
import torch

from oofline.errors import ConfigError
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
