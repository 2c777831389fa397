"""LoRA: the formula, what is adapted, what is trained, and what a saved fold holds."""

import json
import shutil
import sys

import pytest
import torch
import transformers
from safetensors.torch import load_file
from torch.nn import functional

from oofline.config import CFG
from oofline.errors import ConfigError, DataError
from oofline.models import four_bit as four_bit_module
from oofline.models.adapters import adapted_layers, adapter_targets, add_adapters
from oofline.models.backbone import load_backbone
from oofline.models.kept import backbone_of, keep_backbone, kept_files, model_digest
from oofline.models.text_model import build_model, load_model, save_model
from oofline.techniques import build_techniques
from oofline.training.drift import Drift
from oofline.training.optim import build_optimizer

FAMILIES = ["bert", "deberta", "modernbert", "albert", "llama", "qwen2", "gemma", "gpt2"]
LINEAR = {
    "bert": {"query", "key", "value", "dense"},
    "llama": {"q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"},
    "gpt2": {"c_attn", "c_proj", "c_fc"},
}


@pytest.fixture
def lora(tiny_model, make_task):
    """lora(family, **settings) -> (cfg, task, model with adapters away from 0)."""

    def make(family="llama", **settings):
        cfg = CFG(model=str(tiny_model(family)), **({"lora_r": 4, "lora_alpha": 8.0} | settings))
        task = make_task("multiclass")
        torch.manual_seed(0)
        model = build_model(cfg, task, None)
        add_adapters(model, cfg)
        for layer in adapted_layers(model.backbone):
            torch.nn.init.normal_(layer.lora_B["default"].weight, 0, 0.1)
        return cfg, task, model

    return make


@pytest.fixture
def fold(lora, tmp_path):
    """(cfg, task, model, folder) of a fold with adapters, saved below output/toy."""
    cfg, task, model = lora()
    folder = tmp_path / "output" / "toy" / "base" / "seed42" / "fold0"
    folder.mkdir(parents=True)
    save_model(model, transformers.AutoTokenizer.from_pretrained(cfg.model), folder)
    keep_backbone(folder)
    return cfg, task, model, folder


@pytest.mark.parametrize("family", FAMILIES)
def test_an_adapted_layer_computes_the_papers_formula(lora, family):
    """W0 x + b + (alpha / r) B A x, in float64."""
    _, _, model = lora(family)
    for layer in adapted_layers(model.backbone):
        a, b = (m["default"].weight.double() for m in (layer.lora_A, layer.lora_B))
        weight, bias = layer.base_layer.weight.double(), layer.base_layer.bias
        weight = weight.T if family == "gpt2" else weight
        x = torch.randn(3, a.shape[1])
        wanted = x.double() @ weight.T + 8.0 / 4 * (x.double() @ a.T @ b.T)
        wanted = wanted + (0 if bias is None else bias.double())
        torch.testing.assert_close(layer(x).double(), wanted, rtol=1e-4, atol=1e-5)


def test_the_count_of_the_readme():
    """Qwen2.5-0.5B in its published shape, on the meta device: what r = 16 trains."""
    shape = transformers.Qwen2Config(
        vocab_size=151936, hidden_size=896, intermediate_size=4864, num_hidden_layers=24,
        num_attention_heads=14, num_key_value_heads=2, tie_word_embeddings=True,
    )  # fmt: skip
    holder = torch.nn.Module()
    with torch.device("meta"):
        holder.backbone = transformers.Qwen2Model(shape)
        backbone = sum(p.numel() for p in holder.parameters())
        add_adapters(holder, CFG(model="any", lora_r=16, lora_alpha=32.0))
    trained = sum(p.numel() for name, p in holder.named_parameters() if "lora_" in name)
    assert f"{trained / 1e6:.1f} of {backbone / 1e6:.0f} million" == "8.8 of 494 million"


@pytest.mark.parametrize("family", FAMILIES)
def test_a_fresh_adapter_changes_nothing_and_only_it_is_trained(tiny_model, make_task, family):
    cfg = CFG(model=str(tiny_model(family)), lora_r=2, pooling="mean")
    torch.manual_seed(0)
    model = build_model(cfg, make_task("binary"), None).eval()
    ids = torch.randint(5, 60, (2, 9))
    before = model(ids)
    add_adapters(model, cfg)
    assert torch.equal(model.eval()(ids), before)
    trained = {name for name, p in model.named_parameters() if p.requires_grad}
    adapters = {name for name, _ in model.named_parameters() if ".lora_" in name}
    assert trained == adapters | {"output.weight", "output.bias"}
    assert len(adapters) == 2 * len(adapted_layers(model.backbone)) > 0


