"""Settings reach the loop: rates, clipping, loss scale, and what is fitted inside the fold."""

import numpy as np
import pandas as pd
import pytest
import torch
from safetensors.torch import load_file

from oofline.crossval import train_units
from oofline.errors import OoflineError
from oofline.models.text_model import TextModel
from oofline.storage import read_json
from oofline.training import fold as fold_module
from oofline.training import learner as learner_module
from oofline.training.plan import make_plan, rate_factor
from oofline.training.preparation import prepare
from oofline.training.trainer import Trainer


@pytest.fixture
def train(write_competition, load_settings):
    """train(kind, **settings) -> (paths, cfg), fold 0 trained."""
    made = {}

    def run(kind="regression", **settings):
        if "paths" not in made:
            made["paths"] = write_competition(kind, n=66)
        cfg = load_settings(made["paths"], **settings)
        train_units(cfg, made["paths"], [0], [42])
        return made["paths"], cfg

    return run


@pytest.fixture
def optimizer_steps(monkeypatch):
    """What the optimizer sees at each of its steps: (rate of the head, gradient norm)."""
    seen, step = [], torch.optim.AdamW.step

    def spy(self, *args, **kwargs):
        head = next(g for g in self.param_groups if g["name"] == "head")
        grads = [p.grad for g in self.param_groups for p in g["params"] if p.grad is not None]
        norm = torch.stack([g.norm() for g in grads]).norm().item()
        scale = getattr(self, "grad_scale", None)  # what the fused step still divides by
        norm = norm if scale is None else norm / float(scale)
        seen.append((head["lr"], norm))
        return step(self, *args, **kwargs)

    monkeypatch.setattr(torch.optim.AdamW, "step", spy)
    return seen


@pytest.mark.parametrize("schedule", ["linear", "cosine", "constant"])
def test_every_step_runs_at_the_planned_rate(train, optimizer_steps, schedule):
    _, cfg = train(schedule=schedule, warmup_fraction=0.3, epochs=3, head_lr=5e-3)
    plan = make_plan(cfg, 44)
    wanted = [5e-3 * rate_factor(cfg, plan, step) for step in range(plan.total_steps)]
    assert [rate for rate, _ in optimizer_steps] == pytest.approx(wanted)


@pytest.mark.parametrize("precision", ["fp32", "fp16"])
def test_gradients_are_clipped_in_true_units(train, optimizer_steps, precision):
    train(precision=precision, clip_norm=1e-3, epochs=1)
    norms = [norm for _, norm in optimizer_steps]
    assert norms == pytest.approx([1e-3] * len(norms), rel=2e-2)


def test_clip_norm_0_clips_nothing(train, optimizer_steps):
    train(clip_norm=0.0, epochs=1)
    assert max(norm for _, norm in optimizer_steps) > 0.1


def test_targets_are_standardised_inside_the_fold(train):
    paths, cfg = train(epochs=1)
    material = prepare(cfg, paths)
    inside = material.competition.y[material.folds.train_rows(0)]
    stored = load_file(paths.fold("base", 42, 0) / "model.safetensors")
    assert stored["target_mean"].numpy() == pytest.approx(inside.mean(axis=0), rel=1e-5)
    assert stored["target_std"].numpy() == pytest.approx(inside.std(axis=0), rel=1e-5)
    assert inside.mean() != pytest.approx(material.competition.y.mean(), rel=1e-4)


def test_class_weights_are_computed_inside_the_fold(train, monkeypatch):
    seen, build = [], learner_module.build_loss
    monkeypatch.setattr(learner_module, "build_loss", lambda *a: seen.append(build(*a)) or seen[-1])
    paths, cfg = train("binary", class_weights="balanced", epochs=1, n_folds=4)
    material = prepare(cfg, paths)
    y = material.competition.y[material.folds.train_rows(0)]
    wanted = len(y) / (2 * np.bincount(y))
    assert seen[-1].row_weights.numpy() == pytest.approx(wanted)
    assert len(y) < len(material.competition.y)


