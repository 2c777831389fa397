import os
from dataclasses import replace

import numpy as np
import pytest
import torch

from oofline.config import CFG
from oofline.errors import ConfigError
from oofline.models.backbone import load_tokenizer
from oofline.models.losses import build_loss
from oofline.models.text_model import build_model, load_model, save_model

KINDS = ["binary", "multiclass", "regression"]
Y = {
    "binary": np.array([0, 1, 1]),
    "multiclass": np.array([0, 1, 2]),
    "regression": np.array([10.0, 14.0, 21.0]),
}


@pytest.fixture
def make_model(tiny_model, make_task):
    def make(kind="regression", family="bert", seed=0, **settings):
        torch.manual_seed(seed)
        cfg = CFG(model=str(tiny_model(family)), **settings)
        return build_model(cfg, make_task(kind), Y[kind]), cfg

    return make


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("family", ["bert", "roberta", "deberta", "electra", "modernbert"])
def test_logits_and_predictions(make_model, batch, kind, family):
    model, _ = make_model(kind, family)
    model.eval()
    with torch.no_grad():
        logits = model(*batch)
        predictions = model.predictions(logits)
    width = 3 if kind == "multiclass" else 1
    assert logits.shape == (1, 3, width)
    assert logits.dtype == predictions.dtype == torch.float32
    x = logits[0].double().numpy()
    expected = {
        "binary": 1 / (1 + np.exp(-x)),
        "multiclass": np.exp(x) / np.exp(x).sum(1, keepdims=True),
        "regression": x * Y["regression"].std() + 15.0,
    }[kind]
    np.testing.assert_allclose(predictions.numpy(), expected, rtol=1e-5)


@pytest.mark.parametrize("family", ["bert", "roberta", "deberta", "electra", "modernbert"])
def test_padding_and_a_missing_mask_change_nothing(make_model, batch, family):
    model, _ = make_model("multiclass", family)
    model.eval()
    ids, mask = batch
    with torch.no_grad():
        padded = model(ids, mask)
        for row, length in enumerate((12, 7, 4)):
            alone = model(ids[row : row + 1, :length])
            torch.testing.assert_close(padded[:, row : row + 1], alone, rtol=1e-4, atol=1e-6)
        whole = model(ids[:1], mask[:1])
        torch.testing.assert_close(model(ids[:1], None), whole, rtol=1e-5, atol=1e-6)


def test_dropout_samples_run_the_backbone_once(make_model, batch):
    model, _ = make_model("multiclass", dropout=0.0, dropout_samples=4, dropout_sample_p=0.5)
    calls = []
    model.backbone.register_forward_hook(lambda *_: calls.append(1))
    logits = model.train()(*batch)
    assert logits.shape == (4, 3, 3)
    assert len(calls) == 1
    assert len({tuple(sample.flatten().tolist()) for sample in logits}) == 4  # its own mask each
    assert model.predictions(logits).shape == (3, 3)
    torch.testing.assert_close(model.predictions(logits).sum(1), torch.ones(3))
    assert model.eval()(*batch).shape == (1, 3, 3)


def test_only_heads_that_need_them_ask_for_all_layers(make_model, batch):
    for pooling, expected in [("mean", False), ("last-k", True), ("weighted-layer", True)]:
        model, _ = make_model("binary", pooling=pooling, pooling_layers=3)
        asked = []
        model.backbone.register_forward_pre_hook(
            lambda _m, _a, kwargs, asked=asked: asked.append(kwargs["output_hidden_states"]),
            with_kwargs=True,
        )
        model(*batch)
        assert asked == [expected]


def test_every_parameter_is_trained(make_model, make_task, batch):
    for pooling in ("mean", "attention", "weighted-layer", "gem"):
        model, cfg = make_model("multiclass", pooling=pooling, pooling_layers=2)
        ids = batch[0]
        ids[0, 0] = 5
        build_loss(cfg, make_task("multiclass"), Y["multiclass"])(
            model(*batch), torch.tensor([0, 1, 2])
        ).backward()
        idle = [n for n, p in model.named_parameters() if p.grad is None or p.grad.abs().sum() == 0]
        # keys' biases shift all scores of a row alike, so softmax makes their gradient 0
        assert [name for name in idle if "key.bias" not in name] == []
        assert set(model.head_parameters()) == {
            name for name, _ in model.named_parameters() if not name.startswith("backbone.")
        }
        assert "output.weight" in model.head_parameters()


