"""FGM on the real model and step; its formula stands in test_attack.py."""

import copy

import numpy as np
import pytest
import torch

from oofline.config import CFG
from oofline.crossval import train_units
from oofline.data.batches import collate
from oofline.errors import ConfigError
from oofline.results import Task
from oofline.storage import read_json
from oofline.techniques import Technique, build_techniques
from oofline.techniques.fgm import Fgm

FAMILIES = ["bert", "roberta", "deberta", "electra", "modernbert"]
EVERYWHERE = [*FAMILIES, "mpnet", "distilbert", "albert"]
ON = {"fgm_eps": 0.5, "dropout": 0.0}
TASK = Task("binary", ("y",), ("0", "1"), ("y",), "f1", "label")


def weights_of(model):
    return {n: (p.data_ptr(), p.detach().clone()) for n, p in model.named_parameters()}


def untouched(model, before):
    return all(
        p.data_ptr() == before[n][0] and torch.equal(p, before[n][1])
        for n, p in model.named_parameters()
    )


def words_of(model):
    """Name of the one matrix with a row per token of the vocabulary."""
    size = model.backbone.config.vocab_size
    (name,) = (n for n, p in model.named_parameters() if p.ndim == 2 and p.shape[0] == size)
    return name


def reference(shop, rows, eps):
    """Clean + adversarial gradient of a whole window, in one pass each."""
    model = copy.deepcopy(shop.model)
    ids, mask, *_ = collate(shop.steps.data.tokens, rows, torch.device("cpu"))
    labels = shop.steps.data.labels[torch.from_numpy(rows)]
    shop.loss(model(ids, mask), labels).backward()
    words = model.get_parameter(words_of(model))
    with torch.no_grad():
        words += eps * words.grad / (words.grad**2).sum().sqrt()
    shop.loss(model(ids, mask), labels).backward()
    return {n: p.grad for n, p in model.named_parameters() if p.grad is not None}


def assert_close(found, wanted, tolerance):
    assert found.keys() == wanted.keys()
    size = torch.cat([g.flatten() for g in wanted.values()]).norm()
    for name, g in found.items():
        assert (g - wanted[name]).norm() <= tolerance * (wanted[name].norm() + 0.01 * size), name


@pytest.mark.parametrize("family", EVERYWHERE)
def test_the_encoders_own_word_embeddings_are_found(workshop, family):
    shop = workshop(**ON, family=family)
    shop.gradients(shop.step())
    (found,) = shop.techniques[0].targets(shop.model)
    assert found is shop.model.get_parameter(words_of(shop.model))


def test_finding_them_by_a_name_pattern_would_be_caught(workshop):
    """Patterns of published FGM code: what they find in each family is not the word embeddings."""
    found = {
        pattern: {
            family: {n for n, _ in model.named_parameters() if pattern in n} == {words_of(model)}
            for family, model in ((f, workshop(**ON, family=f).model) for f in EVERYWHERE)
        }
        for pattern in ("emb.", "emb", "embedding", "word_embeddings")
    }
    for pattern in ("emb.", "emb", "embedding"):
        assert not any(found[pattern].values()), pattern  # nothing at all, or norms and positions
    assert not found["word_embeddings"]["modernbert"]
    assert found["word_embeddings"]["bert"]


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("index", [0, 1], ids=["full window", "short last window"])
def test_the_window_gradient_is_that_of_the_formula(workshop, family, index):
    shop = workshop(**ON, family=family, accumulation=2)
    step = shop.step(index)
    assert len(step.parts) == [2, 1][index]
    wanted = reference(shop, np.concatenate(step.parts), 0.5)
    before = weights_of(shop.model)
    found = shop.gradients(step)
    assert_close(found, wanted, 2e-3)
    assert untouched(shop.model, before)
    shop.techniques = []
    clean = {name: 2 * g for name, g in shop.gradients(step).items()}
    with pytest.raises(AssertionError):
        assert_close(clean, wanted, 2e-3)


