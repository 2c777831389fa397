import contextlib
import dataclasses

import pandas as pd
import pytest
import torch
from safetensors.torch import load_file
from torch import nn

from oofline.config import CFG
from oofline.crossval import train_units
from oofline.errors import ConfigError
from oofline.models.text_model import load_model
from oofline.results import Task
from oofline.techniques.ema import Ema
from oofline.training import learner as learner_module
from oofline.training.precision import choose_precision
from oofline.training.predict import predict
from oofline.training.preparation import prepare
from oofline.training.trainer import Trainer

BINARY = Task("binary", ("y",), ("0", "1"), ("y",), "f1", "label")


class At:
    def __init__(self, index):
        self.index = index


class FormerEma(Ema):
    """Averages that are the weights themselves: moving them towards the weights does nothing."""

    def after_backward(self, step):
        if not self._average:
            self._follow({n: p.detach() for n, p in self._model.named_parameters()})


class NeverBack(Ema):
    """The average goes in and does not come out."""

    @contextlib.contextmanager
    def evaluating(self, model):
        self._swap()
        self._swapped = False
        yield


def small_model():
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(4, 3), nn.Linear(3, 2), nn.Linear(2, 1))
    model[1].requires_grad_(False)
    return model


def steps_of(ema, model, n, start=0, lr=0.1):
    """Train n steps; returns the trainable weights before the first and after every one."""
    trained = [p for p in model.parameters() if p.requires_grad]
    seen = [flat(trained)]
    for index in range(start, start + n):
        torch.manual_seed(index)
        model.zero_grad()
        model(torch.randn(5, 4)).square().sum().backward()
        ema.after_backward(At(index))
        with torch.no_grad():
            for parameter in trained:
                parameter.sub_(lr * parameter.grad)
        ema.after_update(At(index))
        seen.append(flat(trained))
    return seen


def flat(tensors):
    return torch.cat([tensor.detach().flatten() for tensor in tensors]).clone()


def weights_inside(ema, model):
    with ema.evaluating(model):
        return flat(p for p in model.parameters() if p.requires_grad)


def closed_form(seen, decay):
    """Sum over t of (1 - d_t) * (product of the later d) * w_t, in float64."""
    factors = [min(decay, (1 + t) / (10 + t)) for t in range(len(seen) - 1)]
    total = torch.zeros_like(seen[0], dtype=torch.float64)
    for t, weights in enumerate(seen):
        share = 1.0 if t == 0 else 1.0 - factors[t - 1]
        for later in factors[t:]:
            share *= later
        total += share * weights.double()
    return total


@pytest.mark.parametrize("decay", [0.05, 0.5, 0.9, 0.999])
@pytest.mark.parametrize("n", [1, 2, 60])
def test_the_average_is_that_of_the_closed_form(decay, n):
    model, ema = small_model(), Ema(decay)
    ema.prepare(model)
    seen = steps_of(ema, model, n, lr=0.01)
    expected = closed_form(seen, decay)
    found = weights_inside(ema, model).double()
    torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-6)
    if n == 60:
        assert not torch.allclose(found, closed_form(seen, decay * 0.8), rtol=1e-5, atol=1e-6)


def test_warm_up_reaches_the_decay():
    ema = Ema(0.99)
    assert [ema.decay_at(t) for t in (0, 8, 90)] == [0.1, 0.5, 0.91]
    assert ema.decay_at(891) == 0.99
    assert ema.decay_at(10_000) == 0.99


def swaps_back(ema, model):
    """Leaving the view puts the very storages of training back, also after an error inside."""

    def now():
        return [(p.data_ptr(), p.detach().clone()) for p in model.parameters()]

    def as_before():
        pairs = zip(before, now(), strict=True)
        return all(a == c and torch.equal(b, d) for (a, b), (c, d) in pairs)

    before = now()
    with ema.evaluating(model):
        entered = sum(a != b for (a, _), (b, _) in zip(before, now(), strict=True))
    left = as_before()
    with pytest.raises(RuntimeError, match="inside"), ema.evaluating(model):
        raise RuntimeError("inside")
    failed = as_before()
    with ema.evaluating(model):
        inside = flat(p for p in model.parameters() if p.requires_grad)
        again = torch.equal(weights_inside(ema, model), inside)
        still = torch.equal(flat(p for p in model.parameters() if p.requires_grad), inside)
    return entered == 4 and left and failed and again and still and as_before()


def test_the_view_is_left_as_it_was_entered():
    model, ema = small_model(), Ema(0.9)
    ema.prepare(model)
    steps_of(ema, model, 5)
    assert swaps_back(ema, model)
    assert not torch.equal(weights_inside(ema, model), flat(ema._weights))

    faulty = NeverBack(0.9)
    faulty.prepare(model)
    steps_of(faulty, model, 5)
    assert not swaps_back(faulty, model)


def test_the_view_before_the_first_update_is_the_model():
    model, ema = small_model(), Ema(0.9)
    ema.prepare(model)
    before = flat(model.parameters())
    with ema.evaluating(model):
        assert torch.equal(before, flat(model.parameters()))
    assert ema.state() == {}


def test_an_average_that_shares_storage_with_the_weights_is_noticed():
    for kind, dead in ((Ema, False), (FormerEma, True)):
        model, ema = small_model(), kind(0.9)
        ema.prepare(model)
        steps_of(ema, model, 12)
        shared = {p.data_ptr() for p in model.parameters()} & {
            a.data_ptr() for a in ema._average.values()
        }
        assert bool(shared) is dead
        assert (ema.verdict(True) is not None) is dead


