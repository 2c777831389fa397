"""`oofline ablation` as a user types it: trained in turns, resumed, compared, and refused."""

import os
import signal
import subprocess
import sys
import time

import numpy as np
import pandas as pd
import pytest

from oofline.ablation import spread
from oofline.crossval import is_done, train_units
from oofline.errors import OoflineError, Stopped
from oofline.storage import read_json

TOY = ("ablation", "--comp", "toy")


@pytest.fixture
def own(tmp_path):
    """A file of arms: still (learns nothing), smooth, wild (its settings fit no encoder)."""
    path = tmp_path / "mine.toml"
    path.write_text(
        "[arms.still]\nlr = 1e-9\n[arms.smooth]\nlabel_smoothing = 0.1\n"
        '[arms.wild]\npooling = "last-k"\npooling_layers = 9\n'
    )
    return str(path)


@pytest.fixture
def no_training(monkeypatch):
    """Nothing is left to train: no unit may be begun."""
    monkeypatch.setattr(spread, "share", lambda *a, **b: pytest.fail("a unit is trained"))


def test_arms_that_differ_are_told_apart_and_trained_once(write_competition, oofline, done_by, own):
    paths, trained = write_competition(n=240, epochs=4, lr=2e-3, metric="accuracy"), []

    def train(cfg, unit):
        trained.append((cfg.exp, *unit))
        return train_units(cfg, paths, [unit[1]], [unit[0]]) == 1

    done_by(train)
    argv = (*TOY, "--arms", "base,still", "--file", own, "--seed", "1,2", "--fold", "0-1")
    code, out, _ = oofline(*argv, "--name", "study")
    assert code == 0
    assert trained == [  # arms take turns, so both can be compared after the first round
        (f"study-{arm}", seed, fold)
        for seed in (1, 2) for fold in (0, 1) for arm in ("base", "still")
    ]  # fmt: skip
    folder = paths.output / "ablations" / "study"
    frame = pd.read_csv(folder / "table.csv").set_index("arm")
    assert frame["verdict"].to_dict() == {"base": "base", "still": "worse"}
    assert frame.loc["still", "diff_hi"] < 0
    assert frame.loc["still", "at_chance"] == 4
    assert frame.loc["base", "at_chance"] == 0
    picture = (folder / "forest.png").read_bytes()
    assert picture.startswith(b"\x89PNG")
    assert len(picture) > 10_000
    text = (folder / "table.md").read_text()
    assert "| still |" in text
    assert "still: worse than base by -0." in text
    assert "worse than base" in out
    assert str(folder / "table.md") in out
    made = read_json(paths.experiment("study-still") / "cfg.json")
    assert (made["exp"], made["lr"], made["epochs"]) == ("study-still", 1e-9, 4)

    before, n_trained = pd.read_csv(folder / "table.csv"), len(trained)
    assert oofline(*argv, "--name", "study")[0] == 0
    assert len(trained) == n_trained
    pd.testing.assert_frame_equal(pd.read_csv(folder / "table.csv"), before)


def test_the_table_equals_an_independent_computation(fabricate, oofline, no_training):
    arms = {"base": (0.5, {}), "dropout": (0.3, {"dropout": 0.1})}
    paths, _, competition, fold = fabricate(arms, folds=(0, 1), bootstrap_samples=200)
    code, _, _ = oofline(*TOY, "--arms", "base,dropout", "--seed", "1,2", "--fold", "0,1")
    assert code == 0
    frame = pd.read_csv(paths.output / "ablations" / "ablation" / "table.csv").set_index("arm")
    truth = pd.Series(competition.y[:, 0], index=competition.train_ids)
    scores = {}
    for arm in arms:
        for seed in (1, 2):
            files = [paths.fold(f"ablation-{arm}", seed, k) / "oof.parquet" for k in (0, 1)]
            oof = pd.concat(pd.read_parquet(file) for file in files).set_index("id")
            error = oof["pred_target"] - truth[oof.index]
            scores[arm, seed] = float(np.sqrt((error**2).mean()))
    means = {arm: (scores[arm, 1] + scores[arm, 2]) / 2 for arm in arms}
    for arm in arms:
        assert frame.loc[arm, "score"] == pytest.approx(means[arm])
        assert frame.loc[arm, "seed_min"] == pytest.approx(min(scores[arm, 1], scores[arm, 2]))
        spread = abs(scores[arm, 1] - scores[arm, 2]) / np.sqrt(2)
        assert frame.loc[arm, "seed_sd"] == pytest.approx(spread)
    row = frame.loc["dropout"]
    assert row["diff"] == pytest.approx(means["dropout"] - means["base"])
    assert row["diff_lo"] < row["diff"] < row["diff_hi"] < 0
    assert (row["verdict"], row["settings"]) == ("better", "dropout = 0.1")
    assert row["minutes"] == pytest.approx(4 * 1.3)
    assert row["time_ratio"] == pytest.approx(1.3 / 1.5)
    assert (row["memory_mb"], row["memory_ratio"]) == pytest.approx((130.0, 130 / 150))
    assert row["alive"] == "awp: active 0.375"
    assert (
        f"{int((fold < 2).sum())} rows"
        in (paths.output / "ablations" / "ablation" / "table.md").read_text()
    )


