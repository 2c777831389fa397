"""The container's entry: hyperparameters in, models and scores out, one line with the score."""

import os
import re
import signal
import subprocess
import sys

import pytest

from oofline import cli, sagemaker
from oofline.errors import ConfigError
from oofline.models.kept import kept_files
from oofline.sagemaker import train_options
from oofline.storage import Paths, read_json

METRIC = re.compile(r"oof_accuracy=([-+0-9.eE]+);")
"""As the README gives it."""


@pytest.fixture
def container(tmp_path, write_competition_at, monkeypatch):
    """container() -> (environment, root): a fresh container on the same channels."""
    monkeypatch.setattr(sagemaker, "HOME", tmp_path / "opt" / "ml")
    data = write_competition_at(tmp_path / "data", n=48, epochs=1, n_folds=2).input
    folders = {
        "SM_CHANNEL_TRAINING": data, "SM_MODEL_DIR": tmp_path / "model",
        "SM_OUTPUT_DATA_DIR": tmp_path / "results", "SM_CHECKPOINT_DIR": tmp_path / "checkpoints",
    }  # fmt: skip
    (tmp_path / "checkpoints").mkdir()
    count = iter(range(9))

    def make(*without):
        root = tmp_path / f"code{next(count)}"
        root.mkdir()
        named = {name: str(path) for name, path in folders.items() if name not in without}
        return {**named, "OOFLINE_ROOT": str(root)}, root

    return make


def test_a_job_delivers_models_results_and_a_score(container, tmp_path, capsys):
    environ, _ = container()
    argv = ["--exp", "awp", "--metric", "accuracy", "--awp_last_epochs", "1", "--lr", "2e-3"]
    assert sagemaker.run(argv, environ) == 0
    last = capsys.readouterr().out.splitlines()[-1]
    scores = read_json(tmp_path / "results" / "scores.json")
    assert float(METRIC.fullmatch(last)[1]) == pytest.approx(scores["score"], abs=1e-5)
    names = {path.name for path in (tmp_path / "results").iterdir()}
    assert {"scores.json", "oof.parquet", "test.parquet", "pictures"} <= names
    assert (tmp_path / "results" / "pictures" / "learning_curves.png").is_file()
    models = Paths("competition", tmp_path / "model")
    fold = models.fold("awp", 42, 1)
    assert {"model.safetensors", "config.json", "tokenizer.json", "scores.json"} <= {
        path.name for path in fold.iterdir()
    }
    cfg = read_json(models.experiment("awp") / "cfg.json")
    assert (cfg["lr"], cfg["awp_last_epochs"]) == (2e-3, 1)


def test_the_backbone_below_adapters_is_delivered(container, tmp_path):
    environ, _ = container()
    assert sagemaker.run(["--exp", "lora", "--lora_r", "4"], environ) == 0
    fold = Paths("competition", tmp_path / "model").fold("lora", 42, 1)
    assert {path.name for path in kept_files(fold)} == {"model.safetensors", "config.json"}


def test_what_was_delivered_predicts(container, tmp_path, write_competition_at):
    environ, _ = container("SM_OUTPUT_DATA_DIR", "SM_CHECKPOINT_DIR")
    assert sagemaker.run(["--comp", "toy"], environ) == 0
    paths = write_competition_at(tmp_path / "later", n=48)
    (paths.input / "cfg.toml").unlink()
    argv = ["--comp", "toy", "--weights", environ["SM_MODEL_DIR"], "--check"]
    assert cli.run(["predict", *argv], paths.root) == 0
    differences = read_json(paths.output / "predict.json")["max_difference"]
    assert list(differences.values()) == [0.0, 0.0]


