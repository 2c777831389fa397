"""Techniques that touch the weights themselves: optimizer groups, checkpoint, resume."""

import numpy as np
import pandas as pd
import pytest
import torch
from safetensors.torch import load_file

from oofline.config import CFG
from oofline.crossval import train_units
from oofline.models.text_model import build_model, load_model, save_model
from oofline.results import Task
from oofline.storage import read_json
from oofline.techniques import build_techniques
from oofline.techniques.mixout import Mixout
from oofline.training.optim import build_optimizer
from oofline.training.trainer import Trainer

BINARY = Task("binary", ("y",), ("0", "1"), ("y",), "f1", "label")
FAMILIES = ["bert", "roberta", "deberta", "electra", "modernbert"]
SETTINGS = {
    "reinit": {"reinit_layers": 1}, "freeze": {"freeze_layers": 1},
    "mixout": {"mixout_p": 0.5, "mixout_mask": "column"},
    "mixconnect": {"mixout_p": 0.5, "mixout_mask": "element"}, "ema": {"ema_decay": 0.9},
    "all": {"reinit_layers": 1, "freeze_layers": 1, "mixout_p": 0.5, "ema_decay": 0.9},
}  # fmt: skip


class NoTokenizer:
    def save_pretrained(self, folder):
        return []


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("which", SETTINGS)
def test_each_trainable_parameter_is_in_one_group_and_in_the_checkpoint(
    tiny_model, tmp_path, family, which
):
    cfg = CFG(model=str(tiny_model(family)), max_len=24, **SETTINGS[which])
    model = build_model(cfg, BINARY, np.array([0, 1]))
    names = [name for name, _ in model.named_parameters()]
    for technique in build_techniques(cfg, BINARY):
        technique.prepare(model)
    groups = build_optimizer(cfg, model).param_groups
    grouped = sorted(id(p) for group in groups for p in group["params"])
    assert grouped == sorted(id(p) for p in model.parameters() if p.requires_grad)
    assert [name for name, _ in model.named_parameters()] == names
    save_model(model, NoTokenizer(), tmp_path)
    saved = load_file(tmp_path / "model.safetensors")
    assert set(saved) == {*names, *(n for n, _ in model.named_buffers() if n in model.state_dict())}
    assert not any("pretrained" in name for name in saved)
    again = load_model(cfg, BINARY, tmp_path).eval()
    ids = torch.randint(5, 50, (3, 7))
    assert torch.equal(again(ids), model.eval()(ids))


def interrupted(cfg, paths, monkeypatch, at):
    """Train, and break off before step ``at``; the state was saved there."""
    step = Trainer._optimizer_step

    def die(self):
        if self.progress.step == at:
            raise KeyboardInterrupt
        step(self)

    with monkeypatch.context() as patch:
        patch.setattr(Trainer, "_optimizer_step", die)
        with pytest.raises(KeyboardInterrupt):
            train_units(cfg, paths, [0], [42])


def identical(paths, first, second):
    one, two = (load_file(paths.fold(exp, 42, 0) / "model.safetensors") for exp in (first, second))
    tables = [pd.read_parquet(paths.fold(exp, 42, 0) / "oof.parquet") for exp in (first, second)]
    did = [
        read_json(paths.fold(exp, 42, 0) / "scores.json")["techniques"] for exp in (first, second)
    ]
    same = one.keys() == two.keys() and all(torch.equal(one[name], two[name]) for name in one)
    return same and tables[0].equals(tables[1]) and did[0] == did[1]


RUN = {"epochs": 3, "evals_per_epoch": 2, "save_minutes": 0, "dropout_sample_p": 0.1}


@pytest.mark.parametrize("which", SETTINGS)
def test_a_broken_off_run_goes_on_bit_identically(
    write_competition, load_settings, monkeypatch, which
):
    paths = write_competition("binary", n=66)
    settings = RUN | SETTINGS[which] | ({"checkpoint": "best"} if which == "ema" else {})
    train_units(load_settings(paths, exp="plain", **settings), paths, [0], [42])
    cut = load_settings(paths, exp="cut", **settings)
    for at in (0, 4, 13):
        interrupted(cut, paths, monkeypatch, at)
    train_units(cut, paths, [0], [42])
    assert identical(paths, "plain", "cut")
    did = read_json(paths.fold("cut", 42, 0) / "scores.json")["techniques"]
    assert did
    assert all(value > 0 for figures in did.values() for value in figures.values())


def test_w0_taken_after_the_state_was_loaded_is_caught(
    write_competition, load_settings, monkeypatch
):
    paths = write_competition("binary", n=66)
    settings = RUN | SETTINGS["mixout"]
    train_units(load_settings(paths, exp="plain", **settings), paths, [0], [42])
    cut = load_settings(paths, exp="cut", **settings)
    interrupted(cut, paths, monkeypatch, 4)

    def late(self, tensors):
        for linear in self.mixed:
            linear.pretrained.copy_(linear.weight.detach())

    monkeypatch.setattr(Mixout, "load_state", late)
    train_units(cut, paths, [0], [42])
    assert not identical(paths, "plain", "cut")
