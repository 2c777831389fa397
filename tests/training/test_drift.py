"""Distance from the pretrained weights: right, after resuming too, and a proof of life."""

import dataclasses

import numpy as np
import pytest
import torch

from oofline.crossval import train_units
from oofline.errors import ConfigError, OoflineError
from oofline.models.structure import encoder_layers, parameter_depth
from oofline.storage import read_json
from oofline.training import drift as drift_module
from oofline.training import fold as fold_module
from oofline.training.drift import SAMPLE, Drift, evenly_spaced
from oofline.training.optim import build_optimizer

FAMILIES = ["bert", "roberta", "deberta", "electra", "modernbert", "distilbert", "albert"]


def exact(model, start):
    """Independent: every element, in float64, by depth."""
    depths, sums = parameter_depth(model.backbone), {}
    for name, now in model.backbone.named_parameters():
        far = np.square(now.detach().double().numpy() - start[name]).sum()
        near = np.square(start[name]).sum()
        depth = depths[name]
        for group in ("body", f"layer.{depth}" if depth else "embeddings"):
            sums[group] = np.add(sums.get(group, (0.0, 0.0)), (far, near))
    return {group: float(np.sqrt(far / near)) for group, (far, near) in sums.items()}


def doubles(model):
    return {k: v.detach().double().numpy().copy() for k, v in model.backbone.named_parameters()}


def shake(model, seed=0):
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for number, p in enumerate(model.backbone.parameters()):
            p += 0.01 * (1 + number % 5) * torch.randn(p.shape, generator=generator)


@pytest.mark.parametrize("family", FAMILIES)
def test_distance_of_every_layer(parts, family, monkeypatch):
    model = parts(family=family).model
    start, sampled = doubles(model), Drift(model)
    monkeypatch.setattr(drift_module, "SAMPLE", 10**9)
    whole = Drift(model)
    assert set(whole.distances().values()) == {0.0}
    shake(model)
    wanted = exact(model, start)
    assert whole.distances() == pytest.approx(wanted, rel=1e-5)
    layers = [] if family == "albert" else ["layer.2", "layer.3"]
    assert list(whole.distances()) == ["embeddings", "layer.1", *layers, "body"]
    monkeypatch.undo()
    assert sampled.distances() == pytest.approx(wanted, rel=0.05)


