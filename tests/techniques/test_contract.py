"""What every technique must keep, whatever it does."""

import contextlib
import itertools
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from transformers import AutoTokenizer

from oofline.config import CFG
from oofline.data.pairs import Passage
from oofline.data.tokens import Cutting, tokenize
from oofline.errors import ConfigError
from oofline.models.losses import build_loss
from oofline.models.text_model import build_model, load_model, save_model
from oofline.results import Answer, Task
from oofline.storage import Paths
from oofline.techniques import TECHNIQUES, build_techniques
from oofline.training.alive import check_alive, copies_of, evaluating
from oofline.training.optim import build_optimizer
from oofline.training.precision import Precision
from oofline.training.step import StepMaker, TrainData, training_labels
from oofline.training.trainer import Trainer

TASKS = {
    "regression": Task("regression", ("y",), (), ("y",), "rmse", "value"),
    "binary": Task("binary", ("y",), ("0", "1"), ("y",), "f1", "label"),
    "multiclass": Task("multiclass", ("y",), ("a", "b", "c"), ("a", "b", "c"), "accuracy", "label"),
    "multi-target": Task("multi-target", ("y", "z"), (), ("y", "z"), "mcrmse", "value"),
    "multilabel": Task("multilabel", ("y", "z"), ("0", "1"), ("y", "z"), "roc_auc", "probability"),
    **{
        f"ordinal-{form}": Task("ordinal", ("y",), ("1", "2", "3"), ("y",), "qwk", "label", form)
        for form in ("regression", "classes", "ordinal")
    },
    "qa": Task("qa", ("y",), (), ("start", "end"), "answer_f1", "answer", longest=9),
}


def targets(task, n):
    """y of n made-up rows, as a competition has it."""
    rng = np.random.default_rng(1)
    if task.truth == "values":
        return rng.normal(size=(n, task.n_outputs))
    if task.truth == "answer":
        answers = [Answer("a good bad a good bad a", "good", 2 + 11 * (i % 2)) for i in range(n)]
        return np.array(answers, dtype=object)
    if task.truth == "labels":
        return rng.integers(0, 2, (n, task.n_outputs))
    return np.arange(n) % len(task.labels)


SETTINGS = {
    "awp": {"awp_last_epochs": 1},
    "awp-replace": {"awp_last_epochs": 1, "awp_mode": "replace", "awp_eps": 0.0},
    "fgm": {"fgm_eps": 0.5},
    "sift": {"sift_lambda": 1.0},
    "rdrop": {"rdrop_alpha": 1.0, "dropout": 0.1},
    "mixout": {"mixout_p": 0.3},
    "mixconnect": {"mixout_p": 0.3, "mixout_mask": "element"},
    "multi-sample": {"dropout_samples": 3, "dropout_sample_p": 0.3},
    "ema": {"ema_decay": 0.9},
    "reinit": {"reinit_layers": 1},
    "freeze": {"freeze_layers": 1},
    "lora": {"lora_r": 4, "lora_alpha": 8.0},
}
FAMILIES = ("bert", "roberta", "deberta", "electra", "modernbert", "llama", "qwen2", "gemma")
REFUSED_PAIRS = {
    ("awp", "fgm"): "AWP and FGM", ("awp-replace", "fgm"): "AWP and FGM",
    ("fgm", "freeze"): "FGM acts on the embeddings, which freeze_layers",
    ("fgm", "lora"): "which LoRA freezes", ("mixout", "lora"): "where LoRA leaves them",
    ("mixconnect", "lora"): "where LoRA leaves them",
    ("reinit", "lora"): "LoRA would leave them so",
}  # fmt: skip
TWO_FORMS = {("awp", "awp-replace"), ("mixout", "mixconnect")}
PAIRS = [pair for pair in itertools.combinations(SETTINGS, 2) if pair not in TWO_FORMS]


