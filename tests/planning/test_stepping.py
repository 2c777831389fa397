"""Steps that stand for an epoch: which windows, what is timed, what is counted."""

import dataclasses
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from oofline.planning import calibration
from oofline.planning.calendar import Stretch
from oofline.planning.calibration import Calibrator
from oofline.planning.stepping import FEWEST, Stepper, Stepping, evenly
from oofline.training.preparation import prepare
from oofline.training.probe import Probe


@pytest.fixture
def probe(write_competition, load_settings):
    """probe(**settings) -> (Probe, Material) of fold 0."""
    made = []

    def make(**settings):
        paths = made[0] if made else write_competition(n=120)
        made.append(paths)
        cfg = load_settings(paths, **settings)
        material = prepare(cfg, paths)
        return Probe(cfg, material, 42, 0), material

    return make


@pytest.fixture
def clock(monkeypatch):
    """A clock that only steps and predictions move: 10 ms a token, 1 ms a predicted row."""
    now = SimpleNamespace(seconds=0.0, steps=[])
    take, predict = Stepper._take, calibration.predict

    def timed(self, index, scores):
        take(self, index, scores)
        epoch, position = divmod(index, len(self.windows(0)[0]))
        now.seconds += 0.01 * float(self.windows(epoch)[0][position])
        now.steps.append(index)

    def predicted(model, tokens, rows, *args, **kwargs):
        now.seconds += 0.001 * len(rows)
        return predict(model, tokens, rows, *args, **kwargs)

    monkeypatch.setattr(Stepper, "_take", timed)
    monkeypatch.setattr(calibration, "predict", predicted)
    return now


def test_windows_are_spread_evenly_over_their_sizes():
    sizes = np.random.default_rng(1).integers(10, 1000, 500)
    chosen = evenly(sizes, 50)
    assert len(set(chosen)) == 50
    assert sizes[chosen].mean() == pytest.approx(sizes.mean(), rel=0.02)
    assert sizes[chosen[:10]].mean() == pytest.approx(sizes.mean(), rel=0.3)  # ends anywhere
    assert sorted(evenly(sizes[:3], 50)) == [0, 1, 2]


def test_long_windows_weigh_more():
    found = Stepping(np.array([1.0, 3.0]), np.array([100, 300]), np.array([8, 8]), 1.0, 1.0)
    assert found.seconds_per_token == pytest.approx(0.01)
    assert found.error == pytest.approx(0)
    uneven = Stepping(np.array([1.0, 5.0]), np.array([100, 300]), np.array([8, 8]), 1.0, 1.0)
    assert uneven.seconds_per_token == pytest.approx(6 / 400)
    assert uneven.error > 0.05


def test_a_stretch_is_timed_for_its_time_and_at_least_three_steps(probe, clock):
    made, _ = probe()
    stepper = Stepper(made, lambda: clock.seconds)
    found = stepper.stretch(Stretch("", 0, 2), seconds=0.0)
    assert len(found.seconds) == FEWEST
    assert found.seconds_per_token == pytest.approx(0.01)
    sizes, rows = stepper.windows(0)
    assert clock.steps[0] == int(np.argmax(sizes))  # the largest first: the peak of memory
    assert rows.sum() == len(made.data.rows)
    assert sizes.sum() == made.data.tokens.lengths[made.data.rows].sum()
    everything = stepper.stretch(Stretch("", 0, 2), seconds=1e6)
    assert len(everything.seconds) == len(sizes)


def test_a_late_technique_costs_more_operations_in_its_epochs_alone(probe, clock):
    made, _ = probe(awp_last_epochs=1, awp_lr=0.1, epochs=3)
    stepper = Stepper(made, lambda: clock.seconds)
    early = stepper.stretch(Stretch("", 0, 2), 0.0)
    late = stepper.stretch(Stretch("awp", 2, 1), 0.0)
    assert (early.passes, late.passes) == (1.0, 2.0)
    assert late.flops_per_token / early.flops_per_token == pytest.approx(2.0, rel=0.2)
    windows = len(stepper.windows(0)[0])
    assert {index // windows for index in clock.steps} == {0, 2}


def test_operations_are_those_of_matrix_products(probe, clock):
    """Six per weight and token (2 forward, 4 backward), and attention and padding besides."""
    made, _ = probe()
    found = Stepper(made).stretch(Stretch("", 0, 2), 0.0)
    matrices = sum(p.numel() for name, p in made.model.named_parameters()
                   if p.ndim == 2 and "embeddings" not in name)  # fmt: skip
    assert 0.9 * 6 * matrices < found.flops_per_token < 1.8 * 6 * matrices


def test_activations_are_those_of_the_largest_step_and_halved_with_its_rows(probe):
    whole, _ = probe()
    many = Stepper(whole).activations()
    sizes, _ = Stepper(whole).windows(0)
    width, layers = 32, 3
    assert many > 4 * sizes.max() * width * layers * 4  # at least four states a layer, float32
    fewer, _ = probe(batch_size=4)
    assert 0.3 * many < Stepper(fewer).activations() < 0.8 * many
    spared, _ = probe(gradient_checkpointing=True)
    assert Stepper(spared).activations() < 0.7 * many


def test_a_calibration_measures_the_files_and_leaves_none(probe, clock):
    made, material = probe(checkpoint="best")
    before = sorted(material.paths.root.rglob("*"))
    parts = [Stretch("", 0, 2)]
    found = Calibrator(material, made, 0, parts, 1.0, lambda: clock.seconds).run(build_s=7.0)
    assert sorted(material.paths.root.rglob("*")) == before
    weights = 4e-9 * sum(p.numel() for p in made.model.parameters())
    assert found.rates.build_s == 7.0
    assert found.tokens_per_s == (pytest.approx(100.0),)
    assert weights < found.model_gb < weights + 1e-3
    assert 3 * weights < found.state_gb < 3.5 * weights + 1e-3  # weights and two moments
    assert found.fixed_gb == pytest.approx(4 * weights, rel=0.05)
    assert found.half_gb == pytest.approx(weights / 2)
    assert found.gradient_gb == pytest.approx(weights)
    assert found.row_gb[0] >= found.row_gb[1] > 0
    lengths = made.data.tokens.lengths[material.folds.valid_rows(0)]
    assert found.rates.tokens_per_evaluation_second == pytest.approx(
        lengths.mean() / 0.001, rel=0.05
    )
    assert found.layers == 3
    assert found.memory_gb > 0.05


@pytest.mark.parametrize("kind", ["qa", "multilabel", "pair"])
def test_other_kinds_of_task_are_calibrated_too(write_competition, load_settings, kind):
    paths = write_competition(kind, n=60, max_len=48, doc_stride=8)
    cfg = dataclasses.replace(load_settings(paths), epochs=1)
    material = prepare(cfg, paths)
    made = Probe(cfg, material, 42, 0)
    found = Calibrator(material, made, 0, [Stretch("", 0, 1)], 0.1).run(build_s=0.0)
    assert found.rates.tokens_per_evaluation_second > 0
    assert found.predict_flops_per_token > 0
    assert torch.isfinite(next(made.model.parameters())).all()