def test_a_restarted_job_goes_on_from_its_checkpoints(container, tmp_path, capsys):
    environ, root = container()
    assert sagemaker.run(["--fold", "0"], environ) == 0
    out = capsys.readouterr().out
    assert "no out-of-fold score yet" in out
    assert "oof_" not in out
    assert (tmp_path / "checkpoints" / "output" / "competition" / "base" / "cfg.json").is_file()
    environ, other = container()
    assert other != root
    assert sagemaker.run([], environ) == 0
    assert "1 of 2 folds are finished already" in capsys.readouterr().out


@pytest.mark.timeout(900)  # an interpreter that imports torch, on a machine that may be busy
@pytest.mark.skipif(sys.platform == "win32", reason="sends SIGTERM")
def test_a_spot_interruption_saves_a_state(container, tmp_path):
    environ, root = container()
    command = [sys.executable, "-m", "oofline.sagemaker", "--epochs", "500", "--device", "cpu"]
    with subprocess.Popen(
        command, cwd=root, env=os.environ | environ, stdout=subprocess.PIPE, text=True
    ) as process:
        for line in process.stdout:
            if " epoch " in line:
                break
        process.send_signal(signal.SIGTERM)
        process.stdout.read()
        assert process.wait(300) == 130
    saved = (tmp_path / "checkpoints").rglob("state.safetensors")
    assert [path.parent.name for path in saved] == ["fold0"]
    assert not (tmp_path / "model").exists()


@pytest.mark.parametrize(("argv", "options"), [
    (["--lr", "3e-5", "--awp_lr", "0.01"], ["--lr", "3e-5", "--awp-lr", "0.01"]),
    (["--exp=awp", "--text_template", '"{a} {b}"'], ["--exp", "awp", "--text-template", "{a} {b}"]),
    (["--gradient_checkpointing", "True"], ["--gradient-checkpointing"]),
    (["--gradient-checkpointing", "false"], ["--no-gradient-checkpointing"]),
    (["--gradient_checkpointing", "--lr", "1e-5"], ["--gradient-checkpointing", "--lr", "1e-5"]),
    (["train", "--seed", "42,43"], ["--seed", "42,43"]),
    (["--body_lr", "None", "--fold", "all"], ["--body-lr", "None", "--fold", "all"]),
    (["--text_template", "--"], ["--text-template", "--"]),
    ([], []),
])  # fmt: skip
def test_hyperparameters(argv, options):
    assert train_options(argv) == options


def test_a_switch_that_is_neither(container):
    with pytest.raises(ConfigError, match="neither true nor false"):
        train_options(["--standardize_targets", "maybe"])


@pytest.mark.parametrize(("without", "argv", "says"), [
    (["SM_CHANNEL_TRAINING"], [], "SM_CHANNEL_TRAINING is not set"),
    ([], ["--lrr", "1"], "unknown setting --lrr, did you mean --lr?"),
    ([], ["--standardize_targets", "maybe"], "neither true nor false"),
])  # fmt: skip
def test_wrong_input_is_one_line_and_exit_code_2(container, capsys, without, argv, says):
    environ, _ = container(*without)
    assert sagemaker.run(argv, environ) == 2
    err = capsys.readouterr().err
    assert says in err
    assert len(err.splitlines()) == 1


def test_the_usual_folders_count_where_the_environment_is_silent(
    container, tmp_path, capsys, monkeypatch
):
    environ, root = container()
    home = tmp_path / "opt" / "ml"
    (home / "input" / "data").mkdir(parents=True)
    (home / "input" / "data" / "training").symlink_to(environ["SM_CHANNEL_TRAINING"])
    (home / "model").mkdir()
    assert sagemaker.run(["--fold", "0"], {"OOFLINE_ROOT": str(root)}) == 0
    assert (home / "model" / "output" / "competition" / "base" / "seed42" / "fold0").is_dir()


def test_an_own_folder_is_not_replaced(container, capsys):
    environ, root = container()
    (root / "output" / "mine").mkdir(parents=True)
    assert sagemaker.run([], environ) == 2
    assert "output is there already" in capsys.readouterr().err
    assert (root / "output" / "mine").is_dir()