@pytest.mark.parametrize("family", LINEAR)
def test_targets_are_found_by_structure_or_by_name(tiny_model, family):
    backbone = load_backbone(CFG(model=str(tiny_model(family))), None)
    found = adapter_targets(backbone)
    assert {name.rpartition(".")[2] for name in found} == LINEAR[family]
    assert all(".1." in n or ".0." in n or ".2." in n for n in found)  # in each of three layers
    first = sorted(LINEAR[family])[0]
    named = adapter_targets(backbone, f" {first} ,")
    assert named == [name for name in found if name.endswith(first)]


def test_settings_that_do_not_fit_the_backbone_are_refused(tiny_model, make_task):
    def build(**settings):
        cfg = CFG(model=str(tiny_model("llama")), **settings)
        add_adapters(build_model(cfg, make_task("binary"), None), cfg)

    with pytest.raises(ConfigError, match=r"no linear layer query; there: q_proj, k_proj"):
        build(lora_r=2, lora_targets="q_proj, query")
    with pytest.raises(ConfigError, match="lora_r = 17 is more than the 16 rows or columns"):
        build(lora_r=17)


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"lora_targets": "q_proj"}, "need lora_r above 0"),
        ({"lora_dropout": 0.1}, "need lora_r above 0"),
        ({"lora_4bit": True}, "need lora_r above 0"),
        ({"lora_r": 4, "body_lr": 0.0}, "which body_lr = 0 freezes"),
        ({"lora_r": 4, "mixout_p": 0.1}, "leave out mixout_p or lora_r"),
        ({"lora_r": 4, "fgm_eps": 0.5}, "which LoRA freezes"),
        ({"lora_r": 4, "reinit_layers": 1}, "leave one out"),
        ({"lora_r": -1}, "lora_r = -1 is out of range"),
        ({"lora_r": 4, "lora_alpha": 0.0}, "lora_alpha = 0.0 is out of range"),
    ],
)
def test_settings_that_contradict_each_other_are_refused(settings, words):
    with pytest.raises(ConfigError, match=words):
        CFG(**settings)


def test_four_bits_without_a_gpu_are_refused_in_one_line(tiny_model, monkeypatch):
    cfg = CFG(model=str(tiny_model("llama")), lora_r=2, lora_4bit=True, device="cpu")
    with pytest.raises(ConfigError, match="lora_4bit needs a CUDA GPU") as caught:
        load_backbone(cfg, None)
    assert "\n" not in str(caught.value)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(four_bit_module.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(ConfigError, match=r'pip install "oofline\[4bit\]"'):
        load_backbone(CFG(model=cfg.model, lora_r=2, lora_4bit=True), None)


@pytest.mark.parametrize(("device", "place"), [
    ("auto", "cuda"), ("cuda:1", "cuda:1"), ("cuda:1,cuda:0", "cuda:1"),
    ("cuda:1+cuda:2", "cuda:1"),
])  # fmt: skip
def test_four_bits_stand_on_the_first_gpu_that_is_named(monkeypatch, device, place):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda emulated: False)
    monkeypatch.setattr(four_bit_module.importlib.util, "find_spec", lambda name: True)
    monkeypatch.setattr(four_bit_module, "BitsAndBytesConfig", dict)
    assert four_bit_module.four_bit(CFG(device=device))["device_map"] == {"": place}


