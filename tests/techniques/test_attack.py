"""What AWP and FGM share, against formulas written out in float64, and beside the faulty forms."""

import contextlib

import numpy as np
import pytest
import torch
from torch import nn

from oofline.errors import ConfigError
from oofline.techniques.attack import standing_at
from oofline.techniques.awp import Awp
from oofline.techniques.delay import Delay
from oofline.techniques.fgm import Fgm

ALWAYS = Delay("awp", 1, 1, None, True)
MOVED = {
    "awp": ["backbone.words.weight", "backbone.middle.weight", "output.weight"],
    "fgm": ["backbone.words.weight"],
}
LR, EPS, FGM = 0.3, 0.4, 0.7
MAKE = {
    "awp": lambda: Awp(ALWAYS, LR, 0.0, replace=False),
    "awp clamped": lambda: Awp(ALWAYS, LR, EPS, replace=False),
    "awp replacing": lambda: Awp(ALWAYS, LR, EPS, replace=True),
    "fgm": lambda: Fgm(ALWAYS, FGM),
}
EVERY = pytest.mark.parametrize("kind", list(MAKE))


class Encoder(nn.Module):
    def __init__(self):
        super().__init__()
        self.words, self.middle, self.norm = nn.Embedding(11, 6), nn.Linear(6, 4), nn.LayerNorm(4)
        self.gain = nn.Parameter(torch.rand(1, 4))  # two dimensions, but no weight by its name

    def get_input_embeddings(self):
        return self.words

    def forward(self, ids):
        return self.norm(torch.tanh(self.middle(self.words(ids).mean(1))) * self.gain)


class Toy(nn.Module):
    def __init__(self):
        super().__init__()
        self.backbone, self.output = Encoder(), nn.Linear(4, 1)

    def forward(self, ids):
        return self.output(self.backbone(ids))[None]


class Window:
    """The step as a technique sees it, in float64, with calls counted."""

    def __init__(self, model, seed, sizes=(4, 4, 2), scale=0.0):
        rng = np.random.default_rng(seed)
        self.model, self.epoch, self.index, self.scores = model, 0, 0, []
        self.ids = torch.from_numpy(rng.integers(0, 11, (sum(sizes), 5)))
        self.y = torch.from_numpy(rng.normal(size=(sum(sizes), 1)))
        ends = np.cumsum(sizes)
        self.parts = [slice(end - size, end) for end, size in zip(ends, sizes, strict=True)]
        self.scaler = torch.amp.GradScaler("cpu", init_scale=scale or 1.0, enabled=scale > 0)
        self.forwards = self.backwards = 0
        self.raise_at, self.stale, self.exp_avg = -1, None, None

    def adding(self):
        return contextlib.nullcontext()

    def __iter__(self):
        for part in self.parts:
            self.part = part
            yield

    def forward(self):
        if self.forwards == self.raise_at:
            raise torch.OutOfMemoryError("no memory")
        self.forwards += 1
        logits = self.model(self.ids[self.part])
        return logits, self.loss_of(logits)

    def loss_of(self, logits):
        return (logits[0] - self.y[self.part]).square().mean()

    def scaled(self, loss):
        return self.scaler.scale(loss)

    def share(self):
        return (self.part.stop - self.part.start) / len(self.y)

    def backward(self, loss):
        self.backwards += 1
        self.scaled(loss * self.share()).backward()

    def clean_backward(self):
        self.model.zero_grad(set_to_none=True)
        for _ in self:
            self.backward(self.forward()[1])
        self.forwards = self.backwards = 0
        return self


def gradient(window, weights):
    """dL/dw of the whole window at given weights, in one pass and without the Window's own code."""
    weights = {name: value.clone().requires_grad_() for name, value in weights.items()}
    logits = torch.func.functional_call(window.model, weights, (window.ids,))
    loss = ((logits[0] - window.y) ** 2).sum() / len(window.y)
    return dict(zip(weights, torch.autograd.grad(loss, list(weights.values())), strict=True))


def moves(technique, weights, direction):
    """v, matrix by matrix, as the papers write it."""
    result = {}
    for name in MOVED[technique.name]:
        w, g = weights[name].numpy(), direction[name].numpy()
        size = LR * np.sqrt((w**2).sum()) if technique.name == "awp" else FGM
        v = size * g / np.sqrt((g**2).sum())
        if technique.name == "awp" and technique.eps:
            v = np.clip(w + v, w - EPS * abs(w), w + EPS * abs(w)) - w
        result[name] = torch.from_numpy(v)
    return result


def values(model):
    return {name: parameter.detach().clone() for name, parameter in model.named_parameters()}


