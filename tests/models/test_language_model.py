"""Language heads at the guessed positions only: the same figures as over all positions."""

import pytest
import torch
import torch.nn.functional as F
import transformers
from safetensors.torch import load_file, save_file

from oofline.config import CFG
from oofline.errors import ConfigError
from oofline.models.backbone import load_backbone, load_tokenizer
from oofline.models.language_model import (
    LanguageModel,
    is_causal,
    load_network,
    mean_loss,
    new_network,
    save_network,
)
from oofline.models.masking import build_masking

FAMILIES = ["bert", "roberta", "deberta", "electra", "modernbert", "mpnet", "distilbert", "albert"]


@pytest.fixture
def decoder(tmp_path, tiny_model):
    """A folder with a random Llama of two layers."""
    tokenizer = load_tokenizer(str(tiny_model("roberta")))
    config = transformers.LlamaConfig(
        vocab_size=len(tokenizer), hidden_size=32, intermediate_size=48, num_hidden_layers=2,
        num_attention_heads=4, num_key_value_heads=2, bos_token_id=2, eos_token_id=3,
    )  # fmt: skip
    torch.manual_seed(0)
    transformers.LlamaForCausalLM(config).save_pretrained(tmp_path / "llama")
    tokenizer.save_pretrained(tmp_path / "llama")
    return tmp_path / "llama"


def batch(tokenizer):
    found = tokenizer(["the good fire", "bad", "a b c d e f"], padding=True, return_tensors="pt")
    return found["input_ids"], found["attention_mask"]


@pytest.mark.parametrize("family", FAMILIES)
def test_the_head_at_chosen_positions_gives_what_it_gives_everywhere(tiny_model, family):
    name = str(tiny_model(family))
    assert not is_causal(name)
    torch.manual_seed(0)
    network, missing = load_network(name, causal=False)
    assert missing  # the tiny folders hold an encoder alone, so the head is random
    tokenizer = load_tokenizer(name)
    masking = build_masking(tokenizer, network.config.vocab_size, 0.5, False)
    model = LanguageModel(network, masking).eval()
    ids, mask = batch(tokenizer)
    model.generator = torch.Generator().manual_seed(5)
    sums = model(ids, mask)
    seen, chosen = masking(ids, mask, torch.Generator().manual_seed(5))
    logits = network(input_ids=seen, attention_mask=mask).logits
    losses = F.cross_entropy(logits.flatten(0, 1), ids.flatten(), reduction="none").view(ids.shape)
    expected = torch.stack([(losses * chosen).sum(1), chosen.sum(1)], dim=-1)
    torch.testing.assert_close(sums[0], expected, rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(mean_loss(sums, ids), losses[chosen].mean(), rtol=1e-4, atol=1e-4)


def test_a_decoder_guesses_every_next_token(decoder):
    assert is_causal(str(decoder))
    network, missing = load_network(str(decoder), causal=True)
    assert missing == []
    tokenizer = load_tokenizer(str(decoder))
    ids, mask = batch(tokenizer)
    sums = LanguageModel(network, None).eval()(ids, mask)
    labels = ids.masked_fill(mask == 0, -100)
    loss = network(input_ids=ids, attention_mask=mask, labels=labels).loss
    torch.testing.assert_close(mean_loss(sums, ids), loss, rtol=1e-4, atol=1e-4)
    assert sums[0, :, 1].tolist() == (mask.sum(1) - 1).tolist()


def test_a_saved_network_is_a_model_for_training(tmp_path, tiny_model):
    name = str(tiny_model("bert"))
    network, _ = load_network(name, causal=False)
    with torch.no_grad():
        network.get_input_embeddings().weight.add_(1.0)
    save_network(network, load_tokenizer(name), tmp_path / "new")
    folder = str(tmp_path / "new")
    assert len(load_tokenizer(folder)) == len(load_tokenizer(name))
    backbone = load_backbone(CFG(model=folder), None)
    assert backbone.get_input_embeddings().weight.equal(network.get_input_embeddings().weight)
    again, missing = load_network(folder, causal=False)
    assert missing == []
    assert all(v.equal(again.state_dict()[k]) for k, v in network.state_dict().items())


def test_a_new_encoder_has_the_size_that_is_asked(tiny_model):
    tokenizer = load_tokenizer(str(tiny_model("bert")))
    cfg = CFG(pretrain_layers=3, pretrain_hidden=24, pretrain_heads=2, max_len=600)
    config = new_network(cfg, tokenizer).config
    assert (config.num_hidden_layers, config.hidden_size, config.num_attention_heads) == (3, 24, 2)
    assert (config.vocab_size, config.max_position_embeddings) == (len(tokenizer), 600)


def test_weights_of_another_architecture_are_refused(tmp_path, tiny_model):
    name = str(tiny_model("bert"))
    save_network(load_network(name, False)[0], load_tokenizer(name), tmp_path / "cut")
    path = tmp_path / "cut" / "model.safetensors"
    kept = {k: v for k, v in load_file(path).items() if "layer.1" not in k}
    save_file(kept, path, {"format": "pt"})
    with pytest.raises(ConfigError, match="weights of the body are not in"):
        load_network(str(tmp_path / "cut"), causal=False)
    path.unlink()
    with pytest.raises(ConfigError, match="--from-scratch --vocab"):
        load_network(str(tmp_path / "cut"), causal=False)