def test_an_overflow_in_fp16_skips_the_step_and_lowers_the_scale(train, monkeypatch):
    gradients, log = Trainer._gradients, []

    def overflow(self, step):
        result = gradients(self, step)
        if step.index == 2:
            self.optimizer.param_groups[0]["params"][0].grad.fill_(float("inf"))
            self.scaler._per_optimizer_states[id(self.optimizer)]["found_inf_per_device"] = {
                torch.device("cpu"): torch.tensor(1.0)
            }
        log.append((self.scaler.get_scale(), self.evaluator.model.output.weight.detach().clone()))
        return result

    monkeypatch.setattr(Trainer, "_gradients", overflow)
    train(precision="fp16", epochs=1)
    scales = [scale for scale, _ in log]
    assert scales[3] == scales[2] / 2
    assert torch.equal(log[3][1], log[2][1])  # step 2 changed nothing
    assert not torch.equal(log[2][1], log[1][1])


def test_a_gradient_that_is_not_finite_stops_before_it_is_saved(train, monkeypatch):
    backward = fold_module.Trainer._gradients

    def poison(self, step):
        loss, norm = backward(self, step)
        if step.index == 3:
            self.optimizer.param_groups[0]["params"][0].grad.fill_(float("inf"))
            norm = norm * float("inf")
        return loss, norm

    with monkeypatch.context() as patch:
        patch.setattr(Trainer, "_gradients", poison)
        with pytest.raises(OoflineError, match=r"gradient's norm is inf at optimizer step 3"):
            train(save_minutes=0)
    paths, _ = train(save_minutes=0)  # the saved state is from before it
    history = pd.read_csv(paths.fold("base", 42, 0) / "history.csv")
    assert np.isfinite(history.to_numpy()).all()


def test_predictions_that_are_not_finite_are_refused(train, monkeypatch):
    monkeypatch.setattr(TextModel, "predictions", lambda self, logits: logits[0] * float("nan"))
    with pytest.raises(OoflineError, match="predictions are not finite at step 6"):
        train(epochs=1)


def test_an_undefined_score_is_neither_best_nor_out_of_patience(train, monkeypatch):
    scores = iter([float("nan"), 0.5, float("nan"), float("nan"), 0.4, 0.6])
    monkeypatch.setattr("oofline.training.evaluation.score", lambda *a: next(scores))
    paths, _ = train(epochs=3, evals_per_epoch=2, patience=2, checkpoint="best")
    folder = paths.fold("base", 42, 0)
    history = pd.read_csv(folder / "history.csv")
    assert len(history) == 6
    assert read_json(folder / "scores.json")["best_step"] == history["step"][4]


def test_running_out_of_memory_while_predicting_halves_the_batches(train, monkeypatch, capsys):
    paths, _ = train(epochs=1, eval_batch_size=16)
    wanted = pd.read_parquet(paths.fold("base", 42, 0) / "oof.parquet")["pred_target"]
    forward = TextModel.forward

    def small(self, input_ids, attention_mask=None, *rest):
        if not self.training and len(input_ids) > 5:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return forward(self, input_ids, attention_mask, *rest)

    monkeypatch.setattr(TextModel, "forward", small)
    train(exp="small", epochs=1, eval_batch_size=16)
    found = pd.read_parquet(paths.fold("small", 42, 0) / "oof.parquet")["pred_target"]
    assert "out of memory while predicting" in capsys.readouterr().out
    assert found.to_numpy() == pytest.approx(wanted.to_numpy(), abs=1e-4)


def test_an_optimizer_that_does_not_fit_is_one_clear_line(train, monkeypatch):
    def full(self, *args, **kwargs):
        raise torch.OutOfMemoryError("CUDA out of memory")

    monkeypatch.setattr(torch.optim.AdamW, "step", full)
    with pytest.raises(OoflineError, match="model and optimizer do not fit"):
        train(epochs=1)