def gradients(model):
    return {name: parameter.grad.clone() for name, parameter in model.named_parameters()}


def reference(technique, window):
    """What .grad must hold after the hook."""
    weights = values(window.model)
    clean = gradient(window, weights)
    v = moves(technique, weights, clean)
    adversarial = gradient(window, {n: w + v[n] if n in v else w for n, w in weights.items()})
    return {n: g + (0 if technique.replace else clean[n]) for n, g in adversarial.items()}


def same(found, wanted):
    return all(torch.allclose(found[n], wanted[n], rtol=1e-9, atol=1e-12) for n in wanted)


def after_two_steps(scale=0.0, sizes=(4, 4, 2)):
    """A window after its clean backward; two optimizer steps on other windows lie behind it."""
    torch.manual_seed(3)
    model = Toy().double()
    optimizer = torch.optim.AdamW(model.parameters(), lr=0.02)
    for seed in (1, 2):
        Window(model, seed).clean_backward()
        stale = gradients(model)
        optimizer.step()
    window = Window(model, 0, sizes, scale)
    window.stale = stale
    window.exp_avg = {n: optimizer.state[p]["exp_avg"] for n, p in model.named_parameters()}
    return window.clean_backward()


def check(technique, hook, scale=0.0, sizes=(4, 4, 2)):
    """Assert that a hook leaves the right gradients and bit-identical weights."""
    window = after_two_steps(scale, sizes)
    wanted, weights = reference(technique, window), values(window.model)
    hook(window)
    found = {name: g / (scale or 1.0) for name, g in gradients(window.model).items()}
    assert same(found, wanted), "wrong gradients"
    now = values(window.model)
    assert all(torch.equal(now[name], w) for name, w in weights.items()), "weights have changed"


def written_out(technique, fault=""):
    """The attack as pipelines write it out; with one of the faults that they carry."""

    def hook(window):
        model = window.model
        if fault == "zero_grad(set_to_none=True) before the attack":
            model.zero_grad(set_to_none=True)
        matrices = {n: p for n, p in model.named_parameters() if n in MOVED[technique.name]}
        direction = {n: p.grad.clone() for n, p in matrices.items() if p.grad is not None}
        direction = {"stale gradients": window.stale, "exp_avg": window.exp_avg}.get(
            fault, direction
        )
        weights = {n: p.detach().clone() for n, p in matrices.items()}
        v = moves(technique, weights, direction) if direction else {}
        if technique.replace:
            model.zero_grad()
        backup = weights
        for name, move in v.items():
            matrices[name].data.add_(move)
        for number, _ in enumerate(window):
            if fault == "only the last micro-batch" and number < len(window.parts) - 1:
                continue
            if fault == "backup overwritten by the second micro-batch" and number:
                backup = {n: p.detach().clone() for n, p in matrices.items()}
            if fault == "zero_grad inside the attack":
                model.zero_grad()
            loss = window.forward()[1]
            if fault == "no loss scale":
                (loss * window.share()).backward()
            else:
                window.backward(loss)
        if fault != "no restore":
            for name, parameter in matrices.items():
                parameter.data.copy_(backup[name])

    return hook


FAULTS = [
    "stale gradients", "exp_avg", "zero_grad(set_to_none=True) before the attack",
    "zero_grad inside the attack", "backup overwritten by the second micro-batch",
    "only the last micro-batch", "no restore",
]  # fmt: skip


@EVERY
@pytest.mark.parametrize("scale", [0.0, 1024.0], ids=["", "scaled"])
@pytest.mark.parametrize("sizes", [(4,), (4, 4, 2), (1, 3)], ids=str)
def test_gradients_are_those_of_the_formula_and_weights_are_untouched(kind, scale, sizes):
    technique = MAKE[kind]()
    check(technique, technique.after_backward, scale, sizes)
    check(technique, written_out(technique), scale, sizes)  # the faultless long form passes too


@EVERY
@pytest.mark.parametrize("fault", FAULTS)
def test_the_published_faults_would_be_caught(kind, fault):
    technique = MAKE[kind]()
    with pytest.raises(AssertionError, match="weights" if "backup" in fault else "wrong|weights"):
        check(technique, written_out(technique, fault))


@EVERY
def test_an_adversarial_backward_without_the_loss_scale_would_be_caught(kind):
    technique = MAKE[kind]()
    with pytest.raises(AssertionError, match="wrong gradients"):
        check(technique, written_out(technique, "no loss scale"), scale=1024.0)


def test_a_gradient_zeroed_before_the_attack_is_an_error_not_a_no_op():
    window = after_two_steps()
    window.model.zero_grad(set_to_none=True)
    for kind in MAKE:
        with pytest.raises(ConfigError, match=r"trained.*leave out"):
            MAKE[kind]().after_backward(window)