def test_attacking_only_the_last_micro_batch_would_be_caught(workshop):
    class LastOnly(Technique):
        def after_backward(self, step):
            words = step.model.backbone.get_input_embeddings().weight
            move = 0.5 * words.grad / words.grad.norm()
            for number, _ in enumerate(step):
                if number == len(step.parts) - 1:
                    words.data.add_(move)
                    step.backward(step.forward()[1])
                    words.data.sub_(move)

    shop = workshop(**ON, accumulation=2)
    step = shop.step()
    wanted = reference(shop, np.concatenate(step.parts), 0.5)
    shop.techniques = [LastOnly()]
    found = shop.gradients(step)
    with pytest.raises(AssertionError):
        assert_close(found, wanted, 2e-3)


@pytest.mark.parametrize("precision", ["bf16", "fp16"])
def test_autocast_gives_the_same_gradients_roughly(workshop, precision):
    exact = workshop(**ON, accumulation=2)
    wanted = exact.gradients(exact.step())
    shop = workshop(**ON, accumulation=2, precision=precision)
    before, step = weights_of(shop.model), shop.step()
    found, scale = shop.gradients(step), step.scaler.get_scale()
    assert_close({n: g / scale for n, g in found.items()}, wanted, 0.2)
    assert untouched(shop.model, before)


@pytest.mark.parametrize("family", ["bert", "deberta"])
def test_gradient_checkpointing(workshop, family):
    plain = workshop(**ON, family=family)
    wanted = plain.gradients(plain.step())
    shop = workshop(**ON, family=family, gradient_checkpointing=True)
    before = weights_of(shop.model)
    assert_close(shop.gradients(shop.step()), wanted, 1e-4)
    assert untouched(shop.model, before)


@pytest.mark.parametrize("delayed", [{}, {"fgm_last_epochs": 1}], ids=["always", "delayed"])
def test_frozen_embeddings_are_an_error_from_the_first_step_on(workshop, delayed):
    shop = workshop(**ON, **delayed)
    shop.model.backbone.get_input_embeddings().weight.requires_grad_(False)
    with pytest.raises(ConfigError, match="word embeddings, and they are not trained"):
        shop.gradients(shop.step())


def test_the_loss_rises_along_the_step(workshop):
    shop = workshop(**ON, accumulation=2)
    step = shop.step()
    with torch.no_grad():
        clean = [float(step.forward()[1]) for _ in step]
    shop.gradients(step)
    figures = shop.techniques[0].figures()
    size = shop.model.backbone.get_input_embeddings().weight.detach().norm()
    assert figures["fgm/loss"] > np.mean(clean)
    assert figures["fgm/relative_perturbation"] == pytest.approx(0.5 / float(size), rel=1e-3)
    assert figures["fgm/active"] == 1


def test_settings_build_it_and_zero_strength_does_not():
    assert Fgm.from_cfg(CFG(), TASK) is None
    assert Fgm.from_cfg(CFG(fgm_eps=0.5), TASK).eps == 0.5
    assert [t.name for t in build_techniques(CFG(fgm_eps=0.5), TASK)] == ["fgm"]


@pytest.mark.parametrize(
    ("settings", "share"),
    [({}, 1.0), ({"fgm_last_epochs": 1}, 1 / 3), ({"fgm_start_score": 1e6}, 2 / 3)],
)
def test_a_fold_trains_with_it(write_competition, load_settings, settings, share):
    paths = write_competition("regression", n=66)
    cfg = load_settings(paths, epochs=3, fgm_eps=0.5, **settings)
    train_units(cfg, paths, [0], [42])
    figures = read_json(paths.fold(cfg.exp, 42, 0) / "scores.json")["techniques"]["fgm"]
    assert figures["active"] == pytest.approx(share)
    assert figures["relative_perturbation"] > 0
