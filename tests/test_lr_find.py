"""`oofline lr-find` as a user types it: files, words, and what it leaves alone."""

import numpy as np
import pandas as pd
import pytest

from oofline import cli
from oofline.config import CFG
from oofline.lr_find import advice
from oofline.storage import read_json, sha256_of
from oofline.training import probe
from oofline.training.lr_finder import Suggestion


@pytest.fixture
def oofline(tmp_path, capsys):
    """oofline("lr-find", ...) -> (exit code, stdout, stderr), run below tmp_path."""

    def run(*argv):
        code = cli.run([str(a) for a in argv], tmp_path)
        captured = capsys.readouterr()
        return code, captured.out, captured.err

    return run


def hashes(folder):
    return {p.relative_to(folder): sha256_of(p) for p in folder.rglob("*") if p.is_file()}


def test_table_picture_and_suggestion(write_competition, oofline):
    paths = write_competition(n=240)
    code, out, _ = oofline("lr-find", "--comp", "toy", "--exp", "v0.1")
    assert code == 0
    folder = paths.output / "lr-find"
    assert sorted(p.name for p in folder.iterdir()) == ["v0.1.csv", "v0.1.png"]
    assert (folder / "v0.1.png").read_bytes()[:8] == b"\x89PNG\r\n\x1a\n"
    table = pd.read_csv(folder / "v0.1.csv")
    assert table.columns.tolist() == ["step", "lr", "loss", "smoothed"]
    assert np.isfinite(table.to_numpy()).all()
    assert "suggestion: lr " in out
    assert str(folder / "v0.1.csv") in out.splitlines()[-1]
    assert not paths.experiment("v0.1").exists()


def test_an_existing_experiment_gives_its_settings_and_stays_as_it_is(
    write_competition, oofline, monkeypatch
):
    paths = write_competition(n=240, epochs=1)
    toy = ("--comp", "toy", "--exp", "a")
    assert oofline("train", *toy, "--fold", "0", "--layer-decay", "0.5")[0] == 0
    before, used = hashes(paths.experiment("a")), []
    original = probe.build_optimizer

    def watched(cfg, model):
        used.append((cfg.exp, cfg.layer_decay, cfg.pooling))
        return original(cfg, model)

    monkeypatch.setattr(probe, "build_optimizer", watched)
    assert oofline("lr-find", *toy, "--pooling", "max")[0] == 0
    assert hashes(paths.experiment("a")) == before
    assert oofline("lr-find", "--comp", "toy", "--exp", "b", "--from", "a")[0] == 0
    assert oofline("lr-find", "--comp", "toy", "--exp", "c")[0] == 0
    assert used == [("a", 0.5, "max"), ("b", 0.5, "mean"), ("c", 1.0, "mean")]
    assert read_json(paths.experiment("a") / "cfg.json")["pooling"] == "mean"
    assert {p.stem for p in (paths.output / "lr-find").iterdir()} == {"a", "b", "c"}


@pytest.mark.parametrize(("argv", "says"), [
    (["--exp", "lr-find"], "choose another"),
    (["--group-lrs", "top=1"], "there is no group top"),
    (["--batch-size", "64"], "a range test needs 10"),
    (["--lrr", "1"], "unknown setting --lrr"),
    (["--from", "nothing"], "does not exist"),
])  # fmt: skip
def test_bad_input_is_one_line(write_competition, oofline, argv, says):
    write_competition()
    code, _, err = oofline("lr-find", "--comp", "toy", *argv)
    assert code == 2
    assert len(err.strip().splitlines()) == 1
    assert says in err


def test_words():
    plain = advice(CFG(), Suggestion(2e-5, 1e-5))
    assert plain == [
        "suggestion: lr 2.0e-05 (steepest fall of the smoothed loss) or 1.0e-05 (a tenth of the "
        "rate with the lowest loss)"
    ]
    high = advice(CFG(body_lr=1e-5, head_lr=1e-3), Suggestion(1e-4, 1e-5))
    assert high[0].startswith("suggestion: body_lr 1.0e-04")
    assert "head_lr and group_lrs went along in proportion to body_lr" in high[1]
    assert "keep the warm-up, and try 1e-5 to 5e-5 first" in high[2]
    assert "no suggestion" in advice(CFG(), None)[0]