def test_a_failed_unit_does_not_throw_the_others_away(fabricate, oofline, fails):
    arms = {"base": (0.5, {}), "dropout": (0.3, {"dropout": 0.1})}
    paths, _, _, fold = fabricate(arms, folds=(0, 1, 2), bootstrap_samples=50)
    missing = paths.fold("ablation-dropout", 1, 1) / "scores.json"
    missing.unlink()
    tried = fails(OoflineError("the loss is nan at optimizer step 3"))
    code, out, err = oofline(*TOY, "--arms", "base,dropout", "--seed", "1,2")
    assert code == 2
    assert tried == [("ablation-dropout", (1, 1))]
    assert err.strip() == (
        "oofline: 1 of 12 units failed (the first: the loss is nan at optimizer step 3); the "
        "table holds the others"
    )
    assert "dropout: failed 1 of 6 units: the loss is nan" in out
    frame = pd.read_csv(paths.output / "ablations" / "ablation" / "table.csv").set_index("arm")
    assert frame["failed"].to_dict() == {"base": 0, "dropout": 1}
    assert frame.loc["dropout", "verdict"] == "better"
    whole = [pd.read_parquet(paths.fold("ablation-base", 1, k) / "oof.parquet") for k in (0, 1, 2)]
    assert sum(map(len, whole)) == len(fold)

    def rmse(arm, seed, folds):
        files = [paths.fold(f"ablation-{arm}", seed, k) / "oof.parquet" for k in folds]
        oof = pd.concat(pd.read_parquet(file) for file in files)
        truth = pd.read_csv(paths.input / "train.csv").set_index("id")["target"]
        return np.sqrt(((oof["pred_target"] - truth[oof["id"]].to_numpy()) ** 2).mean())

    by_seed = [
        rmse("dropout", s, ks) - rmse("base", s, ks) for s, ks in ((1, (0, 2)), (2, range(3)))
    ]
    assert frame.loc["dropout", "diff"] == pytest.approx(np.mean(by_seed))
    assert frame.loc["base", "score"] == pytest.approx(
        np.mean([rmse("base", s, range(3)) for s in (1, 2)])
    )


@pytest.mark.parametrize("broken", ["base", "dropout"])
def test_an_arm_that_always_fails_leaves_a_table(fabricate, oofline, fails, broken):
    kept = {"base": (0.5, {}), "dropout": (0.3, {"dropout": 0.1})}
    del kept[broken]
    paths, *_ = fabricate(kept, seeds=(42,))
    fails(OoflineError("the loss is nan"))
    code, out, _ = oofline(*TOY, "--arms", "base,dropout")
    assert code == 2
    assert f"{broken}: failed 3 of 3 units: the loss is nan" in out
    folder = paths.output / "ablations" / "ablation"
    assert len((folder / "forest.png").read_bytes()) > 5000
    frame = pd.read_csv(folder / "table.csv").set_index("arm")
    assert frame["diff"].isna().all()
    assert frame["failed"].sum() == 3


