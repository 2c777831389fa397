"""`oofline tune` as a user types it: trials, results, re-runs, resuming and refusals."""

import pandas as pd
import pytest

from oofline.storage import read_json

TOY = ("tune", "--comp", "toy", "--space", "lr=log(1e-5,1e-2)")


def test_a_search_from_trials_to_an_experiment(write_competition, oofline):
    paths = write_competition(n=120, epochs=2, lr=1e-5, metric="accuracy", n_folds=3)
    argv = (*TOY, "--trials", "4", "--confirm", "2", "--name", "rate", "--prune", "none")
    code, out, _ = oofline(*argv, "--apply", "tuned")
    assert code == 0
    folder = paths.tuning("rate")
    frame = pd.read_csv(folder / "trials.csv")
    assert frame["trial"].tolist() == [0, 1, 2, 3]
    assert frame["lr"][0] == 1e-5  # the default comes first
    assert frame["lr"].between(1e-5, 1e-2).all()
    assert frame["lr"].nunique() == 4
    for _, row in frame.iterrows():  # each is an ordinary experiment, scored as `oof` does
        stored = read_json(paths.experiment(row["exp"]) / "scores.json")
        assert stored["score"] == pytest.approx(row["score"])
        assert read_json(paths.experiment(row["exp"]) / "cfg.json")["lr"] == row["lr"]
        assert (paths.fold(row["exp"], 42, 2) / "oof.parquet").exists()
        assert not list(paths.experiment(row["exp"]).rglob("*.safetensors"))
    for name in ("progress", "sensitivity", "importances", "parallel"):
        assert (folder / f"{name}.png").read_bytes().startswith(b"\x89PNG")
    text = (folder / "tuning.md").read_text()
    best = frame.loc[frame["score"].idxmax()]
    assert f"trial {best['trial']}, lr = {best['lr']:.3g}: accuracy {best['score']:.5f}" in text
    assert "beyond seed noise" in text
    assert "winner's optimism" in text
    assert "winner's optimism" in out
    again = f"rate-best-t{best['trial']:04d}"
    assert read_json(paths.experiment(again) / "scores.json")["seeds"] == [1001, 1002]
    assert read_json(paths.experiment("rate-default") / "cfg.json")["lr"] == 1e-5
    assert read_json(paths.experiment("tuned") / "cfg.json")["lr"] == best["lr"]

    made = {path: path.stat().st_mtime_ns for path in paths.output.rglob("fold*/oof.parquet")}
    code, out, _ = oofline(*argv)  # nothing is trained a second time
    assert code == 0
    assert {path: path.stat().st_mtime_ns for path in made} == made
    assert len(list(paths.output.rglob("fold*/oof.parquet"))) == len(made)

    code, out, _ = oofline(*TOY, "--trials", "5", "--confirm", "0", "--name", "rate")
    assert code == 0
    assert "4 of 5 trials are finished already" in out
    assert len(pd.read_csv(folder / "trials.csv")) == 5
    code, _, err = oofline(*TOY, "--trials", "5", "--name", "rate", "--epochs", "1")
    assert code == 2
    assert "was started with another epochs: choose another NAME" in err
    code, out, _ = oofline("train", "--comp", "toy", "--exp", "tuned", "--from", "tuned")
    assert code == 0
