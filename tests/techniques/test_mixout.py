import numpy as np
import pytest
import torch
from torch import nn
from torch.autograd.gradcheck import GradcheckError
from torch.utils.checkpoint import checkpoint
from transformers.pytorch_utils import Conv1D

from oofline.config import CFG
from oofline.errors import ConfigError
from oofline.models.dropout import dropout_values, set_dropout
from oofline.models.structure import encoder_layers
from oofline.models.text_model import build_model
from oofline.results import Task
from oofline.techniques.mixout import MixedLinear, Mixout
from oofline.training.alive import copies_of
from oofline.training.optim import build_optimizer

REGRESSION = Task("regression", ("y",), (), ("y",), "rmse", "value")
BINARY = Task("binary", ("y",), ("0", "1"), ("y",), "f1", "label")
FAMILIES = ["bert", "roberta", "deberta", "electra", "modernbert", "mpnet", "distilbert", "albert"]
MASKS = ["column", "element"]


class At:
    def __init__(self, model=None, index=0):
        self.model, self.index = model, index


@pytest.fixture
def mix(tiny_model):
    """mix(family, **settings) -> (cfg, model in training mode, its prepared Mixout)."""

    def make(family="bert", task=BINARY, p=0.5, **settings):
        cfg = CFG(model=str(tiny_model(family)), mixout_p=p, max_len=24, **settings)
        torch.manual_seed(0)
        model = build_model(cfg, task, np.array([0.0, 1.0, 1.0]))
        mixout = Mixout.from_cfg(cfg, task)
        mixout.prepare(model)
        return cfg, model.train(), mixout

    return make


@pytest.fixture
def batch():
    ids = torch.randint(5, 50, (3, 7), generator=torch.Generator().manual_seed(1))
    return ids, torch.ones_like(ids)


def moved_linear(p, per_element=False, n_in=12, n_out=9):
    """A mixed layer in float64 whose weight has left W0."""
    torch.manual_seed(3)
    mixed = MixedLinear(nn.Linear(n_in, n_out).double(), p, per_element)
    with torch.no_grad():
        mixed.weight.add_(torch.randn_like(mixed.weight))
    return mixed


def mixed_weight(mixed):
    """W' of one forward pass, read from the layer's output."""
    return (mixed(torch.eye(mixed.in_features, dtype=mixed.weight.dtype)) - mixed.bias).T


def formula(mixed, mask):
    """The paper's W', written out."""
    w, w0, p = mixed.weight.detach(), mixed.pretrained, mixed.p
    return (mask * w + (1 - mask) * w0 - p * w0) / (1 - p)


@pytest.mark.parametrize("mask_kind", MASKS)
@pytest.mark.parametrize("p", [0.1, 0.5, 0.9])
def test_the_weight_is_that_of_the_paper(p, mask_kind):
    mixed = moved_linear(p, mask_kind == "element", 40, 30)
    torch.manual_seed(11)
    found = mixed_weight(mixed).detach()
    torch.manual_seed(11)
    shape = (30, 40) if mask_kind == "element" else (1, 40)
    mask = torch.empty(shape, dtype=torch.float64).bernoulli_(1 - p)
    assert 0 < float(mask.mean()) < 1
    torch.testing.assert_close(found, formula(mixed, mask), rtol=1e-12, atol=1e-12)


def test_a_column_goes_back_for_all_outputs_at_once_and_an_element_alone():
    def same_for_all_outputs(mixed):
        back = (mixed_weight(mixed).detach() - formula(mixed, torch.zeros(1))).abs() < 1e-9
        return bool((back.all(0) | ~back.any(0)).all())

    assert same_for_all_outputs(moved_linear(0.5))
    assert not same_for_all_outputs(moved_linear(0.5, per_element=True))


def z_scores(mixed, draws):
    """|mean of W' over the draws - W| in standard errors, per column."""
    weights = torch.stack([mixed_weight(mixed).detach() for _ in range(draws)])
    error = weights.std(0) / draws**0.5
    return (weights.mean(0) - mixed.weight.detach()).abs() / error


