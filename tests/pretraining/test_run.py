"""Pretraining as a user starts it: what it writes, what it refuses, and kill -9."""

import json
import multiprocessing
import os
import shutil
import signal

import pandas as pd
import pytest
import torch
import transformers
from safetensors import safe_open
from safetensors.torch import load_file

from oofline import cli
from oofline.models import weights as weights_module
from oofline.storage import read_json
from oofline.training.guard import Guard
from oofline.training.step import Step
from oofline.training.trainer import Trainer

SETTINGS = ("--pretrain-epochs", "2", "--pretrain-lr", "0.003", "--save-minutes", "0")


@pytest.fixture
def oofline(tmp_path, capsys):
    """oofline("pretrain", ...) -> (exit code, stdout, stderr), run below tmp_path."""

    def run(*argv):
        code = cli.run([str(a) for a in argv], tmp_path)
        captured = capsys.readouterr()
        return code, captured.out, captured.err

    return run


@pytest.fixture
def pretrain(write_competition, oofline):
    """pretrain(*options) -> (folder of "new", stdout) of the competition "toy"."""
    paths = write_competition(n=60, n_test=21)

    def run(*argv, name="new"):
        code, out, err = oofline("pretrain", "--comp", "toy", "--name", name, *SETTINGS, *argv)
        assert code == 0, err
        return paths.pretrained(name), out

    return run


def test_the_encoder_learns_the_texts_and_becomes_a_model(pretrain, oofline):
    folder, out = pretrain("--pretrain-epochs", "4")
    assert "81 different texts of train and test" in out
    assert "4 of them held out; labels are not read" in out
    result = read_json(folder / "perplexity.json")
    assert result["after"] < 0.5 * result["before"]
    assert f"perplexity {result['before']:.1f} -> {result['after']:.1f}" in out.splitlines()[-1]
    history = pd.read_csv(folder / "history.csv")
    assert history["step"].tolist() == [0, 10, 20, 30, 40]
    assert history["score"].iloc[-1] == pytest.approx(result["after"])
    names = {path.name for path in folder.iterdir()} - {".lock"}
    assert names == {
        "config.json", "model.safetensors", "tokenizer.json", "tokenizer_config.json",
        "pretrain.json", "perplexity.json", "perplexity.png", "history.csv",
    }  # fmt: skip
    code, _, err = oofline("train", "--comp", "toy", "--fold", "0", "--model", folder)
    assert code == 0, err


def test_a_finished_one_is_kept_and_other_settings_are_refused(pretrain, oofline):
    folder, _ = pretrain()
    before = (folder / "model.safetensors").stat().st_mtime_ns
    _, out = pretrain()
    assert "finished already" in out
    assert (folder / "model.safetensors").stat().st_mtime_ns == before
    code, _, err = oofline("pretrain", "--comp", "toy", "--name", "new", *SETTINGS,
                           "--pretrain-mask", "0.3")  # fmt: skip
    assert code == 2
    assert "pretrain_mask: 0.15 there, 0.3 now" in err


@pytest.mark.parametrize(("argv", "says"), [
    (("--vocab", "x"), "--vocab is for --from-scratch"),
    (("--name", "a/b"), "plain folder name"),
    (("--max-len", "5000"), "reads 300 tokens"),
    (("--model", "no/such/model"), "no/such/model"),
    (("--pretrain-hidden", "30", "--pretrain-heads", "4"), "no multiple"),
    (("--device", "cuda:7"), "CUDA GPUs"),
])  # fmt: skip
def test_bad_input_is_one_line_and_leaves_no_model(write_competition, oofline, argv, says):
    paths = write_competition()
    code, _, err = oofline("pretrain", "--comp", "toy", "--name", "new", *argv)
    assert code == 2
    assert says in err
    assert len(err.strip().splitlines()) == 1
    assert not (paths.pretrained("new") / "pretrain.json").exists()


def test_from_scratch_with_a_vocabulary_of_its_own(pretrain, oofline):
    size = ("--pretrain-layers", "2", "--pretrain-hidden", "16", "--pretrain-heads", "2",
            "--pretrain-vocab", "120")  # fmt: skip
    folder, out = pretrain("--from-scratch", "--pretrain-epochs", "4", *size)
    config = read_json(folder / "config.json")
    assert (config["num_hidden_layers"], config["hidden_size"]) == (2, 16)
    assert config["vocab_size"] <= 120
    assert "new BERT encoder: 2 layers, width 16" in out
    result = read_json(folder / "perplexity.json")
    assert result["before"] == pytest.approx(config["vocab_size"], rel=0.1)
    assert result["after"] < 0.7 * result["before"]
    code, _, err = oofline("train", "--comp", "toy", "--fold", "0", "--model", folder)
    assert code == 0, err