# ---- exceptions


@EVERY
@pytest.mark.parametrize("at", [0, 1])
def test_weights_are_restored_when_the_inner_forward_raises(kind, at):
    technique = MAKE[kind]()

    def restores(hook):
        window = after_two_steps()
        weights, window.raise_at = values(window.model), at
        with pytest.raises(torch.OutOfMemoryError):
            hook(window)
        now = values(window.model)
        return all(torch.equal(now[name], w) for name, w in weights.items())

    assert restores(technique.after_backward)
    assert not restores(written_out(technique))  # without try ... finally


def test_standing_at_puts_back_the_same_storage():
    parameter = nn.Parameter(torch.ones(3))
    address, other = parameter.data_ptr(), torch.zeros(3)
    with standing_at([parameter], [other]):
        assert parameter.data_ptr() == other.data_ptr()
    assert parameter.data_ptr() == address
    with pytest.raises(ValueError, match="shorter"), standing_at([parameter], []):
        pass
    assert parameter.data_ptr() == address


# ---- several optimizer steps: restore comes before the step, and weights do move


def adamw(weights, steps, lr=0.05, decay=0.5):
    """AdamW over a list of gradient functions, written out."""
    mean, square = ({n: torch.zeros_like(w) for n, w in weights.items()} for _ in range(2))
    for t, gradients_at in enumerate(steps, start=1):
        grads = gradients_at(weights)
        for n, g in grads.items():
            mean[n] = 0.9 * mean[n] + 0.1 * g
            square[n] = 0.999 * square[n] + 0.001 * g**2
            update = mean[n] / (1 - 0.9**t) / ((square[n] / (1 - 0.999**t)).sqrt() + 1e-6)
            weights[n] = weights[n] * (1 - lr * decay) - lr * update
    return weights


def trained(hook, technique, after_step=lambda window: None):
    """Weights after three steps of fused AdamW, and those that the formulas give."""
    torch.manual_seed(3)
    model = Toy().double()
    start, steps = values(model), []
    optimizer = torch.optim.AdamW(
        model.parameters(), lr=0.05, weight_decay=0.5, eps=1e-6, fused=True
    )
    for seed in range(3):
        window = Window(model, seed)
        steps.append(lambda w, window=window: _reference_at(technique, window, w))
        window.clean_backward()
        hook(window)
        optimizer.step()
        after_step(window)
    return values(model), adamw(start, steps)


def _reference_at(technique, window, weights):
    now = values(window.model)
    try:
        window.model.load_state_dict(weights)
        return reference(technique, window)
    finally:
        window.model.load_state_dict(now)


@EVERY
def test_training_goes_as_the_formulas_say(kind):
    technique = MAKE[kind]()
    found, wanted = trained(technique.after_backward, technique)
    assert same(found, wanted)


@EVERY
def test_decay_applied_to_the_perturbed_weights_would_be_caught(kind):
    technique = MAKE[kind]()
    pending = {}

    def leave_perturbed(window):
        before = values(window.model)
        direction = gradients(window.model)
        pending["v"] = moves(technique, before, direction)
        written_out(technique, "no restore")(window)

    def subtract_after_step(window):
        for name, move in pending["v"].items():
            window.model.get_parameter(name).data.sub_(move)

    found, wanted = trained(leave_perturbed, technique, subtract_after_step)
    assert not same(found, wanted)
    decayed = {n for n in wanted if not torch.allclose(found[n], wanted[n], rtol=1e-6)}
    assert set(MOVED[technique.name]) <= decayed


@EVERY
def test_a_backup_that_is_kept_over_steps_would_be_caught(kind):
    technique, backup = MAKE[kind](), {}

    def keep_first_backup(window):
        matrices = [window.model.get_parameter(name) for name in MOVED[technique.name]]
        for number, matrix in enumerate(matrices):
            backup.setdefault(number, matrix.detach().clone())
        written_out(technique)(window)
        for number, matrix in enumerate(matrices):
            matrix.data.copy_(backup[number])

    found, wanted = trained(keep_first_backup, technique)
    assert not same(found, wanted)
    name = MOVED[technique.name][0]
    assert (found[name] - backup[0]).norm() < 0.6 * (wanted[name] - backup[0]).norm()  # one step


# ---- gradients that cannot be used