class OneFold:
    """Model, optimizer, techniques and loop of one fold on made-up texts.

    Args:
        folder: for the token cache.
        model: folder of an encoder.
        kind: task kind.
        n: training rows.
        precision: number format.
        scale: initial factor of an active GradScaler; 0 = a pass-through.
        inputs: "texts", "pairs" in an order drawn anew each epoch, or "windows" of long texts.
        settings: fields of CFG.
    """

    def __init__(
        self, folder, model, kind, n=22, precision="fp32", scale=0.0, inputs="texts", **settings
    ):
        base = {"batch_size": 4, "max_len": 24, "lr": 1e-3, "epochs": 1, "clip_norm": 0.0}
        self.cfg = CFG(comp="c", model=str(model), **(base | settings))
        self.task = TASKS[kind]
        rng = np.random.default_rng(0)
        texts = [" ".join(rng.choice(["a", "good", "bad"], rng.integers(1, 9))) for _ in range(n)]
        y = targets(self.task, n)
        torch.manual_seed(0)
        self.model = build_model(self.cfg, self.task, y)
        self.loss = build_loss(self.cfg, self.task, y)
        self.techniques = build_techniques(self.cfg, self.task)
        for technique in self.techniques:
            technique.prepare(self.model)
        tokenizer = AutoTokenizer.from_pretrained(self.cfg.model)
        cutting = {
            "texts": Cutting(24),
            "pairs": Cutting(24, both_orders=True),
            "windows": Cutting(6, windows=3, overlap=1),
        }[inputs]
        rows = [(text, text[::-1]) for text in texts] if inputs == "pairs" else texts
        if kind == "qa":  # windows of 12 tokens, answers in the first or in a later one
            rows = [
                Passage(text[:12], answer.context) for text, answer in zip(texts, y, strict=True)
            ]
            cutting = Cutting(12, doc_stride=2)
        tokens = tokenize(Paths("c", folder), rows, tokenizer, cutting, "train")
        self.data = TrainData(tokens, training_labels(self.model, tokens, y), np.arange(n))
        self.precision = Precision(torch.device("cpu"), precision)
        self.scaler = torch.amp.GradScaler("cpu", init_scale=scale or 1.0, enabled=scale > 0)
        self.optimizer = build_optimizer(self.cfg, self.model)
        self.steps = StepMaker(
            self.cfg, self.model, self.loss, self.precision, self.scaler, self.data, 1,
            *copies_of(self.techniques),
        )  # fmt: skip
        self.trainer = Trainer(
            self.cfg, None, self.steps, self.optimizer, self.scaler, self.techniques,
            SimpleNamespace(progress=None), None, None, None,
        )  # fmt: skip
        self.model.train()

    def gradients(self, index=0, seed=3):
        """Unscaled gradients by name, after everything that happens before the optimizer's step."""
        torch.manual_seed(seed)
        self.step = self.steps.make(index, self.cfg.batch_size)
        self.window_loss, _ = self.trainer._gradients(self.step)
        return {
            name: p.grad.clone() for name, p in self.model.named_parameters() if p.grad is not None
        }

    def update(self):
        """The optimizer's step and what follows it."""
        self.scaler.step(self.optimizer)
        self.scaler.update()
        for technique in self.techniques:
            technique.after_update(self.step)

    def weights(self):
        return {name: value.clone() for name, value in self.model.state_dict().items()}


@pytest.fixture
def one_fold(tmp_path, tiny_model):
    """one_fold(kind="binary", family="bert", **settings) -> OneFold."""

    def make(kind="binary", family="bert", **settings):
        return OneFold(tmp_path, tiny_model(family), kind, **settings)

    return make


class InnerForward(Exception):
    """Raised by a test inside a forward pass."""


def take_up(plain, model):
    """Give a plain model the weights of another, whose adapters, if it has some, are left out."""
    named = dict(model.named_parameters()) | dict(model.named_buffers())
    named = {name.replace(".base_layer", ""): value for name, value in named.items()}
    plain.load_state_dict({name: named[name] for name in plain.state_dict()})


def differ(a, b):
    return a.keys() != b.keys() or any(not torch.equal(a[name], b[name]) for name in a)


def test_every_technique_stands_in_the_contract():
    built = [build_techniques(CFG(epochs=1, **s), TASKS["binary"]) for s in SETTINGS.values()]
    assert all(len(techniques) == 1 for techniques in built)
    assert {type(t) for techniques in built for t in techniques} == set(TECHNIQUES)
    names = [technique.name for technique in (t[0] for t in built)]
    assert len(set(names)) == len(TECHNIQUES)


