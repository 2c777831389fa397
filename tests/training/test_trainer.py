"""The loop: order of the hooks, bad losses, memory, early stopping, checkpoints."""

import json

import numpy as np
import pandas as pd
import pytest
import torch
from safetensors.torch import load_file

from oofline.config import CFG
from oofline.crossval import train_units
from oofline.errors import OoflineError
from oofline.models.losses import Loss
from oofline.models.text_model import TextModel, load_model
from oofline.results import Task
from oofline.scoring.metrics import score
from oofline.storage import read_json
from oofline.techniques import Technique, build_techniques
from oofline.training import fold as fold_module
from oofline.training import learner as learner_module
from oofline.training.precision import choose_precision
from oofline.training.predict import predict
from oofline.training.preparation import prepare

BINARY = Task("binary", ("y",), ("0", "1"), ("y",), "f1", "label")


class Recorder(Technique):
    """Takes note of every hook, and acts as configured."""

    name = "recorder"

    def __init__(self, extra=0.0, attack=None):
        super().__init__()
        self.calls, self.extra, self.attack = [], extra, attack
        self.counter = torch.zeros(1)

    def prepare(self, model):
        self.calls.append("prepare")
        assert not any(p.grad is not None for p in model.parameters())

    def extra_loss(self, step, logits, loss):
        self.calls.append(f"extra_loss {step.index}")
        assert loss.ndim == 0
        again, _ = step.forward()
        assert again.shape == logits.shape
        return (again**2).mean() * self.extra if self.extra else None

    def after_backward(self, step):
        self.calls.append(f"after_backward {step.index}")
        assert any(p.grad is not None for p in step.model.parameters())
        if self.attack:
            self.attack(step)

    def after_update(self, step):
        self.calls.append(f"after_update {step.index}")
        self.counter += 1

    def figures(self):
        return {"recorder/steps": float(self.counter)}

    def state(self):
        return {"counter": self.counter}

    def load_state(self, tensors):
        self.counter = tensors["counter"]


@pytest.fixture
def train(write_competition, load_settings, monkeypatch):
    """train(exp, techniques, kind, **settings) -> (folder of fold 0, paths, cfg)."""
    made = {}

    def run(exp="a", techniques=(), kind="regression", **settings):
        if "paths" not in made:
            made["paths"] = write_competition(kind, n=66)
        monkeypatch.setattr(learner_module, "build_techniques", lambda cfg, task: list(techniques))
        cfg = load_settings(made["paths"], exp=exp, **settings)
        train_units(cfg, made["paths"], [0], [42])
        return made["paths"].fold(exp, 42, 0), made["paths"], cfg

    return run


def test_default_settings_build_no_technique():
    assert build_techniques(CFG(), BINARY) == []


def test_hooks_run_in_order_once_a_window(train):
    recorder = Recorder()
    train(techniques=[recorder], epochs=1, accumulation=4)  # 44 rows: 6 batches, windows of 4 and 2
    assert recorder.calls == [
        "prepare",
        *["extra_loss 0"] * 4, "after_backward 0", "after_update 0",
        *["extra_loss 1"] * 2, "after_backward 1", "after_update 1",
    ]  # fmt: skip


def test_extra_loss_and_after_backward_change_what_is_learnt(train):
    def double(step):
        for _ in step:
            _, loss = step.forward()
            step.backward(3.0 * loss)

    weights = [
        load_file(train(name, techniques, clip_norm=0.0)[0] / "model.safetensors")["output.weight"]
        for name, techniques in {
            "plain": [], "idle": [Recorder()], "extra": [Recorder(extra=1.0)],
            "attack": [Recorder(attack=double)],
        }.items()
    ]  # fmt: skip
    assert torch.equal(weights[0], weights[1])
    assert not torch.equal(weights[0], weights[2])
    assert not torch.equal(weights[0], weights[3])


def test_techniques_figures_reach_the_log_and_their_state_the_checkpoint(train, monkeypatch):
    logged = []
    monkeypatch.setattr(
        "oofline.tracking.Tracker.log", lambda self, values, step: logged.append(values)
    )
    train(techniques=[Recorder()], epochs=2)
    assert max(v.get("recorder/steps", 0) for v in logged) == 12
    names = {name for values in logged for name in values}
    assert {"train_loss", "valid_loss", "score", "grad_norm", "samples_per_s", "memory_mb"} <= names
    assert {"lr/embeddings", "lr/layer.1", "lr/head", "lr/head.no_decay"} <= names


