"""Pictures of a search: drawn for every form of setting, and a band that holds the truth."""

import numpy as np
import pandas as pd
import pytest

from oofline.report import tuning

FORMS = {"lr": "log", "epochs": "range", "pooling": "choice"}


def frame_of(n=20):
    rng = np.random.default_rng(0)
    lr = 10 ** rng.uniform(-5, -3, n)
    score = 0.9 - 0.05 * (np.log10(lr) + 4) ** 2
    state = np.array(["complete"] * n, dtype=object)
    state[[3, 4, 5]] = ["stopped early", "stopped early", "failed"]
    estimate = score.copy()
    estimate[[4, 5]] = np.nan
    return pd.DataFrame(
        {
            "trial": range(n), "state": state, "estimate": estimate,
            "score": np.where(state == "complete", score, np.nan), "lr": lr,
            "epochs": rng.integers(1, 5, n), "pooling": rng.choice(["cls", "mean"], n),
        }
    )  # fmt: skip


@pytest.mark.parametrize("forms", [{"lr": "log"}, FORMS])
@pytest.mark.parametrize("n", [1, 20])
def test_every_form_is_drawn(tmp_path, forms, n):
    about = (frame_of().head(n), forms, "f1", True)
    default = {"lr": 2e-5, "epochs": 3, "pooling": "max"}  # no trial had this pooling
    pictures = [
        tuning.progress(tmp_path / "a.png", *about),
        tuning.sensitivity(tmp_path / "b.png", *about, default),
        tuning.parallel(tmp_path / "c.png", *about),
        tuning.importances(tmp_path / "d.png", dict.fromkeys(forms, 0.3), "share"),
    ]
    for path in pictures:
        assert path.read_bytes().startswith(b"\x89PNG")
        assert path.stat().st_size > 5_000


def test_trials_without_a_score_are_seen_at_their_values(tmp_path, drawn):
    frame = frame_of()
    frame.loc[4, "lr"] = 1e-7  # stopped before it had a score
    tuning.sensitivity(tmp_path / "s.png", frame, {"lr": "log"}, "f1", True, {"lr": 2e-5})
    low, high = drawn["s"].axes[0].get_xlim()
    assert low < 1e-7 < frame["lr"].max() < high


def test_the_smooth_band_holds_the_curve_behind_noisy_points():
    rng = np.random.default_rng(1)
    x = rng.uniform(-11, -7, 40)
    y = 0.9 - 0.02 * (x + 9) ** 2 + 0.005 * rng.normal(size=40)
    grid = np.linspace(-10.8, -7.2, 50)
    mean, deviation = tuning.smooth(x, y, grid)
    truth = 0.9 - 0.02 * (grid + 9) ** 2
    assert np.abs(mean - truth).max() < 0.01
    assert deviation.max() < 0.005  # of the mean, not of one trial
    assert (np.abs(mean - truth) < 1.96 * deviation + 1e-3).mean() > 0.8