@pytest.mark.parametrize("pooling", ["mean", "attention"])
def test_head_starts_small_unbiased_and_seeded(make_model, pooling):
    model, _ = make_model("multiclass", pooling=pooling)
    assert model.output.bias.abs().max() == 0
    assert 0.01 < model.output.weight.std() < 0.03
    same, other = (make_model("multiclass", pooling=pooling, seed=s)[0] for s in (0, 1))
    assert torch.equal(model.output.weight, same.output.weight)
    assert not torch.equal(model.output.weight, other.output.weight)


def test_dropout_is_zero_for_regression_and_the_models_own_for_classes(make_model):
    from oofline.models.dropout import dropout_values

    for kind, setting, expected in [
        ("regression", None, 0.0), ("regression", 0.3, 0.3),
        ("binary", None, 0.1), ("multiclass", 0.0, 0.0),
    ]:  # fmt: skip
        model, _ = make_model(kind, dropout=setting)
        assert set(dropout_values(model.backbone).values()) == {expected}


def test_targets_are_standardised_and_back(make_model):
    model, _ = make_model("regression")
    labels = model.encode(Y["regression"])
    assert labels.shape == (3, 1)
    assert labels.dtype == np.float32
    np.testing.assert_allclose(labels.mean(), 0, atol=1e-6)
    np.testing.assert_allclose(labels.std(), 1, rtol=1e-6)
    back = model.predictions(torch.from_numpy(labels)[None])
    np.testing.assert_allclose(back[:, 0].numpy(), Y["regression"], rtol=1e-6)
    raw, _ = make_model("regression", standardize_targets=False)
    np.testing.assert_array_equal(raw.encode(Y["regression"])[:, 0], Y["regression"])
    assert model.encode(np.array([[15.0]])).item() == pytest.approx(0.0)


def test_constant_targets_stay_finite(tiny_model, make_task):
    cfg = CFG(model=str(tiny_model("bert")))
    model = build_model(cfg, make_task("regression"), np.array([2.0, 2.0]))
    assert np.isfinite(model.encode(np.array([2.0, 3.0]))).all()


def test_class_labels_are_indices(make_model):
    labels = make_model("multiclass")[0].encode(np.array([2.0, 0.0]))
    assert labels.dtype == np.int64
    assert labels.tolist() == [2, 0]


def test_logits_are_float32_under_autocast(make_model, batch):
    model, _ = make_model("regression", pooling="attention")
    with torch.autocast("cpu", dtype=torch.bfloat16):
        logits = model(*batch)
    assert logits.dtype == torch.float32
    assert not torch.equal(logits, logits.bfloat16().float())  # not merely cast back


@pytest.mark.parametrize("family", ["bert", "roberta", "electra", "modernbert"])
def test_attention_follows_the_device_and_both_kinds_agree(make_model, batch, family):
    model, _ = make_model("multiclass", family)
    model.eval()
    with torch.no_grad():
        plain = model(*batch)
        assert model.backbone.config._attn_implementation == "eager"
        model._match_attention("cuda")
        assert model.backbone.config._attn_implementation == "sdpa"
        model._has_sdpa = False  # keep it for one call on the CPU
        torch.testing.assert_close(model(*batch), plain, rtol=1e-4, atol=1e-6)


SAVED = [("bert", "mean"), ("roberta", "weighted-layer"), ("deberta", "attention"),
         ("electra", "gem"), ("modernbert", "last-k"), ("albert", "max"),
         ("mpnet", "mean"), ("distilbert", "cls")]  # fmt: skip


