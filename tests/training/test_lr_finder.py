"""The range test: what it sweeps, where it stops, and what it suggests."""

import dataclasses
import math

import numpy as np
import pytest
import torch

from oofline.errors import ConfigError, OoflineError
from oofline.training import lr_finder, probe
from oofline.training.lr_finder import HIGHEST, LOWEST, RangeTest, range_test, suggest, sweep
from oofline.training.optim import build_optimizer
from oofline.training.preparation import prepare
from oofline.training.step import StepMaker


def quadratic(curvature=400.0, noise=0.0):
    """take_step of gradient descent on 1 + c/2 x^2, which diverges above a rate of 2/c."""
    x, rng = [torch.tensor(1.0, dtype=torch.float64)], np.random.default_rng(0)

    def take_step(rate):
        loss = 1.0 + 0.5 * curvature * float(x[0]) ** 2
        x[0] = x[0] - rate * curvature * x[0]
        return loss * (1.0 + noise * rng.normal())

    return take_step


def descent_of(test):
    """Independent: middle of the ten steps whose fitted line falls most, before the minimum."""
    low = min(range(10, len(test.lr)), key=lambda i: test.smoothed[i])
    fits = {
        i + 5: np.polyfit(np.log(test.lr[i : i + 10]), test.smoothed[i : i + 10], 1)[0]
        for i in range(10, low - 8)
    }
    return test.lr[min(fits, key=fits.get)], test.lr[low] / 10


@pytest.mark.parametrize("noise", [0.0, 0.05])
def test_a_quadratic_is_found(noise):
    test = sweep(100, quadratic(noise=noise))
    assert not test.diverged or test.lr[-1] > 2 / 400
    steepest, tenth = descent_of(test)
    suggestion = suggest(test)
    assert (suggestion.steepest, suggestion.tenth) == pytest.approx((steepest, tenth))
    assert 1e-4 < suggestion.steepest < 2 / 400
    assert LOWEST < suggestion.tenth < 2 / 400


def test_one_easy_batch_makes_no_suggestion_where_single_steps_would():
    rates = np.geomspace(LOWEST, HIGHEST, 100)
    loss = 1.0 - 0.5 / (1.0 + (1e-3 / rates) ** 3)
    loss[30] -= 0.9
    losses = iter(loss)
    test = sweep(100, lambda rate: next(losses))
    assert 3e-4 < suggest(test).steepest < 5e-3
    faulty = test.lr[10 + int(np.argmin(np.gradient(test.smoothed, np.log(test.lr))[10:]))]
    assert faulty == pytest.approx(rates[30], rel=0.3)


def test_rates_grow_exponentially_between_the_ends():
    test = sweep(100, lambda rate: 1.0)
    assert (test.lr[0], test.lr[-1]) == pytest.approx((1e-7, 1e-2))
    assert np.diff(np.log(test.lr)) == pytest.approx(math.log(1e5) / 99)


def test_the_average_is_corrected_for_its_bias():
    losses = iter(np.linspace(3.0, 1.0, 100))
    test = sweep(100, lambda rate: next(losses))
    weights = [0.9 ** np.arange(k)[::-1] for k in range(1, 101)]
    wanted = [np.average(test.loss[: len(w)], weights=w) for w in weights]
    assert test.smoothed == pytest.approx(wanted)
    faulty, average = [], 0.0
    for loss in test.loss:
        average = 0.9 * average + 0.1 * loss
        faulty.append(average)
    assert faulty[0] == pytest.approx(0.3)  # uncorrected, the curve would begin by rising
    assert np.argmin(faulty) == 0


def test_a_diverging_loss_stops_the_sweep():
    calls = []

    def take_step(rate):
        calls.append(rate)
        return 1.0 if rate < 1e-4 else 1e4 * rate**0.5

    test = sweep(100, take_step)
    assert test.diverged
    assert len(calls) == len(test.lr) < 75
    assert test.smoothed[-1] > 4 * test.smoothed[10:].min()
    assert test.smoothed[-2] <= 4 * test.smoothed[10:].min()


@pytest.mark.parametrize("bad", [math.nan, math.inf])
def test_a_loss_that_is_not_finite_stops_and_is_left_out(bad):
    losses = iter([*np.linspace(1.0, 0.5, 60), bad, 1.0])
    test = sweep(100, lambda rate: next(losses))
    assert (len(test.lr), test.diverged) == (60, True)
    assert np.isfinite(test.smoothed).all()
    assert suggest(test) is not None
    with pytest.raises(OoflineError, match="not finite at the lowest rate"):
        sweep(100, lambda rate: bad)


