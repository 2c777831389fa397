"""Verbs as a user types them, exit codes, and what bad input says."""

import subprocess
import sys

import pandas as pd
import pytest

from oofline import cli
from oofline.storage import read_json


@pytest.fixture
def oofline(tmp_path, capsys, monkeypatch):
    """oofline("train", ...) -> (exit code, stdout, stderr), run below tmp_path."""
    monkeypatch.setenv("COLUMNS", "220")

    def run(*argv):
        code = cli.run([str(a) for a in argv], tmp_path)
        captured = capsys.readouterr()
        return code, captured.out, captured.err

    return run


@pytest.mark.parametrize("kind", ["binary", "multiclass", "regression"])
def test_from_train_csv_to_submission(write_competition, oofline, kind):
    paths = write_competition(kind, epochs=4, lr=3e-3)
    toy = ("--comp", "toy")
    code, out, _ = oofline("folds", *toy)
    assert code == 0
    assert "open" in out.splitlines()[-1]
    code, out, _ = oofline("train", *toy, "--seed", "1,2")
    assert code == 0
    assert "base: OOF" in out
    scores = read_json(paths.experiment("base") / "scores.json")
    assert scores["seeds"] == [1, 2]
    assert scores["n_rows"] == 90
    assert oofline("oof", *toy)[0] == 0
    assert read_json(paths.experiment("base") / "scores.json")["score"] == scores["score"]
    code, out, _ = oofline("ensemble", *toy, "--exps", "base@1,base@2", "--name", "blend")
    assert code == 0
    assert "against its best member" in out
    code, out, _ = oofline("submission", *toy, "--exp", "blend")
    assert code == 0
    frame, sample = (
        pd.read_csv(p) for p in (paths.submission, paths.input / "sample_submission.csv")
    )
    assert frame["id"].tolist() == sample["id"].tolist()
    assert frame.columns.tolist() == sample.columns.tolist()
    code, out, _ = oofline("compare", *toy)
    assert code == 0
    assert "blend" in out
    assert {"score", "verdict", "samples_per_s"} <= set(pd.read_csv(paths.output / "compare.csv"))


def test_one_fold_says_what_is_missing(write_competition, oofline):
    write_competition(epochs=1)
    code, out, _ = oofline("train", "--comp", "toy", "--fold", "1")
    assert code == 0
    assert "folds 0, 2 are missing" in out
    assert 'EXP="base" FOLD=0,2 SEED=42 ARGS="--from base"' in out
    code, _, err = oofline("oof", "--comp", "toy")
    assert code == 2
    assert "folds 0, 2 missing" in err


@pytest.mark.parametrize(("argv", "says"), [
    (["trian"], "unknown verb trian, did you mean train?"),
    (["train"], "which competition? add --comp"),
    (["train", "--comp", "nothing"], "does not exist"),
    (["train", "--comp", "toy", "--lrr", "1"], "unknown setting --lrr, did you mean --lr?"),
    (["train", "--comp", "toy", "--lr", "fast"], "--lr: could not convert"),
    (["train", "--comp", "toy", "--pooling", "men"], "'men'"),
    (["train", "--comp", "toy", "--lr"], "--lr"),
    (["train", "--comp", "toy", "stray"], "stray"),
    (["train", "--comp", "toy", "--fold", "7"], "no fold 7, they are 0-2"),
    (["train", "--comp", "toy", "--n-folds", "1"], "n_folds = 1 is out of range"),
    (["train", "--comp", "toy", "--device", "cuda:9"], "CUDA GPUs"),
    (["train", "--comp", "toy", "--model", "no/such/folder"], "no/such/folder"),
    (["train", "--comp", "toy", "--metric", "f2"], "f2"),
    (["train", "--comp", "toy", "--metric", "rmse", "--task", "binary"], "rmse"),
    (["train", "--comp", "toy", "--text-col", "txt"], "txt"),
    (["train", "--comp", "toy", "--task", "qa"], "set target_col (the answer)"),
    (["oof", "--comp", "toy", "--exp", "nothing"], "no experiment nothing"),
    (["ensemble", "--comp", "toy", "--exps", "base"], "at least two members"),
    (["submission", "--comp", "toy", "--exp", "nothing"], "nothing"),
    (["compare", "--comp", "toy"], "nothing is scored"),
    (["train", "--comp", "toy", "--from", "nothing"], "does not exist"),
])  # fmt: skip
def test_bad_input_is_one_line_and_exit_code_2(write_competition, oofline, argv, says):
    paths = write_competition()
    code, _, err = oofline(*argv)
    assert code == 2
    assert err.startswith("oofline: ")
    assert len(err.strip().splitlines()) == 1
    assert says in err
    assert not paths.output.exists()


def test_from_takes_another_experiments_settings(write_competition, oofline):
    paths = write_competition(epochs=1)
    argv = ("--comp", "toy", "--fold", "0")
    assert oofline("train", *argv, "--exp", "a", "--lr", "0.002", "--pooling", "max")[0] == 0
    code = oofline("train", *argv, "--exp", "b", "--from", "a", "--lr", "0.003")[0]
    assert code == 0
    made = read_json(paths.experiment("b") / "cfg.json")
    assert (made["exp"], made["lr"], made["pooling"]) == ("b", 0.003, "max")


def test_config_metrics_and_help(oofline, capsys):
    code, out, _ = oofline("config", "--lr", "5e-5")
    assert (code, "* lr = 5e-05" in out) == (0, True)
    code, out, _ = oofline("metrics")
    assert code == 0
    for name in ("accuracy", "f1", "roc_auc", "qwk", "mcrmse", "spearman"):
        assert name in out
    for verb in cli.verbs():
        with pytest.raises(SystemExit) as stop:
            oofline(verb, "--help")
        assert stop.value.code == 0
        assert "Peak learning rate" in capsys.readouterr().out
    with pytest.raises(SystemExit):
        oofline("--help")
    usage = capsys.readouterr().out
    assert all(f"  {verb} " in usage for verb in cli.verbs())


def python(code, folder):
    """Run Python code in a process of its own."""
    return subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, cwd=folder, check=False
    )


def test_a_bug_keeps_its_traceback_and_exits_1(tmp_path):
    code = (
        "from oofline import cli\n"
        "def broken(*a): raise ZeroDivisionError('a bug')\n"
        "cli.parse = broken\n"
        "cli.main(['folds'])"
    )
    done = python(code, tmp_path)
    assert done.returncode == 1
    assert "ZeroDivisionError: a bug" in done.stderr


def test_python_m_oofline_starts_without_torch(tmp_path):
    code = (
        "import sys; sys.argv = ['oofline', '--help']\n"
        "import atexit; atexit.register(lambda: print('torch' in sys.modules))\n"
        "import runpy; runpy.run_module('oofline', run_name='__main__')"
    )
    done = python(code, tmp_path)
    assert done.returncode == 0
    assert done.stdout.splitlines()[0].startswith("usage: oofline <verb>")
    assert done.stdout.splitlines()[-1] == "False"
