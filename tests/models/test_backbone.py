import json
import shutil

import huggingface_hub
import pytest
import torch
import transformers
from huggingface_hub import constants
from huggingface_hub.errors import OfflineModeIsEnabled
from safetensors.torch import load_file, save_file
from transformers.utils import logging

from oofline.config import CFG
from oofline.errors import ConfigError
from oofline.models import hub
from oofline.models.backbone import load_backbone, load_tokenizer

FAMILIES = ["bert", "roberta", "deberta", "electra", "modernbert", "mpnet", "distilbert", "albert"]


def load(folder, **settings):
    return load_backbone(CFG(model=str(folder), **settings), None)


def message(call):
    with pytest.raises(ConfigError) as caught:
        call()
    assert "\n" not in str(caught.value)
    return str(caught.value)


@pytest.fixture
def copy(tiny_model, tmp_path):
    """A BERT folder that the test may damage."""
    return shutil.copytree(tiny_model("bert"), tmp_path / "bert")


@pytest.mark.parametrize("family", FAMILIES)
def test_every_family_loads_in_float32_without_pooler_and_quietly(tiny_model, capfd, family):
    tiny_model(family)
    capfd.readouterr()  # what saving printed
    backbone = load(tiny_model(family))
    tokenizer = load_tokenizer(str(tiny_model(family)))
    assert {p.dtype for p in backbone.parameters()} == {torch.float32}
    assert not [name for name, _ in backbone.named_parameters() if "pooler" in name]
    ids = tokenizer("good fire")["input_ids"]
    assert ids[0] == tokenizer.cls_token_id
    assert ids[-1] == tokenizer.sep_token_id
    saved = load_file(tiny_model(family) / "model.safetensors")
    words = backbone.get_input_embeddings().weight
    assert any(value.shape == words.shape and value.equal(words) for value in saved.values())
    assert capfd.readouterr().err == ""


def test_loading_leaves_the_verbosity_of_transformers_as_it_was(tiny_model):
    before = logging.get_verbosity(), logging.is_progress_bar_enabled()
    load(tiny_model("bert"))
    assert (logging.get_verbosity(), logging.is_progress_bar_enabled()) == before


def test_half_precision_checkpoints_become_float32(copy):
    path = copy / "model.safetensors"
    save_file({k: v.bfloat16() for k, v in load_file(path).items()}, path, {"format": "pt"})
    config = json.loads((copy / "config.json").read_text())
    (copy / "config.json").write_text(json.dumps(config | {"dtype": "bfloat16"}))
    backbone = load(copy)
    assert {p.dtype for p in backbone.parameters()} == {torch.float32}
    assert json.loads(backbone.config.to_json_string())["dtype"] == "float32"


def test_weights_of_a_task_model_are_found_below_their_prefix(tiny_model, tmp_path):
    config = transformers.AutoConfig.from_pretrained(tiny_model("bert"))
    whole = transformers.BertForMaskedLM(config)
    whole.save_pretrained(tmp_path)
    words = load(tmp_path).get_input_embeddings().weight
    assert torch.equal(words, whole.get_input_embeddings().weight)


def test_gradient_checkpointing_gives_the_same_gradients(tiny_model, batch):
    gradients = []
    for on in (False, True):
        backbone = load(tiny_model("bert"), gradient_checkpointing=on).train()
        assert backbone.is_gradient_checkpointing == on
        torch.manual_seed(0)
        backbone(batch[0], attention_mask=batch[1]).last_hidden_state.square().sum().backward()
        gradients.append(backbone.get_input_embeddings().weight.grad)
    assert torch.equal(*gradients)


def test_gradient_checkpointing_is_refused_where_unsupported(tiny_model, monkeypatch):
    monkeypatch.setattr(transformers.BertModel, "supports_gradient_checkpointing", False)
    assert "not supported" in message(lambda: load(tiny_model("bert"), gradient_checkpointing=True))