def test_one_lucky_batch_at_the_start_does_not_stop_the_sweep():
    losses = iter([0.01, *np.linspace(1.0, 0.5, 99)])
    assert not sweep(100, lambda rate: next(losses)).diverged


def test_no_suggestion_where_the_loss_only_rises():
    losses = iter(np.linspace(1.0, 2.0, 100))
    assert suggest(sweep(100, lambda rate: next(losses))) is None
    short = np.array([1e-7, 1e-6])
    assert suggest(RangeTest(short, short, short, True, 100)) is None


@pytest.mark.parametrize(("lowest", "warned"), [(1e-3, True), (1e-5, False)])
def test_a_high_suggestion_comes_with_a_warning(lowest, warned):
    rates = np.geomspace(LOWEST, HIGHEST, 100)
    loss = np.abs(np.log10(rates / lowest)) + 1.0
    suggestion = suggest(RangeTest(rates, loss, loss, False, 100))
    assert ("2006.04884" in suggestion.warning) == warned
    assert suggestion.tenth == pytest.approx(lowest / 10, rel=0.2)


@pytest.mark.parametrize("settings", [
    {"layer_decay": 0.5, "head_lr": 0.01}, {"body_lr": 2e-4}, {"body_lr": 0.0, "head_lr": 0.02},
])  # fmt: skip
def test_groups_keep_their_proportion(parts, settings):
    p = parts(**settings)
    optimizer = build_optimizer(p.cfg, p.model)
    lr_finder.set_proportional(optimizer, p.cfg, 1e-5)
    groups = {group["name"]: group for group in optimizer.param_groups}
    ratios = {name: group["lr"] / group["peak_lr"] for name, group in groups.items()}
    assert len({round(ratio, 12) for ratio in ratios.values()}) == 1
    top = "head" if settings.get("body_lr") == 0 else "layer.3"
    assert groups[top]["lr"] == pytest.approx(1e-5)


@pytest.fixture
def material(write_competition, load_settings):
    """material(**settings) -> (cfg, Material) of a competition that can be learnt."""

    def make(kind="binary", n=240, **settings):
        paths = write_competition(kind, n=n)
        cfg = load_settings(paths, **settings)
        return cfg, prepare(cfg, paths)

    return make


@pytest.mark.parametrize("kind", ["binary", "regression"])
def test_a_competition_that_can_be_learnt_has_a_rate(material, kind):
    cfg, given = material(kind, n=480, batch_size=4)
    test = range_test(cfg, given)
    assert test.steps == 80  # an epoch has fewer than 100
    assert test.loss[0] == pytest.approx(1.0 if kind == "regression" else math.log(2), rel=0.8)
    suggestion = suggest(test)
    assert LOWEST < suggestion.steepest < HIGHEST
    assert LOWEST <= suggestion.tenth < HIGHEST
    again = range_test(cfg, given)
    np.testing.assert_array_equal(again.loss, test.loss)


def test_it_trains_on_the_rows_of_its_fold_alone(material, monkeypatch):
    cfg, given = material()
    seen, make = [], StepMaker.make

    def watched(self, index, micro_batch, scores=None):
        step = make(self, index, micro_batch, scores)
        seen.extend(np.concatenate(step.parts))
        return step

    monkeypatch.setattr(StepMaker, "make", watched)
    range_test(cfg, given, fold=1)
    assert sorted(seen) == sorted(given.folds.train_rows(1))


def test_it_starts_as_the_fold_itself_does(material, monkeypatch):
    """The first loss is that of the fold's first step: same model, same rows."""
    from oofline.crossval import train_units
    from oofline.training.pulse import Pulse

    cfg, given = material(dropout=0.1)
    first, add = [], Pulse.add

    def watched(self, step, parts, loss, norm):
        first.append(float(loss))
        add(self, step, parts, loss, norm)

    monkeypatch.setattr(Pulse, "add", watched)
    train_units(cfg, given.paths, [0], [42])
    assert range_test(cfg, given).loss[0] == pytest.approx(first[0], rel=1e-6)


def test_too_few_steps_and_too_little_memory_are_one_line(material, monkeypatch):
    cfg, given = material(n=90)
    with pytest.raises(ConfigError, match="an epoch has 8 optimizer steps, a range test needs 10"):
        range_test(cfg, given)

    def full(*args):
        raise torch.OutOfMemoryError("CUDA out of memory")

    monkeypatch.setattr(probe, "window_gradients", full)
    with pytest.raises(OoflineError, match="lower batch_size"):
        range_test(dataclasses.replace(cfg, batch_size=4), given)