@pytest.mark.parametrize("mask_kind", MASKS)
def test_the_expected_weight_is_the_weight(mask_kind):
    mixed = moved_linear(0.3, mask_kind == "element")
    assert z_scores(mixed, 4000).max() < 4.5

    class Unscaled(MixedLinear):  # forgets the division by 1 - p and the shift by p * W0
        def forward(self, input):
            mask = self.weight.new_empty(1, self.in_features).bernoulli_(1 - self.p)
            return input @ torch.lerp(self.pretrained, self.weight, mask).T + self.bias

    mixed.__class__ = Unscaled
    assert z_scores(mixed, 4000).max() > 20


class FormerMix(torch.autograd.Function):
    """The well-known code: right forward, and a backward without the factor 1 / (1 - p)."""

    @staticmethod
    def forward(ctx, weight, target, p):
        ctx.mask = weight.new_empty(1, weight.shape[1]).bernoulli_(1 - p)
        return (ctx.mask * weight + (1 - ctx.mask) * target - p * target) / (1 - p)

    @staticmethod
    def backward(ctx, gradient):
        return gradient * ctx.mask, None, None


@pytest.mark.parametrize("mask_kind", MASKS)
def test_the_gradient_is_the_true_one(mask_kind):
    mixed = moved_linear(0.4, mask_kind == "element", 5, 4)
    x = torch.randn(6, 5, dtype=torch.float64)

    def seeded(function):
        def run(weight):
            torch.manual_seed(5)
            return function(weight)

        return run

    def ours(weight):
        return torch.func.functional_call(mixed, {"weight": weight}, (x,))

    def former(weight):
        return x @ FormerMix.apply(weight, mixed.pretrained, 0.4).T + mixed.bias.detach()

    weight = mixed.weight.detach().clone().requires_grad_()
    assert torch.autograd.gradcheck(seeded(ours), weight)
    if mask_kind == "column":
        torch.testing.assert_close(seeded(ours)(weight), seeded(former)(weight))
    with pytest.raises(GradcheckError, match="Jacobian mismatch"):
        torch.autograd.gradcheck(seeded(former), weight)


@pytest.mark.parametrize("mask_kind", MASKS)
def test_a_mask_is_drawn_in_every_forward_pass(mask_kind):
    def changes(mixed):
        return len({tuple(mixed_weight(mixed).flatten().tolist()) for _ in range(5)}) == 5

    class Kept(MixedLinear):  # draws once
        def forward(self, input):
            if not hasattr(self, "factor"):
                keep = 1 - self.p
                self.factor = self.weight.new_empty(1, self.in_features).bernoulli_(keep) / keep
            return input @ torch.lerp(self.pretrained, self.weight, self.factor).T + self.bias

    mixed = moved_linear(0.5, mask_kind == "element")
    assert changes(mixed)
    mixed.__class__ = Kept
    assert not changes(mixed)


def test_evaluation_uses_the_weight_and_draws_nothing(mix, batch):
    cfg, model, _ = mix()
    plain = build_model(cfg, BINARY, np.array([0, 1]))
    plain.load_state_dict(model.state_dict())
    with torch.no_grad():
        for linear, other in zip(_linears(model), _linears(plain), strict=True):
            other.weight.copy_(linear.weight.add_(0.1))
    state = torch.get_rng_state()
    assert torch.equal(model.eval()(*batch), plain.eval()(*batch))
    assert torch.equal(state, torch.get_rng_state())
    assert not torch.equal(model.train()(*batch), model.eval()(*batch))


def _linears(model):
    return [m for m in encoder_layers(model.backbone).modules() if isinstance(m, nn.Linear)]