def test_from_scratch_with_a_given_vocabulary(pretrain, tiny_model, tmp_path):
    vocab = shutil.copytree(tiny_model("bert"), tmp_path / "vocab")
    (vocab / "model.safetensors").unlink()
    size = ("--pretrain-layers", "1", "--pretrain-hidden", "16", "--pretrain-heads", "2")
    folder, _ = pretrain("--from-scratch", "--vocab", vocab, "--pretrain-whole-words", *size)
    assert read_json(folder / "config.json")["num_hidden_layers"] == 1
    assert (folder / "tokenizer.json").read_text() == (vocab / "tokenizer.json").read_text()
    (vocab / "tokenizer.json").write_text((vocab / "tokenizer.json").read_text() + "\n")
    with pytest.raises(AssertionError, match="files: "):
        pretrain("--from-scratch", "--vocab", vocab, "--pretrain-whole-words", *size)


def test_a_decoder_learns_to_guess_the_next_token(pretrain, tiny_model, tmp_path):
    tokenizer = transformers.AutoTokenizer.from_pretrained(tiny_model("roberta"))
    config = transformers.LlamaConfig(
        vocab_size=len(tokenizer), hidden_size=32, intermediate_size=48, num_hidden_layers=2,
        num_attention_heads=4, num_key_value_heads=2, bos_token_id=2, eos_token_id=3,
    )  # fmt: skip
    torch.manual_seed(0)
    transformers.LlamaForCausalLM(config).save_pretrained(tmp_path / "llama")
    tokenizer.save_pretrained(tmp_path / "llama")
    folder, out = pretrain("--model", tmp_path / "llama", "--max-len", "64")
    result = read_json(folder / "perplexity.json")
    assert result["guessed"] == "next tokens"
    assert result["after"] < 0.5 * result["before"]
    assert "starts from random weights" not in out
    assert transformers.LlamaForCausalLM.from_pretrained(folder).config.num_hidden_layers == 2


def test_a_time_limit_leaves_a_state_and_the_same_command_goes_on(pretrain, oofline, monkeypatch):
    plain, _ = pretrain(name="plain")
    argv = ("pretrain", "--comp", "toy", "--name", "late", *SETTINGS)
    with monkeypatch.context() as patch:
        left = iter([1e6] * 12 + [0.0] * 99)
        patch.setattr(Guard, "seconds_left", lambda self: next(left))
        code, out, _ = oofline(*argv, "--time-limit-hours", "1")
    assert code == 0
    assert "time_limit_hours reached: pretraining is saved" in out
    late, out = pretrain(name="late")
    assert "resumed at step" in out
    one, two = (load_file(folder / "model.safetensors") for folder in (plain, late))
    assert all(one[name].equal(two[name]) for name in one)


def killed(root, argv, moment, count):
    """In a child process: pretrain, and SIGKILL oneself the ``count``-th time at that moment."""

    def run():
        left = [count]

        def dying(function):
            def wrapped(*args, **kwargs):
                left[0] -= 1
                if left[0] <= 0 and moment != "after step":
                    if moment == "half-written state":
                        args[1].write_bytes(b"half")
                    os.kill(os.getpid(), signal.SIGKILL)
                result = function(*args, **kwargs)
                if left[0] <= 0:
                    os.kill(os.getpid(), signal.SIGKILL)
                return result

            return wrapped

        if moment == "after step":
            Trainer._optimizer_step = dying(Trainer._optimizer_step)
        elif moment == "inside backward":
            Step.backward = dying(Step.backward)
        else:
            weights_module.save_file = dying(weights_module.save_file)
        cli.run(argv, root)

    process = multiprocessing.get_context("fork").Process(target=run)
    process.start()
    process.join(300)
    return process.exitcode == -signal.SIGKILL


@pytest.mark.parametrize("scratch", [False, True])
def test_killed_it_goes_on_and_ends_bit_identical(pretrain, tmp_path, scratch):
    own = ("--from-scratch", "--pretrain-vocab", "120", "--pretrain-layers", "2",
           "--pretrain-hidden", "16", "--pretrain-heads", "2") if scratch else ()  # fmt: skip
    plain, _ = pretrain(*own, name="plain")
    argv = ["pretrain", "--comp", "toy", "--name", "struck", *SETTINGS, *own]
    state, steps = plain.with_name("struck") / "work" / "state.safetensors", []
    for moment, count in (("after step", 4), ("inside backward", 5), ("half-written state", 3)):
        assert killed(tmp_path, argv, moment, count), moment
        with safe_open(state, framework="pt") as handle:
            steps.append(json.loads(handle.metadata()["progress"])["step"])
    assert len(set(steps)) >= 2
    assert any(step % 10 for step in steps)  # it died inside an epoch (10 steps each)
    struck, out = pretrain(*own, name="struck")
    assert "resumed at step" in out
    one, two = (load_file(folder / "model.safetensors") for folder in (plain, struck))
    assert one.keys() == two.keys()
    assert all(one[name].equal(two[name]) for name in one)
    assert (plain / "history.csv").read_text() == (struck / "history.csv").read_text()
    assert not (struck / "work").exists()
