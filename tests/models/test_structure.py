import pytest
import torch

from oofline.config import CFG
from oofline.errors import ConfigError
from oofline.models.backbone import load_backbone
from oofline.models.structure import embeddings_module, encoder_layers, parameter_depth

FAMILIES = ["bert", "roberta", "deberta", "electra", "modernbert", "mpnet", "distilbert"]
EXPECTED = {
    "deberta": {"encoder.rel_embeddings.weight": 0, "encoder.LayerNorm.weight": 0},
    "electra": {"embeddings_project.weight": 0},
    "modernbert": {"final_norm.weight": 3},
    "mpnet": {"encoder.relative_attention_bias.weight": 0},
}


@pytest.mark.parametrize("family", FAMILIES)
def test_every_parameter_has_the_depth_of_its_layer(tiny_model, family):
    backbone = load_backbone(CFG(model=str(tiny_model(family))), None)
    depth = parameter_depth(backbone)
    assert list(depth) == [name for name, _ in backbone.named_parameters()]
    assert set(depth.values()) == {0, 1, 2, 3}
    layers = encoder_layers(backbone)
    assert len(layers) == 3
    names = {id(parameter): name for name, parameter in backbone.named_parameters()}
    for index, layer in enumerate(layers, start=1):
        assert {depth[names[id(p)]] for p in layer.parameters()} == {index}
    embeddings = embeddings_module(backbone)
    assert backbone.get_input_embeddings() in list(embeddings.modules())
    assert {depth[names[id(p)]] for p in embeddings.parameters()} == {0}
    for name, expected in EXPECTED.get(family, {}).items():
        assert depth[name] == expected


def test_albert_has_one_layer_of_shared_weights(tiny_model):
    backbone = load_backbone(CFG(model=str(tiny_model("albert"))), None)
    depth = parameter_depth(backbone)
    assert len(encoder_layers(backbone)) == 1
    assert depth["encoder.embedding_hidden_mapping_in.weight"] == 0
    assert {value for name, value in depth.items() if "layer_groups" in name} == {1}


def test_what_runs_after_the_layers_is_on_top(tiny_model):
    from transformers import AutoModel

    backbone = AutoModel.from_pretrained(tiny_model("bert"))  # with its pooler
    assert parameter_depth(backbone)["pooler.dense.weight"] == 3


def test_measuring_depth_leaves_modes_and_random_numbers_alone(tiny_model):
    backbone = load_backbone(CFG(model=str(tiny_model("bert"))), None).train()
    backbone.encoder.layer[1].eval()
    before = torch.get_rng_state()
    parameter_depth(backbone)
    assert torch.equal(before, torch.get_rng_state())
    assert backbone.training
    assert backbone.encoder.layer[0].training
    assert not backbone.encoder.layer[1].training
    assert not any(m._forward_pre_hooks or m._forward_hooks for m in backbone.modules())


def test_layers_that_cannot_be_found_are_an_error(tiny_model):
    backbone = load_backbone(CFG(model=str(tiny_model("bert"))), None)
    backbone.config.num_hidden_layers = 5
    with pytest.raises(ConfigError, match="layers of BertModel were not found"):
        encoder_layers(backbone)