@pytest.mark.parametrize(("family", "pooling"), SAVED)
def test_saved_folds_predict_bit_for_bit_from_their_folder_alone(
    make_model, make_task, batch, tmp_path, family, pooling
):
    model, cfg = make_model("regression", family, pooling=pooling, pooling_layers=2)
    for parameter in model.parameters():  # as if trained
        parameter.data += 0.01 * torch.randn_like(parameter)
    tokenizer = load_tokenizer(cfg.model)
    save_model(model, tokenizer, tmp_path)
    before = torch.get_rng_state()
    loaded = load_model(replace(cfg, model="/gone"), make_task("regression"), tmp_path)
    assert torch.equal(before, torch.get_rng_state())
    model.eval()
    loaded.eval()
    with torch.no_grad():
        assert torch.equal(loaded.predictions(loaded(*batch)), model.predictions(model(*batch)))
    assert loaded.state_dict().keys() == model.state_dict().keys()
    text = "Good FIRE, bad things!"
    assert load_tokenizer(str(tmp_path))(text) == tokenizer(text)
    assert not [path.name for path in tmp_path.iterdir() if "tmp" in path.name or path.is_dir()]


def test_saving_again_replaces_and_a_failed_save_leaves_the_old_file(
    make_model, make_task, tmp_path, monkeypatch
):
    model, cfg = make_model("regression")
    tokenizer = load_tokenizer(cfg.model)
    save_model(model, tokenizer, tmp_path)
    old = model.output.weight.detach().clone()
    model.output.weight.data += 1

    def failing(state, path, metadata):
        path.write_bytes(b"half")
        raise OSError(28, os.strerror(28))

    monkeypatch.setattr("oofline.models.weights.save_file", failing)
    with pytest.raises(Exception, match="No space left"):
        save_model(model, tokenizer, tmp_path)
    monkeypatch.undo()
    task = make_task("regression")
    assert torch.equal(load_model(cfg, task, tmp_path).output.weight, old)
    save_model(model, tokenizer, tmp_path)
    assert torch.equal(load_model(cfg, task, tmp_path).output.weight, old + 1)


def test_damaged_or_unfitting_fold_folders_are_named(make_model, make_task, tmp_path):
    model, cfg = make_model("regression")
    task = make_task("regression")
    with pytest.raises(ConfigError, match=r"model\.safetensors is missing or damaged"):
        load_model(cfg, task, tmp_path)
    save_model(model, load_tokenizer(cfg.model), tmp_path)
    with pytest.raises(ConfigError, match=r"does not fit these settings .*pooling = attention"):
        load_model(replace(cfg, pooling="attention"), task, tmp_path)
    with pytest.raises(ConfigError, match="3 outputs"):
        load_model(cfg, make_task("multiclass"), tmp_path)
    path = tmp_path / "model.safetensors"
    path.write_bytes(path.read_bytes()[:1000])
    with pytest.raises(ConfigError, match="missing or damaged"):
        load_model(cfg, task, tmp_path)


def test_texts_longer_than_the_encoder_reads_are_refused(make_model):
    for family, most in [("bert", 300), ("roberta", 299), ("mpnet", 298), ("albert", 300)]:
        with pytest.raises(ConfigError, match=f"max_len = {most + 1}, but .* reads {most} tokens"):
            make_model("binary", family, max_len=most + 1)
        model, _ = make_model("binary", family, max_len=most)
        ids = torch.full((1, most), 5)
        assert model(ids).isfinite().all()
        with pytest.raises((IndexError, RuntimeError)):
            model(torch.full((1, most + 1), 5))
    for family in ("deberta", "modernbert"):
        assert make_model("binary", family, max_len=1000)[0](torch.full((1, 400), 5)).shape


def test_a_model_learns(make_model, make_task, batch):
    model, cfg = make_model("regression")
    loss_of = build_loss(cfg, make_task("regression"), Y["regression"])
    labels = torch.from_numpy(model.encode(Y["regression"]))
    optimizer = torch.optim.AdamW(model.parameters(), lr=3e-3)
    for _ in range(30):
        optimizer.zero_grad()
        loss = loss_of(model.train()(*batch), labels)
        loss.backward()
        optimizer.step()
    predictions = model.eval().predictions(model(*batch))[:, 0].detach().numpy()
    np.testing.assert_allclose(predictions, Y["regression"], atol=2.0)
