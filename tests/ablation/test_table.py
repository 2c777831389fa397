"""What the table says, and that it never says more than the data can carry."""

import dataclasses

import numpy as np
import pytest

from oofline.ablation.arms import Arm
from oofline.ablation.contrast import Contrast
from oofline.ablation.entries import Entry
from oofline.ablation.table import alive, conclusions, frame_of, markdown, shown
from oofline.config import CFG

NOTHING = "no difference shown"


@pytest.fixture
def entry():
    """entry(name, differences, verdict, **changes) -> Entry with a score of 0.8 plus those."""

    def make(name, differences=(0.0,), verdict=NOTHING, failures=(), needed=(700, 9), **changes):
        differences = np.array(differences)
        interval = (differences.mean() - 0.01, differences.mean() + 0.01)
        found = Contrast(
            0.8, (0.78, 0.82), 0.8 + differences, float(differences.mean()), interval,
            differences, 0.04, verdict, 500, *needed,
        )  # fmt: skip
        scores = {(s, 0): {"minutes": 2.0, "peak_memory_mb": 50.0, "device": "cpu"} for s in (1, 2)}
        made = Entry(
            Arm(name, {"lr": 1e-4}, CFG(comp="c")), found, [1, 2], scores, list(failures), 1
        )
        return dataclasses.replace(made, **changes)

    return make


def test_each_verdict_in_words(entry, task):
    f1 = task("binary", "f1")
    entries = [
        entry("base"),
        entry("agree", (0.020, 0.021), "better"),
        entry("apart", (0.050, -0.010), "better"),
        entry("alike", (0.002, -0.001)),
        entry("same", (0.0, 0.0), needed=(None, None)),
    ]
    lines = dict(line.split(": ", 1) for line in conclusions(f1, entries)[:4])
    assert lines["agree"].startswith("better than base by +0.02050 (95 % +0.01050 to +0.03050).")
    assert lines["agree"].endswith("By seed: +0.02000, +0.02100.")
    assert "2 seeds alone do not settle it; 9 seeds would." in lines["apart"]
    assert lines["alike"] == (
        "no difference to base shown: +0.00050 (95 % -0.00950 to +0.01050). To show a difference "
        "of this size takes about 700 rows (there are 500) and 9 seeds (there are 2)."
    )
    assert lines["same"] == "no difference to base at all."
    last = conclusions(f1, entries)[-1]
    assert last.startswith(
        "4 arms were compared with base: if none of them did anything, about 0.2"
    )
    assert conclusions(f1, entries[:1]) == []


def test_one_seed_is_never_sure(entry, task):
    line = conclusions(task("binary", "f1"), [entry("base"), entry("awp", (0.02,), "better")])[0]
    assert "One seed: whether another would say the same is not known." in line


def test_the_head_says_what_intervals_hold(entry, task):
    f1 = task("binary", "f1")
    few = markdown("toy", "study", f1, [entry("base")], 5)
    assert "do not hold the seeds' noise, that takes 5 seeds (seeds here: 2)" in few
    assert "Folds 0 (of 5), seeds 1, 2, 500 rows." in few
    assert "Python and libraries included" in few
    scores = {(s, 0): {"minutes": 2.0, "device": "cuda:0"} for s in range(5)}
    many = markdown("toy", "study", f1, [entry("base", scores=scores)], 5)
    assert "the intervals hold the noise of 5 seeds too" in many
    assert "the most that was allocated on the GPU" in many
    assert "lower is better" in markdown(
        "toy", "study", task("regression", "rmse"), [entry("base")], 5
    )