def test_the_sample_is_small_and_reaches_every_column():
    weight = torch.arange(64 * 768 * 4.0).view(-1, 768)
    sample = evenly_spaced(weight)
    assert 0.9 * SAMPLE < len(sample) <= SAMPLE
    assert len(torch.unique(sample % 768)) == 768
    assert sample.data_ptr() == weight.data_ptr()  # nothing was copied
    faulty = weight.flatten()[:: weight.numel() // SAMPLE]
    assert len(torch.unique(faulty % 768)) == 8
    for shape in ((1,), (5,), (2048,), (3000,), (4096, 1), (7, 4096)):
        assert 0 < len(evenly_spaced(torch.zeros(shape))) <= SAMPLE


def test_one_column_that_moved_is_seen_where_a_plain_stride_misses_it():
    before = torch.ones(256, 768)
    after = before.clone()
    after[:, 5] += 1.0
    wanted = float((after - before).norm() / before.norm())
    ours = (evenly_spaced(after) - evenly_spaced(before)).norm() / evenly_spaced(before).norm()
    assert float(ours) == pytest.approx(wanted, rel=0.3)
    stride = before.numel() // SAMPLE
    faulty = (after - before).flatten()[::stride].norm()
    assert float(faulty) == 0.0


def trained(parts, **settings):
    p = parts(**settings)
    optimizer = build_optimizer(p.cfg, p.model)
    drift = Drift(p.model)
    for index in range(2):
        p.gradient(p.steps.make(index, 4))
        optimizer.step()
    return p.model, drift


@pytest.mark.parametrize("settings", [
    {}, {"body_lr": 0.0}, {"group_lrs": "embeddings=0"}, {"layer_decay": 0.5},
])  # fmt: skip
def test_training_that_does_as_it_says_passes(parts, settings):
    distances = trained(parts, **settings)[1].check()
    frozen = {"body_lr": list(distances), "group_lrs": ["embeddings"]}
    for group, far in distances.items():
        assert (far == 0) == any(group in frozen.get(name, []) for name in settings)


def test_a_layer_with_a_rate_that_stays_where_it_was_is_an_error(parts):
    model, drift = trained(parts)
    start = parts().model
    layers = encoder_layers(model.backbone), encoder_layers(start.backbone)
    layers[0][1].load_state_dict(layers[1][1].state_dict())
    with pytest.raises(ConfigError, match=r"layer\.2 has a learning rate, but its weights did not"):
        drift.check()
    layers[0][1].requires_grad_(False)
    assert drift.check()["layer.2"] == 0.0


def test_a_frozen_layer_that_moves_is_an_error(parts):
    model, drift = trained(parts, group_lrs="layer.1=0")
    with torch.no_grad():
        encoder_layers(model.backbone)[0].attention.self.query.bias += 1e-6
    with pytest.raises(OoflineError, match=r"layer\.1 is frozen, but its weights moved"):
        drift.check()


@pytest.fixture
def fold(write_competition, load_settings):
    """fold(exp, **settings) -> (folder of fold 0, function that trains it)."""
    paths = write_competition("regression", n=66)

    def make(exp, **settings):
        cfg = load_settings(paths, exp=exp, **({"save_minutes": 0} | settings))
        return paths.fold(exp, 42, 0), lambda: train_units(cfg, paths, [0], [42])

    return make


def test_every_run_logs_distances_and_keeps_the_last(fold, monkeypatch):
    logged = []
    monkeypatch.setattr(
        "oofline.tracking.Tracker.log", lambda self, values, step: logged.append(values)
    )
    folder, train = fold("a", group_lrs="embeddings=0")
    train()
    points = [values for values in logged if "score" in values]
    groups = ["embeddings", "layer.1", "layer.2", "layer.3", "body"]
    assert len(points) == 2
    assert [name for name in points[0] if "/" in name] == [f"distance/{g}" for g in groups]
    kept = read_json(folder / "scores.json")["distance"]
    assert kept == {group: points[-1][f"distance/{group}"] for group in groups}
    assert kept["embeddings"] == 0.0
    assert 0 < points[0]["distance/layer.3"] < points[1]["distance/layer.3"] < 1


def interrupt(monkeypatch, train, step):
    original = fold_module.Trainer._optimizer_step

    def die(self):
        if self.progress.step == step:
            raise KeyboardInterrupt
        return original(self)

    with monkeypatch.context() as patch:
        patch.setattr(fold_module.Trainer, "_optimizer_step", die)
        with pytest.raises(KeyboardInterrupt):
            train()


def test_a_resumed_run_still_measures_from_the_pretrained_weights(fold, monkeypatch):
    whole, train = fold("whole")
    train()
    resumed, train = fold("resumed")
    interrupt(monkeypatch, train, 9)
    train()
    wanted = read_json(whole / "scores.json")["distance"]
    assert read_json(resumed / "scores.json")["distance"] == wanted

    late, train = fold("late")  # the faulty form: the sample is taken from the loaded state
    interrupt(monkeypatch, train, 9)
    resume = fold_module._FoldRun._resume

    def sampled_late(self):
        evaluator = resume(self)
        self.learner = dataclasses.replace(self.learner, drift=Drift(self.model))
        return evaluator

    monkeypatch.setattr(fold_module._FoldRun, "_resume", sampled_late)
    train()
    assert read_json(late / "scores.json")["distance"]["body"] < 0.7 * wanted["body"]


def test_a_rate_too_small_to_move_a_weight_stops_the_run(fold):
    folder, train = fold("a", group_lrs="layer.2=1e-30", warmup_fraction=0.0)
    with pytest.raises(ConfigError, match=r"layer\.2 has a learning rate"):
        train()
    assert not (folder / "scores.json").exists()
