"""Decoders as text models: causal, padded on the right, read at the last token."""

import json
import shutil

import pytest
import torch
import transformers

from oofline.config import CFG
from oofline.errors import ConfigError
from oofline.models.backbone import load_backbone
from oofline.models.structure import encoder_layers, has_segments, parameter_depth
from oofline.models.text_model import build_model, load_model, save_model

DECODERS = ["llama", "qwen2", "gemma", "gpt2"]


def load(folder, **settings):
    return load_backbone(CFG(model=str(folder), **settings), None).eval()


@pytest.mark.parametrize("family", DECODERS)
def test_every_decoder_loads_whole_in_float32_without_a_cache(tiny_model, family):
    backbone = load(tiny_model(family))
    assert {p.dtype for p in backbone.parameters()} == {torch.float32}
    assert backbone.config.use_cache is False
    assert backbone(torch.ones(1, 3, dtype=torch.int64)).past_key_values is None
    assert not has_segments(backbone)
    depth = parameter_depth(backbone)
    assert set(depth.values()) == {0, 1, 2, 3}
    assert depth[next(iter(depth))] == 0  # word embeddings
    assert list(depth.values())[-1] == 3  # final norm
    assert len(encoder_layers(backbone)) == 3


@pytest.mark.parametrize("attention", ["eager", "sdpa"])
@pytest.mark.parametrize("family", DECODERS)
def test_a_token_sees_nothing_behind_it(tiny_model, family, attention):
    backbone = load(tiny_model(family))
    backbone.set_attn_implementation(attention)
    ids = torch.randint(5, 60, (2, 8), generator=torch.Generator().manual_seed(1))
    other = ids.clone()
    other[:, 5] = 4
    with torch.no_grad():
        a, b = (backbone(i).last_hidden_state for i in (ids, other))
    torch.testing.assert_close(a[:, :5], b[:, :5], rtol=0, atol=1e-6)
    assert (a[:, 5:] - b[:, 5:]).abs().amax(-1).min() > 1e-4  # and what stands behind sees it


@pytest.mark.parametrize("pooling", ["last", "mean", "attention"])
@pytest.mark.parametrize("family", DECODERS)
def test_padding_changes_no_prediction(tiny_model, make_task, batch, family, pooling):
    cfg = CFG(model=str(tiny_model(family)), pooling=pooling)
    model = build_model(cfg, make_task("multiclass"), None).eval()
    ids, mask = batch
    for row, length in enumerate((12, 7, 4)):
        alone = model(ids[row : row + 1, :length])[0, 0]
        for filler in (0, 9):  # any id will do, also where the tokenizer has none for padding
            padded = model(ids.masked_fill(mask == 0, filler), mask)[0, row]
            torch.testing.assert_close(padded, alone, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("family", ["llama", "qwen2", "gemma"])
def test_the_last_token_is_read_on_whichever_side_the_padding_stands(
    tiny_model, make_task, batch, family
):
    cfg = CFG(model=str(tiny_model(family)), pooling="last")
    model = build_model(cfg, make_task("multiclass"), None).eval()
    ids, mask = batch
    lengths = mask.sum(1).tolist()
    left = torch.stack([row.roll(12 - n) for row, n in zip(ids, lengths, strict=True)])
    left_mask = torch.stack([row.roll(12 - n) for row, n in zip(mask, lengths, strict=True)])
    positions = (left_mask.cumsum(1) - 1).clamp(min=0)
    right = model(ids, mask)
    states = model.backbone(left, attention_mask=left_mask, position_ids=positions)
    pooled = model.pooling(states.last_hidden_state, left_mask)
    torch.testing.assert_close(model.output(pooled), right[0], rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("kind", ["binary", "regression", "multi-target", "ordinal-ordinal"])
def test_a_decoder_is_saved_and_loaded_like_an_encoder(tiny_model, make_task, tmp_path, kind):
    cfg, task = CFG(model=str(tiny_model("llama")), pooling="last"), make_task(kind)
    tokenizer = transformers.AutoTokenizer.from_pretrained(cfg.model)
    y = torch.randn(6, task.n_outputs).numpy()
    model = build_model(cfg, task, y).eval()
    save_model(model, tokenizer, tmp_path)
    assert not (tmp_path / "adapter.json").exists()
    loaded = load_model(cfg, task, tmp_path).eval()
    ids = torch.randint(5, 60, (2, 8))
    assert torch.equal(loaded(ids), model(ids))


def test_the_first_token_of_a_decoder_is_refused(tiny_model):
    with pytest.raises(ConfigError, match=r'pooling = "cls" reads the first .* "last" or "mean"'):
        load(tiny_model("llama"), pooling="cls")
    load(tiny_model("bert"), pooling="cls")


def test_learned_positions_of_a_decoder_limit_max_len(tiny_model, make_task):
    cfg = CFG(model=str(tiny_model("gpt2")), max_len=301)
    with pytest.raises(ConfigError, match="reads 300 tokens at most"):
        build_model(cfg, make_task("binary"), None)


def test_the_head_of_a_language_model_is_left_out(tiny_model, tmp_path):
    folder = shutil.copytree(tiny_model("llama"), tmp_path / "whole")
    whole = transformers.LlamaForCausalLM(transformers.AutoConfig.from_pretrained(folder))
    whole.save_pretrained(folder)
    backbone = load(folder)
    assert torch.equal(backbone.get_input_embeddings().weight, whole.model.embed_tokens.weight)
    assert not any("lm_head" in name for name, _ in backbone.named_parameters())


def test_what_reads_more_than_text_is_refused(tmp_path):
    text = {"hidden_size": 8, "num_hidden_layers": 1, "num_attention_heads": 1, "head_dim": 8}
    transformers.Gemma3Config(text_config=text).save_pretrained(tmp_path)
    assert json.loads((tmp_path / "config.json").read_text())["model_type"] == "gemma3"
    with pytest.raises(ConfigError, match="gemma3 is more than a text model"):
        load(tmp_path)
