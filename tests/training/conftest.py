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
from oofline.training.precision import Precision
from oofline.training.step import StepMaker, TrainData

REGRESSION = Task("regression", ("y",), (), ("y",), "rmse", "value")


@pytest.fixture
def parts(tmp_path, tiny_model):
    """parts(n, precision, **settings) -> model, loss, scaler, StepMaker and plan's raw material."""

    def make(n=22, precision="fp32", family="bert", **settings):
        cfg = CFG(
            comp="c", model=str(tiny_model(family)), batch_size=4, max_len=24, dropout=0.0,
            lr=1e-3, **settings,
        )  # fmt: skip
        rng = np.random.default_rng(0)
        texts = [" ".join(rng.choice(["a", "good", "bad"], rng.integers(1, 9))) for _ in range(n)]
        y = rng.normal(size=(n, 1))
        torch.manual_seed(0)
        model = build_model(cfg, REGRESSION, y)
        loss = build_loss(cfg, REGRESSION, y)
        tokenizer = AutoTokenizer.from_pretrained(cfg.model)
        tokens = tokenize(Paths("c", tmp_path), texts, tokenizer, Cutting(24), "train")
        data = TrainData(tokens, torch.from_numpy(model.encode(y)), np.arange(n))
        kind = Precision(torch.device("cpu"), precision)
        scaler = kind.scaler()
        steps = StepMaker(cfg, model, loss, kind, scaler, data, seed=1)
        return Parts(cfg, model, loss, kind, scaler, data, steps)

    return make


class Parts:
    def __init__(self, cfg, model, loss, precision, scaler, data, steps):
        self.cfg, self.model, self.loss, self.precision = cfg, model, loss, precision
        self.scaler, self.data, self.steps = scaler, data, steps

    def gradient(self, step):
        self.model.zero_grad(set_to_none=True)
        for _ in step:
            _, loss = step.forward()
            step.backward(loss)
        return torch.cat([p.grad.flatten() for p in self.model.parameters() if p.grad is not None])
