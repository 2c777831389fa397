"""OOF against public score: what is called out is what noise does not explain, and no more."""

import numpy as np
import pandas as pd
import pytest

from oofline.scoring.public import agreement, bound_for, sentences, standard_error

HALF = 0.0196
"""Half an interval whose standard error is 0.01."""


def table(*rows):
    """(name, OOF, public) -> rows with intervals of +- `HALF`."""
    names, oof, public = zip(*rows, strict=True)
    frame = pd.DataFrame({"name": names, "oof_score": oof, "public_score": public})
    return frame.assign(oof_lo=frame["oof_score"] - HALF, oof_hi=frame["oof_score"] + HALF)


def test_the_errors_are_those_of_the_rows():
    np.testing.assert_allclose(standard_error([0.5], [0.5392]), [0.01])
    found = agreement(table(("a", 0.80, 0.83)), 9000, 1000, True)
    np.testing.assert_allclose(found.rows["public_error"], [0.03])
    np.testing.assert_allclose(found.rows["z"], [0.03 / np.hypot(0.01, 0.03)])
    assert found.bound == pytest.approx(1.96, abs=0.001)
    assert not found.rows["beyond"][0]


def test_more_public_rows_make_the_same_difference_count():
    rows = table(("a", 0.80, 0.77))
    assert not agreement(rows, 9000, 1000, True).rows["beyond"][0]
    found = agreement(rows, 9000, 90_000, True)
    assert found.rows["beyond"][0]
    (line, assumed) = sentences(found, "f1", True, True)
    assert line.startswith("a: public f1 0.77000 is worse than its OOF 0.80000 by more than noise")
    assert assumed.startswith("assumed: 90,000 public rows (as stated), drawn like the 9,000")


@pytest.mark.parametrize(("greater", "word"), [(True, "better"), (False, "worse")])
def test_the_direction_of_the_metric(greater, word):
    found = agreement(table(("a", 0.5, 0.7)), 1000, 1000, greater)
    assert f"is {word} than its OOF" in sentences(found, "m", greater, False)[0]


def test_many_submissions_raise_the_bound():
    assert bound_for(20) > bound_for(2) > bound_for(1)
    one = table(("a", 0.80, 0.80 + 2.1 * 0.01 * 2**0.5))
    many = table(*[(f"x{i}", 0.80, 0.80) for i in range(19)], *one[["name", "oof_score",
                 "public_score"]].itertuples(index=False, name=None))  # fmt: skip
    assert agreement(one, 1000, 1000, True).rows["beyond"].sum() == 1
    found = agreement(many, 1000, 1000, True)
    assert found.rows["beyond"].sum() == 0
    assert "20 of 20 public scores differ from OOF within noise" in sentences(
        found, "f1", True, True
    )


@pytest.mark.parametrize("greater", [True, False])
def test_pairs_in_another_order(greater):
    sign = 1 if greater else -1
    rows = table(("good", 0.80 * sign, 0.78 * sign), ("bad", 0.70 * sign, 0.79 * sign))
    found = agreement(rows, 1000, 1000, greater)
    assert (found.pairs, found.reversed_pairs) == (1, [("good", "bad", True)])
    assert any("good is better than bad out of fold, worse in public: more than noise" in line
               for line in sentences(found, "m", greater, False))  # fmt: skip
    found = agreement(rows, 1000, 20, greater)
    assert found.reversed_pairs == [("good", "bad", False)]
    assert any("which the public rows' noise explains" in line
               for line in sentences(found, "m", greater, False))  # fmt: skip
    right = table(("good", 0.80 * sign, 0.79 * sign), ("bad", 0.70 * sign, 0.71 * sign))
    found = agreement(right, 1000, 1000, greater)
    assert (found.pairs, found.reversed_pairs) == (1, [])
    assert "public keeps the order of all 1 pairs" in " ".join(
        sentences(found, "m", greater, False)
    )


def test_pairs_that_oof_cannot_tell_apart_are_left_out_and_paired_errors_find_more():
    rows = table(("a", 0.800, 0.70), ("b", 0.795, 0.80))
    assert agreement(rows, 1000, 1000, True).pairs == 0
    found = agreement(rows, 1000, 1000, True, lambda a, b: 0.001)
    assert (found.pairs, found.reversed_pairs) == (1, [("a", "b", True)])


def test_a_public_score_that_follows_the_assumptions_is_rarely_called_out():
    rng, called = np.random.default_rng(3), 0
    for _ in range(400):
        hits = rng.random(3000) < 0.8
        oof, public = hits[:2000].mean(), hits[2000:].mean()
        half = 1.96 * np.sqrt(oof * (1 - oof) / 2000)
        rows = pd.DataFrame({"name": ["a"], "oof_score": oof, "oof_lo": oof - half,
                             "oof_hi": oof + half, "public_score": public})  # fmt: skip
        called += agreement(rows, 2000, 1000, True).rows["beyond"][0]
    assert 4 <= called <= 36  # 5 % of 400 is 20


def test_intervals_that_are_not_defined():
    rows = table(("a", 0.8, 0.9)).assign(oof_lo=np.nan, oof_hi=np.nan)
    assert not agreement(rows, 100, 100, True).rows["beyond"][0]
