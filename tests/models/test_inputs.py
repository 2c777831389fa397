"""Segments of pairs and windows of long texts reach the vectors as they should."""

import numpy as np
import pytest
import torch

from oofline.config import CFG
from oofline.models.structure import has_segments
from oofline.models.text_model import build_model

Y = np.array([0, 1, 1])


@pytest.fixture
def make_model(tiny_model, make_task):
    def make(family="bert", **settings):
        torch.manual_seed(0)
        cfg = CFG(model=str(tiny_model(family)), **settings)
        return build_model(cfg, make_task("binary"), Y).eval()

    return make


@pytest.mark.parametrize(
    ("family", "there"),
    [("bert", True), ("electra", True), ("albert", True), ("roberta", True), ("deberta", False),
     ("modernbert", False), ("distilbert", False), ("mpnet", False)],
)  # fmt: skip
def test_segments_act_where_the_encoder_has_them(make_model, batch, family, there):
    model = make_model(family)
    ids, mask = batch
    types = (torch.arange(12) > 2).long().expand(3, -1) * mask
    assert has_segments(model.backbone) == there
    with torch.no_grad():
        plain, marked = model(ids, mask), model(ids, mask, types)
    assert torch.equal(plain, marked) != there


@pytest.mark.parametrize("pooling", ["mean", "cls", "attention", "last-k"])
def test_the_vectors_of_windows_are_averaged(make_model, batch, pooling):
    model = make_model(pooling=pooling, pooling_layers=2)
    ids, mask = batch
    windows = torch.tensor([2, 1])
    with torch.no_grad():
        vectors = []
        model.output.register_forward_pre_hook(lambda _, inputs: vectors.append(inputs[0][0]))
        model(ids, mask)
        logits = model(ids, mask, None, windows)
    alone, joined = vectors
    assert logits.shape == (1, 2, 1)
    torch.testing.assert_close(joined[0], alone[:2].mean(0))
    torch.testing.assert_close(joined[1], alone[2])


def test_every_window_gets_a_gradient(make_model, batch):
    model = make_model().train()
    embeddings = []
    words = model.backbone.get_input_embeddings()
    words.register_forward_hook(lambda *a: embeddings.append(a[2]) or a[2].retain_grad())
    model(*batch, None, torch.tensor([2, 1])).sum().backward()
    assert (embeddings[0].grad.abs().sum((1, 2)) > 0).all()
