import numpy as np
import pytest
import torch

from oofline.config import CFG
from oofline.errors import ConfigError
from oofline.models.pooling import build_pooling

HEADS = ["cls", "mean", "max", "last", "attention", "weighted-layer", "last-k", "gem"]


@pytest.fixture
def layers():
    generator = torch.Generator().manual_seed(0)
    return tuple(torch.randn(2, 6, 8, generator=generator) for _ in range(5))


@pytest.fixture
def mask():
    return torch.tensor([[1] * 6, [1, 1, 1, 0, 0, 0]])


def head_of(name, k=3):
    torch.manual_seed(3)
    head = build_pooling(CFG(pooling=name, pooling_layers=k), 8, 4)
    for parameter in head.parameters():  # away from the symmetric start
        parameter.data += 0.5 * torch.rand_like(parameter)
    return head


def reference(name, head, layers, length):
    """float64, one row of ``length`` tokens: list of (L, H) -> vector."""
    rows = [layer[:length].double().numpy() for layer in layers]
    p = {k: v.detach().double().numpy() for k, v in head.named_parameters()}
    last = rows[-1]
    if name == "cls":
        return last[0]
    if name == "last":
        return last[-1]
    if name == "mean":
        return last.mean(0)
    if name == "max":
        return last.max(0)
    if name == "attention":
        scores = np.tanh(last @ p["project.weight"].T + p["project.bias"]) @ p["score.weight"][0]
        weights = np.exp(scores) / np.exp(scores).sum()
        return weights @ last
    if name == "weighted-layer":
        weights = np.exp(p["layer_weights"]) / np.exp(p["layer_weights"]).sum()
        return sum(w * r.mean(0) for w, r in zip(weights, rows[-3:], strict=True))
    if name == "last-k":
        return np.concatenate([r.mean(0) for r in rows[-3:]])
    return (np.maximum(last, 1e-6) ** p["power"]).mean(0) ** (1 / p["power"])


@pytest.mark.parametrize("name", HEADS)
def test_head_equals_float64_reference(layers, mask, name):
    head = head_of(name)
    pooled = head(layers if head.needs_all_layers else layers[-1], mask)
    assert pooled.shape == (2, head.output_size)
    assert head.output_size == (24 if name == "last-k" else 8)
    for row, length in enumerate((6, 3)):
        expected = reference(name, head, [layer[row] for layer in layers], length)
        np.testing.assert_allclose(pooled[row].detach().numpy(), expected, rtol=2e-5, atol=1e-6)


@pytest.mark.parametrize("name", HEADS)
def test_padding_changes_nothing_even_when_it_is_not_finite(layers, mask, name):
    head = head_of(name)
    alone = head(tuple(layer[1:, :3] for layer in layers), None)
    rubbish = tuple(
        layer.masked_fill(~mask.bool()[..., None], torch.nan).requires_grad_() for layer in layers
    )
    padded = head(rubbish, mask)
    torch.testing.assert_close(padded[1:], alone, rtol=1e-6, atol=1e-6)
    padded.sum().backward()
    for parameter in head.parameters():
        assert parameter.grad.isfinite().all()


@pytest.mark.parametrize("name", HEADS)
def test_no_mask_means_all_tokens(layers, name):
    head = head_of(name)
    whole = head(layers, torch.ones(2, 6, dtype=torch.int64))
    torch.testing.assert_close(head(layers, None), whole, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("name", HEADS)
def test_rows_of_padding_alone_and_half_precision_stay_finite(layers, name):
    head = head_of(name)
    pooled = head(tuple(x.bfloat16() for x in layers), torch.tensor([[1, 0, 0, 0, 0, 0], [0] * 6]))
    assert pooled.dtype == torch.float32
    assert pooled.isfinite().all()


@pytest.mark.parametrize("name", ["attention", "weighted-layer", "gem"])
def test_parameters_of_the_head_are_registered_and_trained(layers, mask, name):
    head = head_of(name)
    assert dict(head.named_parameters())
    head(layers, mask).square().sum().backward()
    for parameter in head.parameters():
        assert parameter.grad is not None
        assert parameter.grad.abs().max() > 0


@pytest.mark.parametrize("name", ["weighted-layer", "last-k"])
def test_more_layers_than_the_model_has_are_refused(name):
    with pytest.raises(ConfigError, match="pooling_layers = 5, but tiny has 4 layers"):
        build_pooling(CFG(model="tiny", pooling=name, pooling_layers=5), 8, 4)
