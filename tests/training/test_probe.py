"""A probe takes the very steps of its fold, and leaves nothing behind."""

import pytest

from oofline.crossval import train_units
from oofline.training.optim import set_rates
from oofline.training.plan import make_plan
from oofline.training.preparation import prepare
from oofline.training.probe import Probe
from oofline.training.pulse import Pulse


def test_its_steps_are_those_of_the_fold(write_competition, load_settings, monkeypatch):
    paths = write_competition(n=60)
    cfg = load_settings(
        paths, epochs=2, accumulation=2, dropout=0.1, ema_decay=0.5, awp_last_epochs=1, awp_lr=0.1
    )
    losses, add = [], Pulse.add

    def watched(self, step, parts, loss, norm):
        losses.append(float(loss))
        add(self, step, parts, loss, norm)

    monkeypatch.setattr(Pulse, "add", watched)
    material = prepare(cfg, paths)
    probe = Probe(cfg, material, 42, 1)
    assert not paths.experiment(cfg.exp).exists()
    plan = make_plan(cfg, len(probe.data.rows))
    mine = []
    for index in range(plan.steps_per_epoch):  # of the first epoch: then the fold is evaluated
        set_rates(probe.optimizer, cfg, plan, index)
        mine.append(float(probe.take(index)))
    train_units(cfg, paths, [1], [42])
    assert mine == pytest.approx(losses[: len(mine)], rel=1e-6)
    assert len(losses) == plan.total_steps
    assert {technique.name for technique in probe.techniques} == {"awp", "ema"}