def test_a_resumed_technique_keeps_its_state(train, monkeypatch):
    first = Recorder()
    calls = []

    def die(self):
        calls.append(self.progress.step)
        if self.progress.step == 4:
            raise KeyboardInterrupt
        return step(self)

    step = fold_module.Trainer._optimizer_step
    with monkeypatch.context() as patch:
        patch.setattr(fold_module.Trainer, "_optimizer_step", die)
        with pytest.raises(KeyboardInterrupt):
            train(techniques=[first], save_minutes=0)
    second = Recorder()
    train(techniques=[second], save_minutes=0)
    assert float(second.counter) == 12


def test_a_loss_that_is_not_finite_stops_with_step_and_rows(train, monkeypatch):
    forward, calls = Loss.forward, []

    def poisoned(self, logits, labels):
        calls.append(1)
        return forward(self, logits, labels) * (float("nan") if len(calls) == 4 else 1.0)

    monkeypatch.setattr(Loss, "forward", poisoned)
    with pytest.raises(OoflineError, match=r"loss is nan at optimizer step 3 \(training rows \d+,"):
        train(save_minutes=0)


def test_a_bad_loss_is_never_saved(train, monkeypatch):
    forward, calls = Loss.forward, []

    def poisoned(self, logits, labels):
        calls.append(1)
        return forward(self, logits, labels) * (float("inf") if len(calls) == 4 else 1.0)

    with monkeypatch.context() as patch:
        patch.setattr(Loss, "forward", poisoned)
        with pytest.raises(OoflineError, match="loss is inf"):
            train("b", save_minutes=0)
    folder = train("b", save_minutes=0)[0]  # the same command, without the poison, goes on
    assert np.isfinite(pd.read_csv(folder / "history.csv").to_numpy()).all()
    assert torch.isfinite(load_file(folder / "model.safetensors")["output.weight"]).all()


def test_out_of_memory_goes_on_with_smaller_micro_batches(train, monkeypatch, capsys):
    forward, widest = TextModel.forward, []

    def small(self, input_ids, attention_mask=None, *rest):
        if self.training and len(input_ids) > 3:
            raise torch.OutOfMemoryError("CUDA out of memory")
        widest.append(len(input_ids))
        return forward(self, input_ids, attention_mask, *rest)

    plain = train("plain", dropout=0.0)[0]
    monkeypatch.setattr(TextModel, "forward", small)
    folder = train("small", dropout=0.0)[0]
    assert "out of memory at step 0: 4 rows per forward pass" in capsys.readouterr().out
    assert read_json(folder / "scores.json")["micro_batch"] == 2
    histories = [pd.read_csv(f / "history.csv") for f in (plain, folder)]
    assert histories[1]["valid_loss"].to_numpy() == pytest.approx(
        histories[0]["valid_loss"].to_numpy(), rel=1e-3
    )


def test_out_of_memory_with_one_row_says_what_to_do(train, monkeypatch):
    def never(self, *batch):
        raise torch.OutOfMemoryError("CUDA out of memory")

    monkeypatch.setattr(TextModel, "forward", never)
    with pytest.raises(OoflineError, match="one row per forward pass"):
        train()


def scripted_scores(monkeypatch, values):
    """Make the validation score follow a script."""
    left = iter(values)
    monkeypatch.setattr("oofline.training.evaluation.score", lambda task, y, pred: next(left))


def test_patience_counts_evaluations_without_gain(train, monkeypatch):
    scripted_scores(monkeypatch, [0.9, 0.5, 0.6, 0.55, 0.4, 0.3])  # rmse: lower is better
    folder = train(epochs=3, evals_per_epoch=2, patience=2)[0]
    history = pd.read_csv(folder / "history.csv")
    assert history["score"].tolist() == [0.9, 0.5, 0.6, 0.55]
    assert read_json(folder / "scores.json")["best_step"] == history["step"][1]