@pytest.mark.parametrize("kind", TASKS)
@pytest.mark.parametrize("name", [name for name in SETTINGS if name != "ema"])
def test_enabled_the_gradient_of_a_step_changes(one_fold, name, kind):
    plain = {"dropout": {"rdrop": 0.1, "mixout": 0.0, "mixconnect": 0.0}.get(name)}
    fold, plain = one_fold(kind, **SETTINGS[name]), one_fold(kind, **plain)
    assert differ(fold.weights(), plain.weights()) == (name in ("reinit", "lora"))
    assert differ(fold.gradients(), plain.gradients())


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("name", SETTINGS)
def test_weights_after_backward_are_those_before(one_fold, name, family):
    fold = one_fold(family=family, accumulation=2, **SETTINGS[name])
    before = fold.weights()
    pointers = {n: p.data_ptr() for n, p in fold.model.named_parameters()}
    fold.gradients()
    assert not differ(before, fold.weights())
    assert pointers == {n: p.data_ptr() for n, p in fold.model.named_parameters()}


@pytest.mark.parametrize("name", SETTINGS)
@pytest.mark.parametrize("allowed", [1, 2, 3])
def test_weights_are_restored_when_an_inner_forward_raises(one_fold, name, allowed):
    fold = one_fold(accumulation=2, **SETTINGS[name])
    before, calls = fold.weights(), []

    def fail(module, inputs):
        calls.append(None)
        if len(calls) > allowed:
            raise InnerForward

    handle = fold.model.register_forward_pre_hook(fail)
    with contextlib.suppress(InnerForward):
        fold.gradients()
    handle.remove()
    assert calls
    assert not differ(before, fold.weights())
    fold.gradients()  # and the next step works


@pytest.mark.parametrize("name", ["awp", "awp-replace", "fgm", "ema", "freeze", "reinit", "lora"])
def test_windows_of_several_batches_equal_one_large_batch(one_fold, name):
    """Also the last, short window: it is divided by its own length."""
    one = one_fold("regression", n=18, batch_size=8, **SETTINGS[name])
    two = one_fold("regression", n=18, batch_size=4, accumulation=2, **SETTINGS[name])
    sizes = []
    for index in range(3):
        parts = two.steps.make(index, 4).parts
        sizes.append([len(part) for part in parts])
        one.steps._windows = [[np.concatenate(parts)]] * 3
        a, b = one.gradients(index), two.gradients(index)
        for parameter in a:
            torch.testing.assert_close(a[parameter], b[parameter], rtol=2e-3, atol=2e-6)
    assert sorted(map(len, sizes)) == [1, 2, 2]
    assert min(map(min, sizes)) == 2


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("name", SETTINGS)
def test_evaluation_at_equal_weights_is_that_of_a_plain_model(one_fold, name, family):
    fold, plain = one_fold(family=family, **SETTINGS[name]), one_fold(family=family)
    fold.gradients()
    take_up(plain.model, fold.model)  # adapters are still 0
    ids = torch.randint(5, 40, (3, 9))
    for model in (fold.model, plain.model):
        model.eval()
    with torch.no_grad(), evaluating(fold.techniques, fold.model):
        assert torch.equal(fold.model(ids), plain.model(ids))


@pytest.mark.parametrize("inputs", ["pairs", "windows"])
@pytest.mark.parametrize("name", SETTINGS)
def test_pairs_and_windows_keep_every_technique_alive(one_fold, name, inputs):
    fold = one_fold(inputs=inputs, accumulation=2, **SETTINGS[name])
    for index in range(2):
        before = fold.weights()
        gradients = fold.gradients(index)
        assert all(torch.isfinite(g).all() for g in gradients.values())
        assert not differ(before, fold.weights())
        fold.update()
    check_alive(fold.techniques, finished=False)
    if name not in ("ema", "freeze", "reinit"):
        plain = {"dropout": {"rdrop": 0.1, "mixout": 0.0, "mixconnect": 0.0}.get(name)}
        assert differ(
            one_fold(inputs=inputs, **SETTINGS[name]).gradients(),
            one_fold(inputs=inputs, **plain).gradients(),
        )


@pytest.mark.parametrize("name", SETTINGS)
def test_batch_and_labels_are_untouched(one_fold, name):
    fold = one_fold(accumulation=2, **SETTINGS[name])
    labels, seen = fold.data.labels.clone(), []

    def keep(module, inputs):
        seen.append([(t, t.clone()) for t in inputs if t is not None])

    fold.model.register_forward_pre_hook(keep)
    fold.gradients()
    assert torch.equal(labels, fold.data.labels)
    assert seen
    assert all(torch.equal(now, then) for call in seen for now, then in call)