def test_a_decay_too_small_to_act_is_noticed_at_the_end():
    model, ema = small_model(), Ema(1e-12)
    ema.prepare(model)
    steps_of(ema, model, 3)
    assert ema.verdict(False) is None
    assert "the average equals the weights: raise ema_decay (now 1e-12" in ema.verdict(True)


def test_only_trained_weights_are_copied_once():
    model, ema = small_model(), Ema(0.9)
    ema.prepare(model)
    steps_of(ema, model, 2)
    trained = {n for n, p in model.named_parameters() if p.requires_grad}
    assert {k.removeprefix("average.") for k in ema.state() if k.startswith("average.")} == trained
    assert sum(t.numel() for t in ema._average.values()) == 4 * 3 + 3 + 2 + 1


def test_the_figure_is_the_distance_every_ten_steps():
    model, ema = small_model(), Ema(0.9)
    ema.prepare(model)
    seen = steps_of(ema, model, 11, lr=0.01)
    expected = []
    for n in (1, 11):
        average = closed_form(seen[: n + 1], 0.9)
        expected.append(float((average - seen[n]).norm() / seen[n].double().norm()))
    assert ema.figures() == {"ema/distance": pytest.approx(sum(expected) / 2, rel=1e-4)}
    assert ema.tally.count("distance") == 2


def test_saved_and_loaded_it_goes_on_bit_identically():
    model, ema = small_model(), Ema(0.95)
    ema.prepare(model)
    steps_of(ema, model, 7)
    saved = {name: tensor.clone() for name, tensor in ema.state().items()}
    weights = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    steps_of(ema, model, 6, start=7)
    again, other = small_model(), Ema(0.95)
    other.prepare(again)
    again.load_state_dict(weights)
    other.load_state(saved)
    steps_of(other, again, 6, start=7)
    assert torch.equal(weights_inside(ema, model), weights_inside(other, again))
    assert ema.tally.means() == other.tally.means()


def test_the_state_cannot_be_taken_inside_the_view():
    model, ema = small_model(), Ema(0.95)
    ema.prepare(model)
    steps_of(ema, model, 1)
    with ema.evaluating(model), pytest.raises(RuntimeError, match="holds the average"):
        ema.state()


def test_strength_zero_is_absent_and_conflicts_are_refused():
    assert Ema.from_cfg(CFG(), BINARY) is None
    assert Ema.from_cfg(CFG(ema_decay=0.99), BINARY).decay == 0.99
    with pytest.raises(ConfigError, match='leave out ema_decay or checkpoint = "average"'):
        CFG(ema_decay=0.9, checkpoint="average")


@pytest.fixture
def train(write_competition, load_settings, monkeypatch):
    """train(exp, **settings) -> (folder of fold 0, weights in training at the end, paths, cfg)."""
    paths = write_competition("regression", n=66)
    run = Trainer.run

    def go(exp, **settings):
        found = {}

        def noting(self):
            run(self)
            found.update({n: p.clone() for n, p in self.evaluator.model.state_dict().items()})

        monkeypatch.setattr(Trainer, "run", noting)
        cfg = load_settings(paths, exp=exp, **settings)
        train_units(cfg, paths, [0], [42])
        return paths.fold(exp, 42, 0), found, paths, cfg

    return go


def same(first, second):
    return all(torch.equal(first[name], second[name]) for name in first)


def test_training_never_sees_the_average(train):
    settings = {"dropout": 0.1, "evals_per_epoch": 3, "checkpoint": "best"}
    _, plain, *_ = train("plain", **settings)
    folder, averaged, *_ = train("ema", ema_decay=0.9, **settings)
    assert same(plain, averaged)
    assert not same(plain, load_file(folder / "model.safetensors"))


def test_an_average_left_in_the_model_changes_training(train, monkeypatch):
    _, plain, *_ = train("plain", evals_per_epoch=3)

    monkeypatch.setattr(learner_module, "build_techniques", lambda cfg, task: [NeverBack(0.9)])
    _, averaged, *_ = train("ema", ema_decay=0.9, evals_per_epoch=3)
    assert not same(plain, averaged)


@pytest.mark.parametrize("checkpoint", ["last", "best"])
def test_the_saved_model_predicts_what_is_in_the_files(train, checkpoint):
    folder, weights, paths, cfg = train(
        "a", ema_decay=0.9, checkpoint=checkpoint, evals_per_epoch=2, epochs=3, lr=5e-3
    )
    assert not same(weights, load_file(folder / "model.safetensors"))
    material = prepare(dataclasses.replace(cfg, exp="b"), paths)
    model = load_model(cfg, material.competition.task, folder)
    rows = material.folds.valid_rows(0)
    found = predict(model, material.train_tokens, rows, choose_precision(cfg), 64).pred
    stored = pd.read_parquet(folder / "oof.parquet").filter(like="pred_").to_numpy()
    assert (stored == found).all()
    model.load_state_dict(weights)  # the weights in training predict something else
    assert (
        stored != predict(model, material.train_tokens, rows, choose_precision(cfg), 64).pred
    ).any()


def test_steps_that_fp16_skips_leave_the_average_where_the_weights_are():
    model, ema = small_model(), Ema(0.9)
    ema.prepare(model)
    seen = steps_of(ema, model, 4, lr=0.0)  # no update changes a weight
    torch.testing.assert_close(weights_inside(ema, model), seen[0])