@pytest.mark.parametrize("family", FAMILIES)
def test_every_linear_of_the_layers_is_mixed_and_nothing_else(mix, batch, family):
    _, model, mixout = mix(family)
    inside = _linears(model)
    assert set(mixout.mixed) == set(inside)
    assert len(mixout.mixed) == len(inside) > 0
    assert all(type(linear) is MixedLinear for linear in inside)
    outside = [m for m in model.modules() if isinstance(m, nn.Linear) and m not in inside]
    assert model.output in outside
    assert all(type(linear) is nn.Linear for linear in outside)
    model(*batch)
    assert all(linear.kept is not None for linear in inside)  # each one runs


@pytest.mark.parametrize("family", FAMILIES)
def test_names_parameters_and_checkpoint_are_those_of_the_plain_model(tiny_model, family):
    def matches(model, names, identities, keys):
        found = dict(model.named_parameters())
        same = list(found) == names and [id(p) for p in found.values()] == identities
        return same and list(model.state_dict()) == keys

    cfg = CFG(model=str(tiny_model(family)), mixout_p=0.5, max_len=24)
    model = build_model(cfg, BINARY, np.array([0, 1]))
    before = dict(model.named_parameters())
    plain = list(before), [id(p) for p in before.values()], list(model.state_dict())
    mixout = Mixout.from_cfg(cfg, BINARY)
    mixout.prepare(model)
    assert matches(model, *plain)
    assert len([n for n, _ in model.named_buffers() if n.endswith("pretrained")]) > 0
    for linear in mixout.mixed:  # the usual slip: a persistent buffer
        linear.register_buffer("pretrained", linear.pretrained)
    assert not matches(model, *plain)


def test_w0_is_a_copy_that_follows_the_model():
    mixed = moved_linear(0.5)
    assert mixed.pretrained.data_ptr() != mixed.weight.data_ptr()
    assert not torch.equal(mixed.pretrained, mixed.weight)
    assert mixed.float().pretrained.dtype == torch.float32
    assert mixed.to("meta").pretrained.device.type == "meta"


def test_an_optimizer_built_before_the_exchange_still_trains_the_weights(mix, batch):
    """The parameters are the same objects; an exchange that copies them would train nothing."""

    def trains(model, exchange):
        optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
        exchange(model)
        before = model.backbone.encoder.layer[0].intermediate.dense.weight.detach().clone()
        model(*batch).square().sum().backward()
        optimizer.step()
        return not torch.equal(before, model.backbone.encoder.layer[0].intermediate.dense.weight)

    def copying(model):
        for layer in model.backbone.encoder.layer:
            dense = layer.intermediate.dense
            fresh = nn.Linear(dense.in_features, dense.out_features)
            fresh.load_state_dict(dense.state_dict())
            layer.intermediate.dense = MixedLinear(fresh, 0.5, False)

    cfg, _, mixout = mix()
    plain = [build_model(cfg, BINARY, np.array([0, 1])).train() for _ in range(2)]
    assert trains(plain[0], mixout.prepare)
    assert not trains(plain[1], copying)


def grouped(model, optimizer):
    groups = {id(p) for group in optimizer.param_groups for p in group["params"]}
    return all(id(p) in groups for p in model.parameters() if p.requires_grad)


def test_the_check_of_the_optimizer_sees_parameters_that_it_lacks(mix):
    cfg, model, _ = mix()
    optimizer = build_optimizer(cfg, model)
    assert grouped(model, optimizer)
    dense = model.backbone.encoder.layer[0].intermediate.dense
    dense.weight = nn.Parameter(dense.weight.detach().clone())  # a swap after the optimizer
    assert not grouped(model, optimizer)


@pytest.mark.parametrize("family", FAMILIES)
def test_dropout_is_off_where_mixout_stands(mix, tiny_model, batch, family):
    def repeats(model):
        for module in model.modules():
            if isinstance(module, MixedLinear):
                module.p = 0.0  # keeps every weight: what still varies is dropout
        return torch.equal(model(*batch), model(*batch))

    cfg, model, _ = mix(family)
    assert set(dropout_values(model.backbone).values()) == {0.0}
    assert repeats(model)
    faulty = build_model(cfg, BINARY, np.array([0, 1])).train()  # dropout left on
    set_dropout(faulty.backbone, 0.1)
    assert not repeats(faulty)


