import numpy as np
import pytest
import torch
from torch import nn

from oofline.config import CFG
from oofline.errors import ConfigError
from oofline.models.structure import encoder_layers
from oofline.models.text_model import build_model
from oofline.results import Task
from oofline.techniques.reinit import Reinit, _renew

BINARY = Task("binary", ("y",), ("0", "1"), ("y",), "f1", "label")
FAMILIES = ["bert", "roberta", "deberta", "electra", "modernbert", "mpnet", "distilbert", "albert"]


@pytest.fixture
def build(tiny_model):
    """build(family, layers) -> (model with biases and norms moved, Reinit)."""

    def make(family="bert", layers=2):
        cfg = CFG(model=str(tiny_model(family)), reinit_layers=layers, max_len=24)
        torch.manual_seed(0)
        model = build_model(cfg, BINARY, np.array([0, 1]))
        with torch.no_grad():
            for parameter in model.parameters():  # as pretraining leaves them: no zeros or ones
                parameter.add_(0.3 * torch.randn_like(parameter))
        return model, Reinit.from_cfg(cfg, BINARY)

    return make


def copied(model):
    return {name: p.detach().clone() for name, p in model.named_parameters()}


def top_names(model, layers):
    top = {id(p) for p in encoder_layers(model.backbone)[-layers:].parameters()}
    return {name for name, p in model.named_parameters() if id(p) in top}


def unchanged(model, before):
    return {name for name, p in model.named_parameters() if torch.equal(p, before[name])}


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("layers", [1, 2, 3])
def test_everything_in_the_top_layers_is_fresh_and_nothing_else(build, family, layers):
    if family == "albert" and layers > 1:
        pytest.skip("one group of weights")
    model, reinit = build(family, layers)
    before, top = copied(model), top_names(model, layers)
    reinit.prepare(model)
    assert unchanged(model, before) == set(before) - top
    assert len(top) >= layers * 6 - 1  # ModernBERT's first layer has one norm less
    for name in top:
        value = model.get_parameter(name).detach()
        if "bias" in name:
            assert not value.any(), name
        elif value.ndim == 1:
            assert (value == 1).all(), name
        else:
            assert abs(float(value.mean())) < 0.003, name
            assert float(value.std()) == pytest.approx(0.02, rel=0.1), name


def test_the_models_own_initialiser_changes_nothing(build):
    """What many write instead: neither on a block nor on all of its modules does it act."""

    def by_block(model):
        for layer in encoder_layers(model.backbone)[-2:]:
            model.backbone._init_weights(layer)

    def by_modules(model):
        for layer in encoder_layers(model.backbone)[-2:]:
            layer.apply(model.backbone._initialize_weights)

    def matrices_left(action):
        model, reinit = build()
        before, top = copied(model), top_names(model, 2)
        (action or reinit.prepare)(model)
        return {n for n in unchanged(model, before) & top if before[n].ndim >= 2}

    assert len(matrices_left(by_block)) == 2 * 6
    assert len(matrices_left(by_modules)) == 2 * 6
    assert matrices_left(None) == set()


def test_a_model_initialiser_leaves_the_verdict_alive_to_it(build, monkeypatch):
    model, reinit = build()
    assert "kept their weights" in reinit.verdict(False)
    monkeypatch.setattr("oofline.techniques.reinit._renew", lambda module, std: None)
    reinit.prepare(model)
    assert "kept their weights: set reinit_layers = 0" in reinit.verdict(False)


def test_the_figure_is_the_relative_change(build):
    model, reinit = build()
    before, top = copied(model), top_names(model, 2)
    reinit.prepare(model)
    after = copied(model)
    moved = sum(float((after[n].double() - before[n].double()).square().sum()) for n in top)
    size = sum(float(before[n].double().square().sum()) for n in top)
    assert reinit.figures() == {"reinit/relative_change": pytest.approx((moved / size) ** 0.5)}
    assert reinit.verdict(False) is None
    assert reinit.verdict(True) is None


def test_values_follow_the_global_seed(build):
    def drawn(seed):
        model, reinit = build()
        torch.manual_seed(seed)
        reinit.prepare(model)
        return torch.cat([p.flatten() for p in model.parameters()])

    assert torch.equal(drawn(1), drawn(1))
    assert not torch.equal(drawn(1), drawn(2))


def test_the_backbones_own_range_is_used(build):
    model, reinit = build()
    model.backbone.config.initializer_range = 0.5
    reinit.prepare(model)
    std = float(model.backbone.encoder.layer[2].output.dense.weight.detach().std())
    assert std == pytest.approx(0.5, rel=0.1)


def test_gradients_reach_the_fresh_layers(build):
    model, reinit = build()
    reinit.prepare(model)
    model(torch.randint(5, 40, (2, 6))).sum().backward()
    assert all(p.grad is not None for p in encoder_layers(model.backbone).parameters())


@pytest.mark.parametrize(("family", "layers", "has"), [("bert", 4, 3), ("albert", 2, 1)])
def test_more_layers_than_there_are_is_refused(build, family, layers, has):
    model, reinit = build(family, layers)
    with pytest.raises(ConfigError, match=rf"reinit_layers = {layers}, but \w+ has {has} layers"):
        reinit.prepare(model)


def test_parts_of_a_layer_that_are_no_linear():
    embedding = nn.Embedding(6, 4, padding_idx=2)
    with torch.no_grad():
        _renew(embedding, 0.02)
        assert not embedding.weight[2].any()
        assert embedding.weight[[0, 1, 3, 4, 5]].all()
        assert float(embedding.weight.abs().max()) < 0.1
        norm = nn.RMSNorm(4)
        norm.weight.fill_(7.0)
        _renew(norm, 0.02)
        assert (norm.weight == 1).all()
        odd = nn.Module()
        odd.gamma = nn.Parameter(torch.ones(4))
        with pytest.raises(ConfigError, match=r"does not know how to start Module\.gamma: set"):
            _renew(odd, 0.02)


def test_strength_zero_is_absent_and_conflicts_are_refused():
    assert Reinit.from_cfg(CFG(), BINARY) is None
    with pytest.raises(ConfigError, match="body_lr = 0 would keep random layers"):
        CFG(reinit_layers=1, body_lr=0.0)