def test_architecture_alone_draws_no_random_numbers(tiny_model):
    before = torch.get_rng_state()
    cfg = CFG(model=str(tiny_model("modernbert")))
    assert load_backbone(cfg, None, weights=False).config.model_type == "modernbert"
    assert torch.equal(before, torch.get_rng_state())


@pytest.mark.parametrize("name", ["/no/such/folder", "./nowhere", "~/nothing", "a/b/c", ""])
def test_missing_folder(name):
    assert "folder does not exist" in message(lambda: load(name))


def test_folder_without_config(tmp_path):
    assert "has no config.json" in message(lambda: load(tmp_path))


def test_broken_config(copy):
    (copy / "config.json").write_text("{")
    assert "config.json is not readable" in message(lambda: load(copy))


def test_unknown_architecture(copy):
    (copy / "config.json").write_text('{"model_type": "from-the-future"}')
    assert "from-the-future" in message(lambda: load(copy))


def test_code_in_the_model_folder_is_never_run(copy):
    (copy / "evil.py").write_text("raise SystemExit('ran')")
    config = json.loads((copy / "config.json").read_text()) | {"model_type": "evil"}
    config["auto_map"] = {"AutoConfig": "evil.Config", "AutoModel": "evil.Model"}
    (copy / "config.json").write_text(json.dumps(config))
    assert "is not readable" in message(lambda: load(copy))


def test_missing_weights(copy):
    (copy / "model.safetensors").unlink()
    assert "has no *.safetensors weights" in message(lambda: load(copy))


def test_pickled_weights_are_never_opened(copy):
    (copy / "model.safetensors").rename(copy / "pytorch_model.bin")
    assert "only pickled weights (pytorch_model.bin)" in message(lambda: load(copy))


@pytest.mark.parametrize("keep", [0, 100, 5000])
def test_cut_weights(copy, keep):
    path = copy / "model.safetensors"
    path.write_bytes(path.read_bytes()[:keep])
    assert "cannot be read" in message(lambda: load(copy))


def test_weights_of_another_size(copy):
    path = copy / "model.safetensors"
    state = load_file(path)
    name = next(name for name in state if "word_embeddings" in name)
    save_file(state | {name: torch.zeros(7, 32)}, path, {"format": "pt"})
    assert "cannot be read" in message(lambda: load(copy))


def test_weights_that_would_stay_random_are_refused(copy):
    path = copy / "model.safetensors"
    state = {k: v for k, v in load_file(path).items() if "layer.2.output.dense" not in k}
    save_file(state, path, {"format": "pt"})
    text = message(lambda: load(copy))
    assert "2 weights" in text
    assert "encoder.layer.2.output.dense.bias" in text


@pytest.mark.parametrize(
    ("config", "what"),
    [
        (transformers.T5Config(), "t5 is an encoder-decoder, not supported yet"),
        (transformers.ViTConfig(), "vit is not a text model, not supported yet"),
    ],
)
def test_what_is_neither_encoder_nor_decoder_is_refused(tmp_path, config, what):
    config.save_pretrained(tmp_path)
    assert what in message(lambda: load(tmp_path))


def test_missing_tokenizer(copy):
    for path in copy.glob("*token*"):
        path.unlink()
    assert "no tokenizer could be read" in message(lambda: load_tokenizer(str(copy)))


def test_tokenizer_of_another_model(copy):
    config = json.loads((copy / "config.json").read_text()) | {"vocab_size": 20}
    (copy / "config.json").write_text(json.dumps(config))
    assert "belong to different models" in message(lambda: load_tokenizer(str(copy)))


def test_broken_tokenizer(copy):
    (copy / "tokenizer.json").write_text("{}")
    assert "no tokenizer could be read" in message(lambda: load_tokenizer(str(copy)))


# ---- the hub, without network


