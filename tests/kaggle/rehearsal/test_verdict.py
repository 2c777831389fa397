"""Predictions against the stored ones reveal a swapped model and a wrong tokenizer."""

import json
import shutil
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest

from oofline.data.competition import read_competition
from oofline.inference.run import run_predict
from oofline.kaggle import bundle
from oofline.kaggle.rehearsal.isolation import Finished, read_predict
from oofline.kaggle.rehearsal.verdict import (
    HALF_SHARE,
    bound_for,
    cause_of,
    check_submission_file,
    compare_with_stored,
)
from oofline.storage import Paths, read_json, write_json


@pytest.fixture
def shipped(trained, tmp_path, load_settings):
    """(paths, competition, predict) of a toy; predict(change) -> differences of a shipped copy."""
    paths, cfg = trained(lr=1e-2)
    competition = read_competition(cfg, paths)

    def predict(change=lambda folder: None):
        weights, working = tmp_path / "weights", tmp_path / "working"
        for target, source in bundle.trained_files(paths, cfg.exp):
            bundle.place(source, weights / target)
        change(weights / "output" / "toy" / "base" / "seed42")
        shutil.copytree(paths.input, working / "input" / "toy")
        (working / "input" / "toy" / "cfg.toml").unlink()
        options = SimpleNamespace(
            cfg=replace(cfg, device="cpu"), weights=str(weights), check=True, check_rows=20
        )
        run_predict(options, Paths("toy", working))
        about = read_predict(working, "toy")
        return compare_with_stored(paths, working, cfg.exp, competition, about, None)

    return predict


def _forget_hashes(folder):
    """scores.json without the files' SHA-256: then only the predictions can tell."""
    for path in folder.glob("fold*/scores.json"):
        write_json(path, {k: v for k, v in read_json(path).items() if k != "sha256"})


def test_the_same_weights_give_the_same_predictions(shipped):
    found = shipped()
    assert len(found) == 2 * 2 + 1
    assert all(each.holds for each in found), found
    assert {each.bound for each in found} == {1e-5}


def test_one_swapped_weight_file_is_revealed(shipped):
    def swap(folder):
        _forget_hashes(folder)
        shutil.copyfile(
            folder / "fold1" / "model.safetensors", folder / "fold0" / "model.safetensors"
        )

    bad = [each for each in shipped(swap) if not each.holds]
    assert "base/seed42/fold0, public test rows" in [each.what for each in bad]
    assert not any("fold1" in each.what for each in bad)


def test_a_wrong_tokenizer_is_revealed(shipped):
    def change(folder):
        _forget_hashes(folder)
        path = folder / "fold0" / "tokenizer.json"
        content = json.loads(path.read_text())
        vocabulary = content["model"]["vocab"]
        vocabulary["good"], vocabulary["bad"] = vocabulary["bad"], vocabulary["good"]
        path.write_text(json.dumps(content))

    assert any(not each.holds and "fold0" in each.what for each in shipped(change))


def test_bounds_of_formats_and_of_rounded_weights():
    stored = pd.DataFrame({0: [0.0, 2.0]})
    assert bound_for(stored, {"fp32"}, None) == 1e-5
    assert bound_for(stored, {"fp32", "bf16"}, None) == pytest.approx(HALF_SHARE)
    rounded = bound_for(stored, {"fp32"}, {"max_difference": 0.01})
    assert rounded == pytest.approx(0.03001)


def test_a_run_that_left_no_submission(tmp_path, load_settings, write_competition):
    paths = write_competition("binary", 30, 7)
    cfg = load_settings(paths)
    assert "left no submission.csv" in check_submission_file(tmp_path, cfg, paths)
    (tmp_path / "submission.csv").write_text("id,target\nr0030,7\n")
    assert "not a valid submission" in check_submission_file(tmp_path, cfg, paths)


def test_a_good_run_has_no_cause():
    assert cause_of(Finished(0, 1.0, 0.1, "", "all is well\n")) == ""
    assert np.isfinite(HALF_SHARE)
