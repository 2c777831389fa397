"""A decoder with LoRA from train.csv to a submission, and again by its stored files alone."""

import json
import shutil

import pandas as pd
import pytest

from oofline import cli
from oofline.storage import Paths, read_json, write_json

TOY = ("--comp", "toy")


@pytest.fixture
def decoder(tmp_path, write_competition_at, tiny_model):
    """Paths of a trained project whose model is gone from where it was."""
    root = tmp_path / "project"
    model = shutil.copytree(tiny_model("qwen2"), tmp_path / "own-decoder")
    paths = write_competition_at(
        root, n=90, n_test=12, n_folds=2, epochs=5, max_len=64, model=str(model), pooling="last",
        lora_r=8, lora_alpha=32.0, lr=1e-2, layer_decay=0.9, awp_last_epochs=1, ema_decay=0.5,
    )  # fmt: skip
    assert cli.run(["train", *TOY, "--seed", "1"], root) == 0
    assert cli.run(["submission", *TOY], root) == 0
    shutil.rmtree(model)
    return paths


def test_a_decoder_learns_and_its_folds_are_adapters(decoder):
    scores = read_json(decoder.experiment("base") / "scores.json")
    assert scores["score"] > 0.8  # one word decides the label
    fold = decoder.fold("base", 1, 0)
    did = read_json(fold / "scores.json")["techniques"]
    assert 0 < did["lora"]["trained_share"] < 0.5
    assert did["lora"]["update"] > 0
    assert did["awp"]["relative_perturbation"] > 0
    assert "adapter.json" in read_json(fold / "scores.json")["sha256"]
    (kept,) = (decoder.output / "backbones").iterdir()
    assert kept.name.startswith("own-decoder-")
    whole = (kept / "model.safetensors").stat().st_size
    assert all(
        path.stat().st_size < whole / 2
        for path in decoder.experiment("base").rglob("model.safetensors")
    )


def test_stored_adapters_predict_the_very_same_elsewhere(decoder, tmp_path, oofline):
    here = Paths("toy", tmp_path / "kernel")
    shutil.copytree(decoder.input, here.input, ignore=shutil.ignore_patterns("cfg.toml"))
    code, out, err = oofline(here.root, "predict", *TOY, "--weights", decoder.root, "--check")
    assert (code, err) == (0, ""), out + err
    name = "seed1/fold1/test.parquet"
    pd.testing.assert_frame_equal(
        pd.read_parquet(here.experiment("base") / name),
        pd.read_parquet(decoder.experiment("base") / name), check_exact=True,
    )  # fmt: skip
    about = read_json(here.output / "predict.json")
    assert set(about["max_difference"].values()) == {0.0}
    assert oofline(here.root, "submission", *TOY)[0] == 0
    assert here.submission.read_bytes() == decoder.submission.read_bytes()


def test_what_is_missing_or_swapped_is_named_in_one_line(decoder, tmp_path, oofline):
    here = Paths("toy", tmp_path / "kernel")
    shutil.copytree(decoder.input, here.input, ignore=shutil.ignore_patterns("cfg.toml"))
    predict = ("predict", *TOY, "--weights", decoder.root)
    note = decoder.fold("base", 1, 0) / "adapter.json"
    told = json.loads(note.read_text())
    write_json(note, told | {"sha256": "0" * 64})
    code, _, err = oofline(here.root, *predict)
    assert code == 2
    assert "adapter.json is not the file that this fold was trained with" in err
    write_json(note, told)
    shutil.rmtree(decoder.output / "backbones")
    code, _, err = oofline(here.root, *predict)
    assert code == 2
    assert "the backbone below the adapters is not in" in err
    assert len(err.strip().splitlines()) == 1
