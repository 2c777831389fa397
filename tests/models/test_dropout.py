import pytest
import torch
from torch import nn

from oofline.config import CFG
from oofline.models.backbone import load_backbone
from oofline.models.dropout import dropout_values, set_dropout

FAMILIES = ["bert", "roberta", "deberta", "electra", "modernbert"]


def states(backbone, batch):
    ids, mask = batch
    return backbone(ids, attention_mask=mask).last_hidden_state[mask.bool()]


@pytest.mark.parametrize("family", FAMILIES)
def test_zero_dropout_makes_training_forwards_agree_bit_for_bit(tiny_model, batch, family):
    backbone = load_backbone(CFG(model=str(tiny_model(family))), 0.0).train()
    assert set(dropout_values(backbone).values()) == {0.0}
    assert torch.equal(states(backbone, batch), states(backbone, batch))


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("where", ["on loading", "afterwards"])
def test_dropout_reaches_every_place(tiny_model, batch, family, where):
    backbone = load_backbone(
        CFG(model=str(tiny_model(family))), 0.5 if where == "on loading" else None
    )
    if where == "afterwards":
        set_dropout(backbone, 0.5)
    backbone.train()
    values = dropout_values(backbone)
    # at least embeddings, and attention and hidden states of three layers
    assert len(values) >= 7
    assert set(values.values()) == {0.5}
    dropped = {name.split(".")[-2] for name in values} | {name.split(".")[-1] for name in values}
    if family == "modernbert":
        assert {"attention_dropout", "out_drop", "drop"} <= dropped
    assert not torch.equal(states(backbone, batch), states(backbone, batch))
    fields = {k: v for k, v in vars(backbone.config).items() if "drop" in k and v is not None}
    assert len(fields) >= 2
    assert set(fields.values()) == {0.5}


@pytest.mark.parametrize("family", FAMILIES)
def test_attention_alone_is_reached(tiny_model, batch, family):
    """Dropout left on in attention only must show: it is easily missed, being functional."""
    backbone = load_backbone(CFG(model=str(tiny_model(family))), 0.5).train()
    for name, module in backbone.named_modules():
        attention = name.endswith(("self.dropout", "attn.dropout"))
        if isinstance(module, nn.Dropout) and not attention:
            module.p = 0.0
    assert not torch.equal(states(backbone, batch), states(backbone, batch))


def test_none_keeps_the_dropout_of_the_model(tiny_model):
    backbone = load_backbone(CFG(model=str(tiny_model("bert"))), None)
    assert set(dropout_values(backbone).values()) == {0.1}


def test_functional_and_stable_dropouts_are_found_and_layerdrop_is_not():
    class StableDropout(nn.Module):
        def __init__(self):
            super().__init__()
            self.drop_prob = 0.1

    class Layer(nn.Module):
        def __init__(self):
            super().__init__()
            self.dropout, self.layerdrop = 0, 0.3
            self.stable, self.attention = StableDropout(), nn.MultiheadAttention(4, 2, dropout=0.2)

    layer = Layer()
    layer.config = type("Config", (), {})()
    set_dropout(layer, 0.25)
    assert dropout_values(layer) == {
        "dropout": 0.25, "stable.drop_prob": 0.25, "attention.dropout": 0.25,
    }  # fmt: skip
    assert layer.layerdrop == 0.3
