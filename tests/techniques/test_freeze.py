from functools import partial

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from torch import nn
from torch.utils.checkpoint import checkpoint

from oofline.config import CFG
from oofline.crossval import train_units
from oofline.errors import ConfigError
from oofline.models.structure import encoder_layers, parameter_depth
from oofline.models.text_model import build_model
from oofline.results import Task
from oofline.techniques.freeze import Freeze
from oofline.training.optim import build_optimizer

BINARY = Task("binary", ("y",), ("0", "1"), ("y",), "f1", "label")
FAMILIES = ["bert", "roberta", "deberta", "electra", "modernbert", "mpnet", "distilbert", "albert"]


@pytest.fixture
def build(tiny_model):
    """build(family, layers, **settings) -> (cfg, model, Freeze, not yet prepared)."""

    def make(family="bert", layers=1, **settings):
        cfg = CFG(model=str(tiny_model(family)), freeze_layers=layers, max_len=24, **settings)
        torch.manual_seed(0)
        return cfg, build_model(cfg, BINARY, np.array([0, 1])), Freeze.from_cfg(cfg, BINARY)

    return make


def frozen_names(model):
    return {name for name, p in model.named_parameters() if not p.requires_grad}


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("layers", [1, 2, 3])
def test_what_runs_below_layer_k_plus_one_is_frozen(build, family, layers):
    if family == "albert" and layers > 1:
        pytest.skip("one group of weights")
    _, model, freeze = build(family, layers)
    freeze.prepare(model)
    depths = parameter_depth(model.backbone)
    assert frozen_names(model) == {
        f"backbone.{n}" for n, depth in depths.items() if depth <= layers
    }
    for index, layer in enumerate(encoder_layers(model.backbone), start=1):
        assert all(p.requires_grad == (index > layers) for p in layer.parameters())
    assert not model.backbone.get_input_embeddings().weight.requires_grad
    assert all(p.requires_grad for p in model.head_parameters().values())


def test_the_figure_is_the_share_of_parameters(build):
    _, model, freeze = build()
    assert "no weight was frozen" in freeze.verdict(False)
    freeze.prepare(model)
    names, sizes = frozen_names(model), {n: p.numel() for n, p in model.named_parameters()}
    share = sum(sizes[n] for n in names) / sum(sizes.values())
    assert freeze.figures() == {"freeze/frozen_share": pytest.approx(share)}
    assert 0.3 < share < 1
    assert freeze.verdict(False) is None
    assert freeze.verdict(True) is None


def in_optimizer(model, optimizer):
    grouped = {id(p) for group in optimizer.param_groups for p in group["params"]}
    return {name for name, p in model.named_parameters() if id(p) in grouped}


def moved(model, optimizer, steps=2):
    before = {name: p.detach().clone() for name, p in model.named_parameters()}
    for _ in range(steps):
        model(torch.randint(5, 40, (2, 6))).sum().backward()
        optimizer.step()
    return {name for name, p in model.named_parameters() if not torch.equal(p, before[name])}


def test_frozen_weights_are_absent_from_the_optimizer_and_stay(build):
    cfg, model, freeze = build()
    freeze.prepare(model)
    optimizer = build_optimizer(cfg, model)
    names = frozen_names(model)
    assert not in_optimizer(model, optimizer) & names
    assert moved(model, optimizer) == set(dict(model.named_parameters())) - names


def test_freezing_after_the_optimizer_exists_is_too_late(build):
    cfg, model, freeze = build(weight_decay=0.1)
    optimizer = build_optimizer(cfg, model)
    model(torch.randint(5, 40, (2, 6))).sum().backward()  # gradients that stay behind
    freeze.prepare(model)
    names = frozen_names(model)
    assert in_optimizer(model, optimizer) & names == names
    assert moved(model, optimizer) & names


CHECKPOINTED = ["bert", "roberta", "deberta", "electra", "modernbert"]