@pytest.mark.parametrize("family", ["llama", "bert"])
def test_a_backbone_in_four_bits_trains_and_is_loaded_again(
    tiny_model, make_task, tmp_path, monkeypatch, family
):
    """On a GPU as it is; without one in bitsandbytes' own CPU code, which we do not offer."""
    bits = pytest.importorskip("bitsandbytes", reason="bitsandbytes is not installed")
    cuda = torch.cuda.is_available()
    device = torch.device("cuda" if cuda else "cpu")
    if not cuda:
        monkeypatch.setattr(bits.nn.modules, "has_avx512bf16", lambda: False)  # it repacks weights
        nf4 = {"load_in_4bit": True, "bnb_4bit_quant_type": "nf4"}
        config = transformers.BitsAndBytesConfig(**nf4, bnb_4bit_compute_dtype=torch.bfloat16)
        arguments = {"quantization_config": config, "device_map": {"": "cpu"}}
        monkeypatch.setattr("oofline.models.backbone.four_bit", lambda cfg: arguments)
    cfg = CFG(model=str(tiny_model(family)), lora_r=4, lora_4bit=True, lr=1e-2)
    task = make_task("binary")
    model = build_model(cfg, task, None)
    (technique,) = build_techniques(cfg, task)
    technique.prepare(model)
    model.to(device)
    layers = adapted_layers(model.backbone)
    assert {type(layer.base_layer).__name__ for layer in layers} == {"Linear4bit"}
    assert {p.dtype for p in model.parameters() if p.requires_grad} == {torch.float32}
    packed = [layer.base_layer.weight.clone() for layer in layers]
    optimizer, drift = build_optimizer(cfg, model), Drift(model)
    ids, wanted = torch.randint(5, 60, (4, 9)).to(device), torch.tensor([0, 1, 0, 1.0]).to(device)
    losses = []
    for _ in range(4):
        with torch.autocast(device.type, dtype=torch.bfloat16):
            logits = model.train()(ids)[0, :, 0]
        losses.append(functional.binary_cross_entropy_with_logits(logits, wanted))
        optimizer.zero_grad()
        losses[-1].backward()
        optimizer.step()
    assert losses[-1] < losses[0]
    assert drift.check()["body"] > 0
    assert 0 < technique._update() < 10
    assert all(
        torch.equal(a, layer.base_layer.weight) for a, layer in zip(packed, layers, strict=True)
    )
    save_model(model, transformers.AutoTokenizer.from_pretrained(cfg.model), tmp_path)
    loaded = load_model(cfg, task, tmp_path).to(device).eval()
    with torch.no_grad():
        assert torch.equal(loaded(ids), model.eval()(ids))


def test_peft_is_imported_only_where_it_is_used(tiny_model, make_task):
    import subprocess

    code = "import sys, oofline.cli, oofline.techniques; sys.exit('peft' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


# ---- what is stored


def test_a_state_holds_adapters_and_head_alone(lora):
    _, _, model = lora()
    state = model.state_dict()
    assert all(".lora_" in n or not n.startswith("backbone.") for n in state)
    assert {n for n, p in model.named_parameters() if p.requires_grad} <= set(state)
    assert model.load_state_dict(state).missing_keys == []
    with pytest.raises(RuntimeError, match="lora_A"):
        model.load_state_dict({n: v for n, v in state.items() if "layers.1.mlp" not in n})


def test_a_saved_fold_is_small_and_predicts_the_same(fold):
    cfg, task, model, folder = fold
    state = load_file(folder / "model.safetensors")
    assert not any("base_layer" in name or "embed" in name for name in state)
    ids = torch.randint(5, 60, (2, 9))
    before = torch.get_rng_state()
    loaded = load_model(cfg, task, folder).eval()
    assert torch.equal(before, torch.get_rng_state())
    assert torch.equal(loaded(ids), model.eval()(ids))
    note = json.loads((folder / "adapter.json").read_text())
    kept = folder.parents[2] / note["folder"]
    assert kept.parent.name == "backbones"
    assert model_digest(kept) == note["sha256"]
    assert kept_files(folder) == sorted(kept.iterdir())


def test_the_stored_backbone_is_enough(fold):
    cfg, task, model, folder = fold
    note = json.loads((folder / "adapter.json").read_text())
    (folder / "adapter.json").write_text(json.dumps(note | {"model": "/not/there"}))
    gone = CFG(**(vars(cfg) | {"model": "/not/there/either"}))
    ids = torch.randint(5, 60, (2, 9))
    assert torch.equal(load_model(gone, task, folder).eval()(ids), model.eval()(ids))
    shutil.rmtree(folder.parents[2] / "backbones")
    with pytest.raises(ConfigError, match=r"is not in .*backbones.*copy that folder too"):
        load_model(gone, task, folder)
    with pytest.raises(DataError, match="is missing, the backbone below the adapters"):
        kept_files(folder)
    assert backbone_of(folder, cfg.model).samefile(cfg.model)  # by its name, where that is there


def test_another_backbone_than_the_trained_one_is_refused(fold, tiny_model):
    cfg, task, _, folder = fold
    kept = kept_files(folder)[0].parent
    shutil.copyfile(tiny_model("gemma") / "model.safetensors", kept / "model.safetensors")
    with pytest.raises(ConfigError, match=r"is not the backbone that .* was trained on"):
        load_model(cfg, task, folder)


def test_a_backbone_is_stored_once_and_a_cut_copy_is_made_again(fold):
    folder = fold[3]
    path = next(p for p in kept_files(folder) if p.suffix == ".safetensors")
    written = path.stat().st_mtime_ns
    keep_backbone(folder)
    assert path.stat().st_mtime_ns == written
    path.write_bytes(path.read_bytes()[:100])
    keep_backbone(folder)
    assert backbone_of(folder, "").samefile(path.parent)