def test_failed_units_are_counted_with_their_reason(entry, task):
    failed = entry("wild", contrast=None, scores={}, failures=["the loss is nan"] * 3)
    partly = entry("part", (0.1, 0.1), "better", failures=["out of memory"])
    entries = [entry("base"), failed, partly]
    frame = frame_of(entries).set_index("arm")
    assert frame["verdict"].tolist() == ["base", "failed", "better"]
    assert frame["failed"].tolist() == [0, 3, 1]
    assert frame["units"].tolist() == [2, 3, 3]
    assert frame.loc["wild", "why_failed"] == "the loss is nan"
    assert np.isnan(frame.loc["wild", ["score", "diff", "time_ratio"]].astype(float)).all()
    lines = conclusions(task("binary", "f1"), entries)
    assert lines[0] == "wild: failed 3 of 3 units: the loss is nan."
    assert lines[1].startswith("part: failed 1 of 3 units: out of memory. The rest flatters it")
    text = shown(frame_of(entries)).set_index("arm")
    assert text.loc["wild", ["score (95 %)", "p", "time", "failed"]].tolist() == [
        "", "", "", "3 of 3",
    ]  # fmt: skip


def test_ratios_are_medians_over_units_that_both_finished(entry):
    base, slow = entry("base"), entry("slow")
    for entry_, minutes in ((base, 2.0), (slow, 3.0)):
        entry_.scores[3, 0] = {"minutes": minutes, "peak_memory_mb": 50.0}
        entry_.scores[4, 0] = {"minutes": minutes, "peak_memory_mb": 50.0}
    slow.scores[1, 0]["minutes"] = 90.0  # something else ran beside it
    slow.scores[2, 0]["minutes"] = 3.0
    slow.scores[9, 9] = {"minutes": 1000.0, "peak_memory_mb": 75.0}
    assert slow.ratio(base, "minutes") == 1.5
    assert slow.ratio(base, "peak_memory_mb") == 1.0
    assert frame_of([base, slow])["minutes"].tolist() == [8.0, 1099.0]
    assert np.isnan(slow.ratio(base, "nothing"))


def test_scores_of_targets_stand_beside_each_arm(entry):
    base, other = entry("base"), entry("awp", (0.1, 0.1), "better")
    for share, scores in zip((0.4, 0.6), base.scores.values(), strict=False):
        scores["target_scores"] = {"syntax": share, "grammar": None}
    frame = frame_of([base, other])
    assert frame["score/syntax"].tolist()[0] == pytest.approx(0.5)
    text = shown(frame)
    assert text["syntax"].tolist() == ["0.5000", ""]
    assert text["grammar"].tolist() == ["", ""]
    assert "syntax" not in shown(frame, for_terminal=True)


def test_one_seed_has_no_spread(entry):
    text = shown(frame_of([entry("base", (0.0,)), entry("awp", (0.1,))]))
    assert text["seed sd"].tolist() == text["lowest to highest seed"].tolist() == ["", ""]


def test_liveness_is_the_mean_over_units(entry):
    made = entry("awp")
    made.scores[1, 0]["techniques"] = {"awp": {"active": 0.25, "relative_perturbation": 0.0098}}
    made.scores[2, 0]["techniques"] = {"awp": {"active": 0.41, "relative_perturbation": 0.01}}
    assert alive(made) == "awp: active 0.33, relative_perturbation 0.0099"
    assert alive(entry("base")) == ""


def test_a_name_with_nan_in_it_is_no_missing_value(entry):
    text = shown(frame_of([entry("finance")]))
    assert text["arm"].tolist() == ["finance"]
    assert text["difference (95 %)"].tolist() == [""]
    assert shown(frame_of([entry("finance")]), for_terminal=True)["arm"].tolist() == ["finance"]


def test_rows_needed_are_given_to_two_digits(entry, task):
    for count, text in ((84520, "about 85,000"), (658_308_381, "more than 10 million")):
        entries = [entry("base"), entry("awp", (0.001, 0.0), needed=(count, 9))]
        assert shown(frame_of(entries)).loc[1, "rows needed"] == text
        assert f"takes {text} rows" in conclusions(task("binary", "f1"), entries)[0]
