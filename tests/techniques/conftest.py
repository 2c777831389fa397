import numpy as np
import pytest
import torch
from transformers import AutoTokenizer

from oofline.config import CFG
from oofline.data.tokens import Cutting, tokenize
from oofline.models.losses import build_loss
from oofline.models.text_model import build_model
from oofline.results import Task
from oofline.storage import Paths
from oofline.techniques import build_techniques
from oofline.training.alive import copies_of
from oofline.training.precision import Precision
from oofline.training.predict import predict
from oofline.training.step import StepMaker, TrainData

TASKS = {
    "binary": Task("binary", ("y",), ("0", "1"), ("y",), "f1", "label"),
    "multiclass": Task("multiclass", ("y",), ("a", "b", "c"), ("a", "b", "c"), "accuracy", "label"),
    "regression": Task("regression", ("y",), (), ("y",), "rmse", "value"),
}


@pytest.fixture
def workshop(tmp_path, tiny_model):
    """workshop(kind, family, precision, n, **settings) -> Workshop: all of a fold but its loop."""

    def make(kind="multiclass", family="bert", precision="fp32", n=10, **settings):
        defaults = {"batch_size": 4, "max_len": 24, "lr": 1e-3, "pooling": "mean"}
        cfg = CFG(comp="c", model=str(tiny_model(family)), **(defaults | settings))
        rng = np.random.default_rng(0)
        texts = [" ".join(rng.choice(["a", "good", "bad"], rng.integers(1, 9))) for _ in range(n)]
        tokenizer = AutoTokenizer.from_pretrained(cfg.model)
        tokens = tokenize(Paths("c", tmp_path), texts, tokenizer, Cutting(24), "train")
        classes = {"binary": 2, "multiclass": 3}
        y = rng.integers(0, classes[kind], n) if kind in classes else rng.normal(size=(n, 1))
        return Workshop(cfg, TASKS[kind], tokens, y, Precision(torch.device("cpu"), precision))

    return make


class Workshop:
    """Model, techniques and steps as a fold makes them."""

    def __init__(self, cfg, task, tokens, y, precision):
        torch.manual_seed(0)
        self.cfg, self.task, self.precision = cfg, task, precision
        self.model = build_model(cfg, task, y)
        self.loss = build_loss(cfg, task, y)
        self.techniques = build_techniques(cfg, task)
        for technique in self.techniques:
            technique.prepare(self.model)
        data = TrainData(tokens, torch.from_numpy(self.model.encode(y)), np.arange(len(y)))
        self.steps = StepMaker(
            cfg, self.model, self.loss, precision, precision.scaler(), data, 1,
            *copies_of(self.techniques),
        )  # fmt: skip
        self.model.train()

    def step(self, index=0):
        return self.steps.make(index, self.cfg.batch_size)

    def gradients(self, step, seed=5):
        """name -> gradient of one window, as the loop makes it."""
        torch.manual_seed(seed)
        self.model.zero_grad(set_to_none=True)
        for _ in step:
            logits, loss = step.forward()
            extras = [t.extra_loss(step, logits, loss) for t in self.techniques]
            step.backward(sum((extra for extra in extras if extra is not None), loss))
        for technique in self.techniques:
            technique.after_backward(step)
        pairs = self.model.named_parameters()
        return {name: p.grad.clone() for name, p in pairs if p.grad is not None}

    def predict(self):
        """(n, T) predictions of all rows, as an evaluation makes them."""
        rows = self.steps.data.rows
        return predict(self.model, self.steps.data.tokens, rows, self.precision, 4).pred