@pytest.mark.parametrize("kind", ["binary", "regression", "multilabel", "ordinal-ordinal", "qa"])
@pytest.mark.parametrize("name", SETTINGS)
def test_a_loss_scale_changes_nothing(one_fold, name, kind):
    """All gradients carry the scaler's factor until it is taken out, once."""
    plain = one_fold(kind, accumulation=2, **SETTINGS[name])
    scaled = one_fold(kind, accumulation=2, scale=2.0**10, **SETTINGS[name])
    a, b = plain.gradients(), scaled.gradients()
    assert a.keys() == b.keys()
    for parameter in a:
        torch.testing.assert_close(a[parameter], b[parameter], rtol=1e-3, atol=1e-6)


@pytest.mark.parametrize("name", SETTINGS)
@pytest.mark.parametrize("precision", ["bf16", "fp16"])
def test_half_precision_gives_finite_gradients_and_a_step(one_fold, name, precision):
    scale = 2.0**8 if precision == "fp16" else 0.0
    fold = one_fold(precision=precision, scale=scale, accumulation=2, **SETTINGS[name])
    before, gradients = fold.weights(), fold.gradients()
    assert all(torch.isfinite(g).all() for g in gradients.values())
    fold.update()
    assert differ(before, fold.weights())


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("name", SETTINGS)
def test_parameters_stand_in_one_group_and_in_the_checkpoint(one_fold, tmp_path, name, family):
    fold = one_fold(family=family, **SETTINGS[name])
    groups = [id(p) for group in fold.optimizer.param_groups for p in group["params"]]
    trainable = [p for p in fold.model.parameters() if p.requires_grad]
    assert sorted(groups) == sorted(map(id, trainable))
    for index in range(2):
        fold.gradients(index)
        fold.update()
    tokenizer = AutoTokenizer.from_pretrained(fold.cfg.model)
    folder = tmp_path / "saved"
    folder.mkdir()
    save_model(fold.model, tokenizer, folder)
    loaded = load_model(fold.cfg, fold.task, folder)
    whole = fold if name == "lora" else one_fold(family=family)
    assert set(loaded.state_dict()) == set(whole.model.state_dict())
    for parameter, value in fold.model.named_parameters():
        assert torch.equal(value, loaded.get_parameter(parameter)), parameter


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("name", SETTINGS)
def test_gradient_checkpointing_gives_the_same_gradients(one_fold, name, family):
    settings = {"dropout": None if "mixout_p" in SETTINGS[name] else 0.0} | SETTINGS[name]
    plain = one_fold(family=family, **settings)
    saving = one_fold(family=family, gradient_checkpointing=True, **settings)
    a, b = plain.gradients(), saving.gradients()
    assert a.keys() == b.keys()
    for parameter in a:
        torch.testing.assert_close(a[parameter], b[parameter], rtol=1e-3, atol=1e-6)


@pytest.mark.parametrize("kind", ["binary", "multi-target", "ordinal-classes", "qa"])
@pytest.mark.parametrize("pair", PAIRS, ids="+".join)
def test_pairs_work_together_or_are_refused_by_name(one_fold, pair, kind):
    settings = SETTINGS[pair[0]] | SETTINGS[pair[1]]
    if "mixout_p" in settings:
        settings.pop("dropout", None)
    if pair in REFUSED_PAIRS:
        with pytest.raises(ConfigError, match=REFUSED_PAIRS[pair]):
            one_fold(kind, **settings)
        return
    fold = one_fold(kind, accumulation=2, **settings)
    assert len(fold.techniques) == 2
    for index in range(2):
        before = fold.weights()
        gradients = fold.gradients(index)
        assert all(torch.isfinite(g).all() for g in gradients.values())
        assert not differ(before, fold.weights())
        fold.update()
    check_alive(fold.techniques, finished=False)


@pytest.mark.parametrize("kind", TASKS)
@pytest.mark.parametrize("name", SETTINGS)
def test_what_it_did_is_told_and_survives_a_save(one_fold, name, kind):
    fold, other = one_fold(kind, **SETTINGS[name]), one_fold(kind, **SETTINGS[name])
    for index in range(3):
        fold.gradients(index)
        fold.update()
    (technique,), (fresh,) = fold.techniques, other.techniques
    check_alive(fold.techniques, finished=True)
    figures = technique.figures()
    assert figures
    assert all(key.startswith(f"{technique.name}/") for key in figures)
    fresh.load_state({key: value.clone() for key, value in technique.state().items()})
    assert fresh.tally.means() == technique.tally.means() != {}