def test_patience_on_the_loss_ignores_the_score(train, monkeypatch):
    scripted_scores(monkeypatch, [0.1, 0.2, 0.3, 0.4])
    folder = train(epochs=4, patience=1, monitor="loss", lr=1e-4)[0]
    history = pd.read_csv(folder / "history.csv")
    gains = history["valid_loss"].diff().dropna() < 0
    assert len(history) == 4 or not gains.iloc[-1]
    assert len(history) > 1


@pytest.mark.parametrize("checkpoint", ["last", "best", "average"])
def test_checkpoint_rules_predict_with_the_weights_they_name(train, monkeypatch, checkpoint):
    scripted_scores(monkeypatch, [0.9, 0.2, 0.6, 0.5])
    kept = []
    evaluate = fold_module.Evaluator.evaluate

    def keep(self):
        evaluate(self)
        kept.append(({k: v.clone() for k, v in self.model.state_dict().items()}, self.predictions))

    monkeypatch.setattr(fold_module.Evaluator, "evaluate", keep)
    folder, paths, cfg = train(epochs=4, checkpoint=checkpoint, average_last=2)
    saved = load_file(folder / "model.safetensors")
    weights = [entry[0] for entry in kept]
    wanted = {
        "last": weights[3],
        "best": weights[1],
        "average": {k: (weights[2][k] + weights[3][k]) / 2 for k in saved},
    }[checkpoint]
    assert all(torch.allclose(saved[k].float(), wanted[k].float(), atol=1e-7) for k in saved)
    frame = pd.read_parquet(folder / "oof.parquet")
    assert frame["last_target"].to_numpy() == pytest.approx(kept[3][1].last[:, 0])
    assert frame["best_target"].to_numpy() == pytest.approx(kept[1][1].last[:, 0])
    # what is stored is what the saved model says
    material = prepare(cfg, paths)
    model = load_model(cfg, material.competition.task, folder)
    again = predict(
        model, material.train_tokens, material.folds.valid_rows(0), choose_precision(cfg), 7
    )
    assert frame["pred_target"].to_numpy() == pytest.approx(again.pred[:, 0], abs=1e-5)


def test_best_and_last_are_both_scored(train):
    folder, paths, cfg = train(epochs=3, checkpoint="best", lr=3e-3)
    scores, frame = read_json(folder / "scores.json"), pd.read_parquet(folder / "oof.parquet")
    material = prepare(cfg, paths)
    y = material.competition.y[material.folds.valid_rows(0)]
    for prefix, key in (("pred", "score"), ("last", "score_last"), ("best", "score_best")):
        value = score(material.competition.task, y, frame[[f"{prefix}_target"]].to_numpy())
        assert scores[key] == pytest.approx(value)
    assert scores["score"] == scores["score_best"] <= scores["score_last"]
    assert scores["ci95"][0] <= scores["score"] <= scores["ci95"][1]
    assert json.dumps(scores)


def test_fp16_with_its_scaler_trains_through_an_overflow(train):
    folder = train(precision="fp16", epochs=3)[0]
    history = pd.read_csv(folder / "history.csv")
    assert np.isfinite(history.to_numpy()).all()
    assert history["valid_loss"].iloc[-1] < history["valid_loss"].iloc[0]


def test_predictions_come_in_the_order_of_the_rows_asked_for(train):
    folder, paths, cfg = train()
    material = prepare(cfg, paths)
    model = load_model(cfg, material.competition.task, folder)
    kind, rows = choose_precision(cfg), np.arange(66)
    straight = predict(model, material.train_tokens, rows, kind, 5).pred
    shuffled = np.random.default_rng(0).permutation(66)
    assert predict(model, material.train_tokens, shuffled, kind, 16).pred == pytest.approx(
        straight[shuffled], abs=1e-5
    )
    assert len(np.unique(straight.round(6))) > 40  # rows differ, or the order proved nothing


@pytest.mark.parametrize("setting", [{}, {"dropout": 0.3}])
def test_regression_trains_without_dropout_unless_it_is_asked_for(train, setting):
    seen = []
    build = learner_module.build_model

    def spy(*args):
        model = build(*args)
        seen.append(max(m.p for m in model.modules() if isinstance(m, torch.nn.Dropout)))
        return model

    learner_module.build_model = spy
    try:
        train(epochs=1, **setting)
    finally:
        learner_module.build_model = build
    assert seen == [setting.get("dropout", 0.0)]