def test_rounds_that_not_every_arm_has_tried_do_not_count(fabricate, oofline, fails):
    arms = {"base": (0.5, {}), "dropout": (0.3, {"dropout": 0.1})}
    paths, *_ = fabricate(arms, seeds=(1,), folds=(0, 1, 2))
    (paths.fold("ablation-dropout", 1, 2) / "scores.json").unlink()
    fails(Stopped("interrupted", 130))
    code, out, _ = oofline(*TOY, "--arms", "base,dropout", "--seed", "1")
    assert code == 130
    assert "interrupted: 1 units are left; the same command goes on from there" in out
    frame = pd.read_csv(paths.output / "ablations" / "ablation" / "table.csv")
    assert frame["units"].tolist() == [2, 2]


def test_the_time_limit_stops_between_units(fabricate, oofline):
    paths, *_ = fabricate({"base": (0.5, {})}, seeds=(1,), folds=(0,))
    code, out, _ = oofline(*TOY, "--arms", "base", "--time-limit-hours", "1e-6")
    assert code == 0
    assert "time_limit_hours reached: 3 units are left" in out
    assert not (paths.output / "ablations").exists()


@pytest.mark.parametrize(("argv", "says"), [
    (("--arms", "base,awpp"), "unknown arm awpp, did you mean awp?"),
    (("--arms", ""), "which arms?"),
    (("--arms", "base", "--base", "awp"), "base = awp is not among the arms"),
    (("--arms", "base,wild"), "arm wild: "),
    (("--arms", "base", "--fold", "7"), "no fold 7, they are 0-2"),
    (("--arms", "base", "--seed", "x"), "SEED=x is not a list"),
    (("--arms", "base", "--name", "a/b"), "must be a plain folder name"),
    (("--arms", "base,mixout", "--dropout", "0.1"), "arm mixout: mixout takes the place"),
    (("--arms", "base", "--device", "cuda:9"), "CUDA GPUs"),
    (("--arms", "base", "--device", "cpu,cuda:9"), "CUDA GPUs"),
    (("--arms", "base", "--metric", "f2"), "f2"),
    (("--arms", "base", "--text-col", "txt"), "txt"),
    (("--arms", "base", "--model", "no/such"), "no/such"),
    (("--arms", "base", "--lr", "0"), "lr"),
    (("--arms", "base", "--n-folds", "80"), "80"),
    (("--arms", "base", "--file", "none.toml"), "none.toml does not exist"),
])  # fmt: skip
def test_when_anything_is_wrong_nothing_is_written(
    write_competition, oofline, own, no_training, argv, says
):
    paths = write_competition()
    code, _, err = oofline(*TOY, "--file", own, *argv)
    assert code == 2
    assert err.startswith("oofline: ")
    assert len(err.strip().splitlines()) == 1
    assert says in err
    assert not paths.output.exists()


def test_other_settings_under_the_same_name_are_refused(fabricate, oofline, no_training):
    fabricate({"base": (0.5, {})})
    code, _, err = oofline(*TOY, "--arms", "base", "--lr", "2e-4")
    assert code == 2
    assert "arm base: experiment ablation-base was started with other settings (lr: 0.001" in err
    assert err.strip().endswith("choose another NAME")


@pytest.mark.skipif(sys.platform == "win32", reason="POSIX signals")
def test_sigterm_saves_stops_and_the_same_command_goes_on(write_competition, tmp_path, own):
    paths = write_competition(epochs=100, evals_per_epoch=0.1, save_minutes=0, n=40)
    argv = [sys.executable, "-m", "oofline", *TOY, "--arms", "base", "--fold", "0"]
    environment = os.environ | {"OOFLINE_ROOT": str(tmp_path)}
    folder, deadline = paths.fold("ablation-base", 42, 0), time.monotonic() + 600
    process = subprocess.Popen(argv, env=environment, stdout=subprocess.PIPE, text=True)
    while not (folder / "state.safetensors").exists() and time.monotonic() < deadline:
        time.sleep(0.02)
    process.send_signal(signal.SIGTERM)  # to this process alone, as a cluster's scheduler does
    out, _ = process.communicate(timeout=600)
    assert process.returncode == 130
    assert "interrupted" in out
    assert not is_done(folder)
    again = subprocess.run(argv, env=environment, capture_output=True, text=True, check=True)
    assert "resumed at step" in again.stdout
    assert is_done(folder)