@EVERY
@pytest.mark.parametrize("bad", [float("inf"), float("nan")])
def test_an_overflowed_gradient_skips_the_step_under_a_scaler(kind, bad):
    technique, window = MAKE[kind](), after_two_steps(scale=1024.0)
    window.model.backbone.words.weight.grad[2, 1] = bad
    weights, before = values(window.model), gradients(window.model)
    technique.after_backward(window)
    assert window.forwards == 0
    for name, grad in gradients(window.model).items():
        assert torch.equal(grad.nan_to_num(7.0), before[name].nan_to_num(7.0))
        assert torch.equal(window.model.get_parameter(name), weights[name])
    assert technique.figures() == {f"{technique.name}/active": 0.0}
    assert "overflowed" in technique.verdict(finished=True)
    assert technique.verdict(finished=False) is None


@EVERY
def test_without_a_scaler_a_bad_gradient_is_never_hidden_from_the_loop(kind):
    technique, window = MAKE[kind](), after_two_steps()
    window.model.backbone.words.weight.grad[2, 1] = float("inf")
    weights = values(window.model)
    technique.after_backward(window)
    assert not window.model.backbone.words.weight.grad.isfinite().all()
    assert all(torch.equal(window.model.get_parameter(n), w) for n, w in weights.items())
    assert technique.tally.means()["active"] == 0


@EVERY
def test_a_gradient_of_zero_adds_nothing(kind):
    technique, window = MAKE[kind](), after_two_steps()
    for name in MOVED[technique.name]:
        window.model.get_parameter(name).grad.zero_()
    before = gradients(window.model)
    technique.after_backward(window)
    zero = {name: grad * (0 if technique.replace else 1) for name, grad in before.items()}
    assert all(torch.equal(grad, zero[n]) for n, grad in gradients(window.model).items())
    assert technique.tally.means()["active"] == 0
    assert "was 0" in technique.verdict(finished=True)


def test_one_matrix_without_gradient_does_not_stop_the_others():
    technique, window = MAKE["awp"](), after_two_steps()
    window.model.backbone.middle.weight.grad.zero_()
    technique.after_backward(window)
    assert all(grad.isfinite().all() for grad in gradients(window.model).values())
    assert technique.tally.means()["active"] == 1


# ---- cost and figures


@EVERY
def test_it_costs_one_more_pass_per_micro_batch_while_it_acts(kind):
    technique, window = MAKE[kind](), after_two_steps()
    technique.after_backward(window)
    assert window.forwards == window.backwards == 3
    technique.delay = Delay("awp", 2, 1, None, True)
    window = after_two_steps()
    before = gradients(window.model)
    technique.after_backward(window)
    assert window.forwards == window.backwards == 0
    assert all(torch.equal(grad, before[n]) for n, grad in gradients(window.model).items())


@EVERY
def test_figures_are_those_of_the_formula(kind):
    technique, window = MAKE[kind](), after_two_steps()
    weights = values(window.model)
    v = moves(technique, weights, gradient(window, weights))
    sizes = [
        np.sqrt(sum(float((t**2).sum()) for t in tensors))
        for tensors in (v.values(), [weights[n] for n in v])
    ]
    losses = []
    for _ in window:
        moved = {n: w + v[n] if n in v else w for n, w in weights.items()}
        logits = torch.func.functional_call(window.model, moved, (window.ids[window.part],))
        losses.append(float(window.loss_of(logits)))
    technique.after_backward(window)
    name = technique.name
    assert technique.figures() == {
        f"{name}/active": 1.0,
        f"{name}/loss": pytest.approx(np.mean(losses)),
        f"{name}/relative_perturbation": pytest.approx(sizes[0] / sizes[1]),
    }
    assert technique.verdict(finished=True) is None


@pytest.mark.parametrize(
    ("technique", "remedy"),
    [
        (Awp(ALWAYS, 1e-30, 0.0, replace=False), "raise awp_lr or awp_eps"),
        (Awp(ALWAYS, 0.1, 1e-30, replace=False), "raise awp_lr or awp_eps"),
        (Fgm(ALWAYS, 1e-30), "raise fgm_eps"),
    ],
)
def test_a_perturbation_lost_in_rounding_is_found_at_once(technique, remedy):
    technique.after_backward(after_two_steps())
    assert remedy in technique.verdict(finished=False)


def test_never_having_begun_counts_at_the_end_only():
    technique = Awp(Delay("awp", 3, 0, 0.9, True), 0.1, 0.0, replace=False)
    window = after_two_steps()
    window.scores = [0.5, 0.8]
    technique.after_backward(window)
    assert technique.verdict(finished=False) is None
    assert "never reached awp_start_score = 0.9" in technique.verdict(finished=True)
    resumed = Awp(technique.delay, 0.1, 0.0, replace=False)
    window.scores = [0.5, 0.9]
    technique.after_backward(window)
    assert technique.verdict(finished=True) is None
    resumed.load_state(technique.state())
    assert resumed.verdict(finished=True) is None
