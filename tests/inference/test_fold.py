"""One stored fold: swapped files are named, differences are seen, formats are those there are."""

import functools
import pickle
import shutil

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from oofline.config import CFG
from oofline.data.batches import sorted_batches
from oofline.data.tokens import Tokens
from oofline.errors import ConfigError
from oofline.inference.files import ORIGINAL
from oofline.inference.fold import (
    Order,
    Outcome,
    fold_predictor,
    some_batches,
    usable_precision,
)
from oofline.storage import read_json, sha256_of, write_json

TOY = ("predict", "--comp", "toy", "--check")


def forget_checksums(paths):
    """Folds as they were before scores.json held any."""
    for path in paths.output.glob("*/seed*/fold*/scores.json"):
        scores = read_json(path)
        assert {"model.safetensors", "config.json", "tokenizer.json"} <= set(scores.pop("sha256"))
        write_json(path, scores)


def swap(paths, name):
    one, two = paths.fold("base", 1, 0) / name, paths.fold("base", 2, 1) / name
    shutil.copyfile(one, two)


def shift_vocabulary(paths):
    """Another tokenizer: the same pieces, their numbers moved on by one."""
    path = paths.fold("base", 2, 1) / "tokenizer.json"
    tokenizer = read_json(path)
    vocab = tokenizer["model"]["vocab"]
    words = [word for word in vocab if not word.startswith("[")]
    moved = dict(zip(words, [vocab[word] for word in words[1:] + words[:1]], strict=True))
    tokenizer["model"]["vocab"] = vocab | moved
    write_json(path, tokenizer)


@pytest.mark.parametrize("spoilt", ["model.safetensors", "tokenizer.json"])
def test_a_swapped_file_is_named(project, kernel, oofline, spoilt):
    if spoilt == "tokenizer.json":
        shift_vocabulary(project)
    else:
        swap(project, spoilt)
    code, _, err = oofline(kernel().root, *TOY, "--weights", project.root)
    assert code == 2
    assert f"seed2/fold1/{spoilt} is not the file that this fold was trained with" in err
    assert len(err.splitlines()) == 1


def test_a_missing_file_is_named(project, kernel, oofline):
    (project.fold("base", 2, 0) / "tokenizer.json").unlink()
    code, _, err = oofline(kernel().root, *TOY, "--weights", project.root)
    assert code == 2
    assert "seed2/fold0/tokenizer.json is missing" in err


@pytest.mark.parametrize("spoilt", ["model.safetensors", "tokenizer.json"])
def test_without_checksums_the_difference_tells(project, kernel, oofline, spoilt):
    forget_checksums(project)
    if spoilt == "tokenizer.json":
        shift_vocabulary(project)
    else:
        swap(project, spoilt)
    paths = kernel()
    code, out, _ = oofline(paths.root, *TOY, "--weights", project.root)
    assert code == 0  # a difference is a finding, not a failure
    differences = read_json(paths.output / "predict.json")["max_difference"]
    assert differences.pop("base/seed2/fold1") > 1e-3
    assert set(differences.values()) == {0.0}
    assert "(base/seed2/fold1)" in out.splitlines()[-1]


def halve(path, metadata):
    tensors = {name: value.half() for name, value in load_file(path).items()}
    save_file(tensors, path, metadata={"format": "pt", **metadata})


def test_float16_weights_predict_and_the_difference_is_measured(project, kernel, oofline):
    path = project.fold("base", 1, 1) / "model.safetensors"
    halve(path, {ORIGINAL: sha256_of(path)})
    halve(project.fold("base", 1, 0) / "model.safetensors", {})
    paths = kernel()
    assert oofline(paths.root, *TOY, "--weights", project.root)[0] == 0
    differences = read_json(paths.output / "predict.json")["max_difference"]
    assert 0 < differences["base/seed1/fold1"] < 1e-3
    assert 0 < differences["base/seed1/fold0"] < 1e-3
    assert differences["base/seed2/fold0"] == 0.0


def test_float16_weights_of_another_fold_are_named(project, kernel, oofline):
    digest = sha256_of(project.fold("base", 1, 0) / "model.safetensors")
    halve(project.fold("base", 1, 1) / "model.safetensors", {ORIGINAL: digest})
    code, _, err = oofline(kernel().root, *TOY, "--weights", project.root)
    assert code == 2
    assert "seed1/fold1/model.safetensors is not the file" in err


def test_what_a_started_process_is_given_can_be_sent(trained):
    cfgs = {"base": CFG(comp="toy", model="m")}
    order = Order(cfgs, trained, trained, check_rows=200)
    start = pickle.loads(pickle.dumps(functools.partial(fold_predictor, order)))
    assert start.args == (order,)
    outcome = Outcome(("base", 42, 0), "fp16", 1.5, 1e-3, 192)
    assert pickle.loads(pickle.dumps(outcome)) == outcome


def test_checked_batches_are_those_of_training_from_long_to_short():
    lengths = np.random.default_rng(0).integers(2, 200, 1000)
    tokens = Tokens(lengths, lengths, 200, 0, [], [])
    every = [tuple(batch) for batch in sorted_batches(lengths, 64)]
    some = [tuple(batch) for batch in some_batches(tokens, 64, 200)]
    assert len(some) == 3
    assert set(some) <= set(every)
    assert (some[0], some[-1]) == (every[0], every[-1])
    assert [tuple(b) for b in some_batches(tokens, 64, 10)] == every[:1]
    assert [tuple(b) for b in some_batches(tokens, 64, 10_000)] == every


def test_checked_pairs_come_in_both_orders():
    lengths = np.tile(np.random.default_rng(0).integers(2, 200, 500), 2)
    tokens = Tokens(lengths, lengths, 200, 0, [], [], orders=2)
    some = np.concatenate(some_batches(tokens, 64, 100))
    whole = np.intersect1d(some[some < 500], some[some >= 500] - 500)
    assert 64 // 2 <= len(whole) <= 200
    every = {tuple(batch) for batch in sorted_batches(lengths, 64)}
    assert {tuple(batch) for batch in some_batches(tokens, 64, 100)} < every


@pytest.fixture
def gpu(monkeypatch):
    def have(capability):
        monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
        monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
        monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device: capability)

    return have


@pytest.mark.parametrize(("capability", "trained", "used"), [
    ((7, 5), "bf16", "fp16"), ((7, 5), "fp16", "fp16"), ((7, 5), "fp32", "fp32"),
    ((7, 5), "auto", "fp16"), ((8, 0), "bf16", "bf16"), ((8, 0), "fp16", "fp16"),
])  # fmt: skip
def test_what_was_trained_in_bf16_is_predicted_on_a_t4(gpu, capability, trained, used):
    gpu(capability)
    assert usable_precision(CFG(device="cuda:0", precision=trained)).name == used


def test_fp16_is_not_emulated_on_a_cpu(monkeypatch):
    monkeypatch.setattr(torch.cpu, "_is_avx512_bf16_supported", lambda: False, raising=False)
    assert usable_precision(CFG(device="cpu", precision="fp16")).name == "fp32"
    assert usable_precision(CFG(device="cpu", precision="bf16")).name == "bf16"
    with pytest.raises(ConfigError, match="CUDA GPUs"):
        usable_precision(CFG(device="cuda:7"))