@pytest.mark.parametrize(("settings", "expected"), [
    ({}, {1, 2, 3}), ({"freeze_layers": 1}, {2, 3}), ({"reinit_layers": 1}, {1, 2}),
    ({"freeze_layers": 1, "reinit_layers": 1}, {2}),
])  # fmt: skip
def test_frozen_and_fresh_layers_are_left_out(mix, settings, expected):
    _, model, _ = mix(**settings)
    layers = encoder_layers(model.backbone)
    mixed = {i for i, layer in enumerate(layers, 1) for m in layer.modules()
             if isinstance(m, MixedLinear)}  # fmt: skip
    assert mixed == expected


def test_no_layer_left_or_no_linear_is_refused(mix, tiny_model):
    with pytest.raises(ConfigError, match="every layer is frozen or re-initialised; lower"):
        mix(freeze_layers=1, reinit_layers=2)
    cfg = CFG(model=str(tiny_model("bert")), mixout_p=0.5)
    model = build_model(cfg, BINARY, np.array([0, 1]))
    for parent in list(model.backbone.encoder.modules()):
        for name, child in list(parent.named_children()):
            if isinstance(child, nn.Linear):
                setattr(parent, name, Conv1D(child.out_features, child.in_features))
    with pytest.raises(ConfigError, match=r"no nn.Linear in the layers of BertModel: set mixout_p"):
        Mixout.from_cfg(cfg, BINARY).prepare(model)


def test_a_model_without_pretrained_weights_never_gets_here(tiny_model, tmp_path):
    (tmp_path / "config.json").write_text((tiny_model("bert") / "config.json").read_text())
    cfg = CFG(model=str(tmp_path), mixout_p=0.5)
    with pytest.raises(ConfigError, match=r"has no \*.safetensors weights"):
        build_model(cfg, BINARY, np.array([0, 1]))


def test_a_linear_layer_in_two_places_is_mixed_once(mix):
    cfg, _, _ = mix()
    model = build_model(cfg, BINARY, np.array([0, 1]))
    layers = model.backbone.encoder.layer
    layers[1].attention.self.key = layers[0].attention.self.key
    mixout = Mixout(0.5)
    mixout.prepare(model)
    assert layers[1].attention.self.key is layers[0].attention.self.key
    assert len(mixout.mixed) == 3 * 6 - 1


def test_copies_run_in_passes_of_their_own():
    """In one doubled batch both copies of a row would see the same mixed weights."""
    mixed = moved_linear(0.5)
    x = torch.randn(2, mixed.in_features, dtype=torch.float64)
    first, second = mixed(x.repeat(2, 1)).chunk(2)
    assert torch.equal(first, second)
    assert not torch.equal(mixed(x), mixed(x))
    assert copies_of([Mixout(0.5)]) == (1, False)


@pytest.mark.parametrize("family", ["bert", "deberta", "modernbert"])
@pytest.mark.parametrize("mask_kind", MASKS)
def test_recomputed_activations_see_the_same_masks(mix, batch, family, mask_kind):
    def gradients(**settings):
        _, model, mixout = mix(family, mixout_mask=mask_kind, **settings)
        with torch.no_grad():
            for index, linear in enumerate(mixout.mixed):
                linear.weight.mul_(1 + 0.1 * (index % 5))  # away from W0
        torch.manual_seed(9)
        model(*batch).square().sum().backward()
        return torch.cat([p.grad.flatten() for p in model.parameters() if p.grad is not None])

    found = gradients(gradient_checkpointing=True)
    torch.testing.assert_close(found, gradients(), rtol=1e-5, atol=1e-7)