@pytest.fixture
def cache(tmp_path, monkeypatch):
    """An empty hub cache and a hub at a closed port."""
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(constants, "ENDPOINT", "http://127.0.0.1:9")
    monkeypatch.setattr(constants, "is_offline_mode", lambda: False)
    monkeypatch.setattr(huggingface_hub.HfApi, "model_info", _refused)
    return tmp_path / "cache"


def _refused(*args, **kwargs):
    raise ConnectionRefusedError("connection refused")


def _fill(cache, source, revision="0" * 40):
    folder = cache / "models--owner--tiny" / "snapshots" / revision
    return shutil.copytree(source, folder)


@pytest.mark.timeout(60)
def test_unreachable_hub_fails_at_once_with_the_remedy(cache):
    text = message(lambda: load("owner/tiny"))
    for part in ("owner/tiny", "http://127.0.0.1:9 cannot be reached", "local folder", "HF_HOME"):
        assert part in text


def test_offline_switch_is_named(cache, monkeypatch):
    monkeypatch.setattr(constants, "is_offline_mode", lambda: True)
    assert "HF_HUB_OFFLINE is set" in message(lambda: load_tokenizer("owner/tiny"))


def test_the_cache_is_used_without_network(cache, tiny_model, monkeypatch):
    _fill(cache, tiny_model("electra"))
    assert load("owner/tiny").config.model_type == "electra"
    assert load_tokenizer("owner/tiny").cls_token == "[CLS]"
    monkeypatch.setattr(huggingface_hub.HfApi, "model_info", _offline)
    assert load("owner/tiny").config.model_type == "electra"


def _offline(*args, **kwargs):
    raise OfflineModeIsEnabled("offline")


def test_a_cache_without_weights_does_not_count(cache, tiny_model):
    (_fill(cache, tiny_model("bert")) / "model.safetensors").unlink()
    assert "its weights are not in the cache" in message(lambda: load("owner/tiny"))


def test_pickled_hub_models_come_from_the_converted_revision(cache, tiny_model, monkeypatch):
    main = _fill(cache, tiny_model("bert"))
    (main / "model.safetensors").rename(main / "pytorch_model.bin")
    asked = []

    def info(self, name, revision, timeout):
        asked.append((name, revision, timeout <= 10))
        return type("Info", (), {"sha": {"main": "0" * 40, "refs/pr/4": "1" * 40}[revision]})

    def snapshot(name, revision, **_):
        return _fill(cache, tiny_model("bert"), revision) if revision[0] == "1" else main

    def threads(self, name, author):
        kind = {"is_pull_request": True, "title": "Adding `safetensors` variant of this model"}
        return [type("Thread", (), kind | {"num": 4})] if author == "SFconvertbot" else []

    monkeypatch.setattr(huggingface_hub.HfApi, "model_info", info)
    monkeypatch.setattr(huggingface_hub.HfApi, "get_repo_discussions", threads)
    monkeypatch.setattr(huggingface_hub, "snapshot_download", snapshot)
    assert hub.model_folder("owner/tiny").name == "1" * 40
    assert asked == [("owner/tiny", "main", True), ("owner/tiny", "refs/pr/4", True)]
    monkeypatch.setattr(huggingface_hub.HfApi, "model_info", _refused)
    assert load("owner/tiny").config.model_type == "bert"  # found again without network


def test_a_name_the_hub_does_not_know(cache, monkeypatch):
    from huggingface_hub.errors import RepositoryNotFoundError

    def unknown(*args, **kwargs):
        raise RepositoryNotFoundError.__new__(RepositoryNotFoundError)

    monkeypatch.setattr(huggingface_hub.HfApi, "model_info", unknown)
    assert "not on the hub: check the spelling" in message(lambda: load("owner/tiny"))


def test_a_name_that_cannot_be_a_hub_name(cache, monkeypatch):
    monkeypatch.undo()
    assert "neither a folder nor a hub name" in message(lambda: load("two words/..x"))