@pytest.mark.parametrize("family", CHECKPOINTED)
@pytest.mark.parametrize("reentrant", [False, True])
def test_checkpointed_gradients_reach_the_upper_layers(build, family, reentrant):
    def gradients(checkpointing):
        _, model, freeze = build(family, gradient_checkpointing=checkpointing, dropout=0.0)
        freeze.prepare(model)
        if checkpointing and reentrant:  # torch's former default loses them
            for layer in encoder_layers(model.backbone):
                layer._gradient_checkpointing_func = partial(checkpoint, use_reentrant=True)
        model.train()(torch.arange(5, 17).view(2, 6)).sum().backward()
        return {n: p.grad for n, p in model.named_parameters() if p.requires_grad}

    expected, found = gradients(False), gradients(True)
    assert all(gradient is not None for gradient in expected.values())
    lost = {name for name, gradient in found.items() if gradient is None}
    kept = set(found) - lost
    assert all(torch.allclose(found[n], expected[n], rtol=1e-4, atol=1e-7) for n in kept)
    assert bool(lost) == reentrant


@pytest.mark.parametrize("family", CHECKPOINTED)
@pytest.mark.parametrize("checkpointing", [False, True])
def test_backward_ends_at_the_lowest_layer_that_trains(build, family, checkpointing):
    def runs(prepare):
        """How often each layer runs forward in one training step: twice where recomputed."""
        _, model, freeze = build(family, 2, gradient_checkpointing=checkpointing)
        prepare(freeze, model)
        counts = [0, 0, 0]
        for index, layer in enumerate(encoder_layers(model.backbone)):
            first = next(m for m in layer.modules() if isinstance(m, nn.Linear))
            first.register_forward_hook(lambda *_, i=index: counts.__setitem__(i, counts[i] + 1))
        ids = torch.arange(5, 17).view(2, 6)
        with torch.no_grad():
            model.eval()(ids)
        once, counts[:] = list(counts), [0, 0, 0]  # DeBERTa calls some parts twice
        model.train()(ids).sum().backward()
        return [n / of for n, of in zip(counts, once, strict=True)]

    def gradients_alone(freeze, model):
        """The usual code: as ours, with the hook that transformers' own checkpointing sets."""
        if checkpointing:
            model.backbone.enable_input_require_grads()
        names = {n for n, depth in parameter_depth(model.backbone).items() if depth <= 2}
        for name in names:
            model.backbone.get_parameter(name).requires_grad_(False)

    assert runs(Freeze.prepare) == [1, 1, 2 if checkpointing else 1]
    assert runs(gradients_alone) == ([2, 2, 2] if checkpointing else [1, 1, 1])


def test_frozen_weights_survive_a_run_and_are_saved(write_competition, load_settings, tiny_model):
    paths = write_competition("binary", n=66)
    saved = {}
    for exp, layers in (("frozen", 2), ("free", 0)):
        cfg = load_settings(paths, exp=exp, freeze_layers=layers, weight_decay=0.1)
        train_units(cfg, paths, [0], [42])
        saved[exp] = load_file(paths.fold(exp, 42, 0) / "model.safetensors")
    original = load_file(tiny_model("bert") / "model.safetensors")
    kept = [n for n in original if "embeddings" in n or "layer.0." in n or "layer.1." in n]
    assert len(kept) > 30
    assert all(torch.equal(saved["frozen"][f"backbone.{name}"], original[name]) for name in kept)
    assert not torch.equal(saved["free"]["backbone." + kept[0]], original[kept[0]])
    upper = "encoder.layer.2.output.dense.weight"
    assert not torch.equal(saved["frozen"][f"backbone.{upper}"], original[upper])
    assert saved["frozen"].keys() == saved["free"].keys()


@pytest.mark.parametrize(("family", "layers", "has"), [("bert", 4, 3), ("albert", 2, 1)])
def test_more_layers_than_there_are_is_refused(build, family, layers, has):
    _, model, freeze = build(family, layers)
    with pytest.raises(ConfigError, match=rf"freeze_layers = {layers}, but \w+ has {has} layers"):
        freeze.prepare(model)
    assert not frozen_names(model)


def test_freezing_random_layers_is_refused(build):
    _, model, freeze = build(layers=2, reinit_layers=2)
    with pytest.raises(
        ConfigError, match="freeze_layers = 2 and reinit_layers = 2 overlap in the 3"
    ):
        freeze.prepare(model)
    _, model, freeze = build(layers=2, reinit_layers=1)
    freeze.prepare(model)


def test_strength_zero_is_absent_and_conflicts_are_refused():
    assert Freeze.from_cfg(CFG(), BINARY) is None
    with pytest.raises(ConfigError, match="leave out freeze_layers or body_lr"):
        CFG(freeze_layers=1, body_lr=0.0)
    with pytest.raises(ConfigError, match="which freeze_layers freezes"):
        CFG(freeze_layers=1, fgm_eps=0.5)