def test_without_the_random_state_recomputed_masks_would_differ():
    x = torch.randn(4, 12, dtype=torch.float64, requires_grad=True)

    def gradient(preserve):
        mixed = moved_linear(0.5)
        torch.manual_seed(9)
        out = checkpoint(mixed, x, use_reentrant=False, preserve_rng_state=preserve)
        out = out.square().sum()
        torch.manual_seed(10)
        return torch.autograd.grad(out, mixed.weight)[0]

    mixed = moved_linear(0.5)
    torch.manual_seed(9)
    expected = torch.autograd.grad(mixed(x).square().sum(), mixed.weight)[0]
    assert torch.equal(gradient(True), expected)
    assert not torch.equal(gradient(False), expected)


def test_weights_stay_float32_under_autocast(mix, batch):
    """A mix in bfloat16 would round W - W0 away."""
    _, model, mixout = mix()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        model(*batch).square().sum().backward()
    assert {linear.weight.grad.dtype for linear in mixout.mixed} == {torch.float32}
    seen = []
    linear = mixout.mixed[0]
    original = nn.functional.linear
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(
            nn.functional, "linear", lambda x, w, b: (seen.append(w), original(x, w, b))[1]
        )
        with torch.autocast("cpu", dtype=torch.bfloat16):
            linear(torch.zeros(1, linear.in_features))
    assert seen[0].dtype == torch.float32


@pytest.mark.parametrize("mask_kind", MASKS)
def test_figures_tell_what_was_mixed(mix, batch, mask_kind):
    _, model, mixout = mix(p=0.3, mixout_mask=mask_kind)
    shares = []
    for index in range(11):
        model(*batch)
        masks = torch.stack([linear.kept for linear in mixout.mixed]) * 0.7
        shares.append(1 - float(masks.mean()))
        with torch.no_grad():
            for linear in mixout.mixed:
                linear.weight.copy_(linear.pretrained * 1.25)
        mixout.after_update(At(model, index))
    means = mixout.tally.means()
    assert means["mixed_share"] == pytest.approx(np.mean(shares), abs=1e-6)
    assert means["mixed_share"] == pytest.approx(0.3, abs=0.03)
    assert means["distance"] == pytest.approx(0.25, rel=1e-5)
    assert mixout.tally.count("distance") == 2  # steps 0 and 10
    assert set(mixout.figures()) == {"mixout/mixed_share", "mixout/distance"}
    assert mixout.verdict(False) is None
    assert mixout.verdict(True) is None


def test_a_known_mask_gives_its_exact_share():
    mixed = moved_linear(0.5)
    mixed_weight(mixed)
    torch.manual_seed(2)
    mixed_weight(mixed)
    torch.manual_seed(2)
    mask = torch.empty(1, 12, dtype=torch.float64).bernoulli_(0.5)
    assert 1 - 0.5 * float(mixed.kept) == pytest.approx(1 - float(mask.mean()))


def test_verdicts_name_what_is_dead(mix, batch):
    _, model, mixout = mix(p=1e-6)
    assert mixout.verdict(False) is None  # nothing ran yet
    assert "no mixed layer ran" in mixout.verdict(True)
    for index in range(10):
        assert mixout.verdict(False) is None  # too early to tell
        model(*batch)
        mixout.after_update(At(model, index))
    assert "mixout_p = 1e-06 never sent a weight back" in mixout.verdict(False)
    _, model, mixout = mix(p=0.5)
    model(*batch)
    mixout.after_update(At(model, 0))
    assert "never left their pretrained values" in mixout.verdict(True)
    with torch.no_grad():
        mixout.mixed[0].weight.add_(1e-3)
    assert mixout.verdict(True) is None


def test_strength_zero_is_absent_and_conflicts_are_refused():
    assert Mixout.from_cfg(CFG(), BINARY) is None
    with pytest.raises(ConfigError, match="mixout takes the place of dropout"):
        CFG(mixout_p=0.5, dropout=0.1)
    with pytest.raises(ConfigError, match="body_lr = 0 freezes"):
        CFG(mixout_p=0.5, body_lr=0.0)
