"""Pictures of a search: drawn for every form of setting, and readable."""

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


def test_a_collapsed_trial_does_not_squeeze_the_others_to_a_line(tmp_path, drawn):
    frame = frame_of()
    frame.loc[7, ["score", "estimate"]] = 0.2
    about = (frame, {"lr": "log"}, "f1", True)
    tuning.sensitivity(tmp_path / "s.png", *about, {"lr": 2e-5})
    tuning.progress(tmp_path / "p.png", *about)
    tuning.parallel(tmp_path / "q.png", *about)
    for name in ("s", "p"):
        low, high = drawn[name].axes[0].get_ylim()
        assert 0.7 < low < high < 1
        labels = [text.get_text() for text in drawn[name].legends[0].get_texts()]
        assert "far worse, off the scale" in labels
    assert drawn["q"].axes[0].get_xlabel().endswith("1 far worse left out")
    lower = frame.assign(estimate=1 - frame["estimate"], score=1 - frame["score"])
    tuning.sensitivity(tmp_path / "l.png", lower, {"lr": "log"}, "rmse", False, {"lr": 2e-5})
    assert drawn["l"].axes[0].get_ylim()[1] < 0.3


def test_choices_stand_in_their_order_with_names_that_fit(tmp_path, drawn):
    frame = frame_of()
    frame["batch_size"] = np.resize([128, 8, 16], len(frame))
    frame["model"] = np.resize(["/data/models/first", "/data/models/second"], len(frame))
    forms = {"batch_size": "choice", "model": "choice"}
    default = {"batch_size": 16, "model": "other"}
    tuning.sensitivity(tmp_path / "s.png", frame, forms, "f1", True, default)
    names = [[tick.get_text() for tick in ax.get_xticklabels()] for ax in drawn["s"].axes]
    assert names == [["8", "16", "128"], ["first", "second"]]
    labels = [text.get_text() for text in drawn["s"].legends[0].get_texts()]
    assert "mean, 95 %" in labels
    assert labels.count("default") == 1


def test_few_trials_are_counted_in_whole_numbers(tmp_path, drawn):
    tuning.progress(tmp_path / "p.png", frame_of().head(3), {"lr": "log"}, "f1", True)
    ticks = drawn["p"].axes[-1].get_xticks()
    assert np.array_equal(ticks, ticks.round())


def test_a_wide_log_axis_has_ticks_that_do_not_touch_and_no_place_for_0(tmp_path, drawn, recwarn):
    frame = frame_of()
    frame["penalty"] = 10 ** np.linspace(-2, 3, len(frame))
    tuning.sensitivity(tmp_path / "s.png", frame, {"penalty": "log"}, "f1", True, {"penalty": 0.0})
    ax = drawn["s"].axes[0]
    low, high = ax.get_xlim()
    assert 0.005 < low < 0.01
    ticks = [tick for tick in ax.get_xticks() if low <= tick <= high]
    assert ticks == [0.01, 0.1, 1, 10, 100, 1000]
    assert "default" not in [text.get_text() for text in drawn["s"].legends[0].get_texts()]
    assert not [w for w in recwarn if "divide by zero" in str(w.message)]
