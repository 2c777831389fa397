import random
from itertools import combinations
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from scipy.sparse.csgraph import connected_components

from oofline import progress
from oofline.data import duplicates
from oofline.data.duplicates import (
    duplicate_groups,
    exact_groups,
    jaccard,
    normalise,
    rows_per_band,
)

LONG = "the quick brown fox jumps over the lazy dog while the cat looks on and yawns"


@pytest.mark.parametrize(
    ("left", "right"),
    [
        ("Fire &amp; Rain", "fire & rain"),
        ("ＡＢＣ　１２３", "abc 123"),
        ("ｱｲｳ", "アイウ"),
        ("two  words\n", " two\twords"),
        ("zero\u200bwidth", "zero width"),
        ("see https://t.co/abc now", "see http://t.co/XYZ now"),
        ("Straße", "STRASSE"),
    ],
)
def test_normalise_unifies(left: str, right: str) -> None:
    assert normalise(left) == normalise(right)


@pytest.mark.parametrize(
    ("left", "right"),
    [
        ("http://t.co/abc", "http://t.co/xyz"),
        ("#fire", "fire"),
        ("good!", "good?"),
        ("かき", "がき"),
    ],
)
def test_normalise_keeps_apart(left: str, right: str) -> None:
    assert normalise(left) != normalise(right)


def test_exact_groups_number_by_first_appearance_and_keep_empty_texts_apart() -> None:
    assert exact_groups(["b", "a", "", "b", "", "a"]).tolist() == [0, 1, 2, 0, 3, 1]


def test_near_duplicates_share_a_group_and_a_threshold_of_0_is_exact() -> None:
    texts = [LONG, "something else altogether, of a similar length as the others are", LONG + "!",
             LONG.upper()]  # fmt: skip
    groups = duplicate_groups(texts, 0.8)
    assert groups.dtype == np.int64
    assert groups.tolist() == [0, 1, 0, 0]
    assert duplicate_groups(texts, 0.0).tolist() == [0, 1, 2, 0]


def test_japanese() -> None:
    text = "予定より10日遅れてデザインの違うものが届きました。まぁこの値段なら仕方ないと思います"
    other = "普段家用なら便利だね、生地は良さそうでしたので長く使えると思います。気に入りました"
    groups = duplicate_groups([text, other, text.replace("10", "１０") + "。"], 0.8)
    assert groups.tolist() == [0, 1, 0]


def test_short_and_empty_texts_are_only_ever_equal() -> None:
    assert duplicate_groups(["", "", "ok", "ok!", "OK", "no", " "], 0.5).tolist() == [
        0, 1, 2, 3, 2, 4, 5,
    ]  # fmt: skip
    assert duplicate_groups([], 0.8).tolist() == []
    assert duplicate_groups(["a"], 0.8).tolist() == [0]


def test_jaccard_by_hand() -> None:
    assert jaccard("abcdef", "bcdefg") == pytest.approx(1 / 3)


@pytest.mark.parametrize("threshold", [0.3, 0.5, 0.8, 0.95])
def test_bands_find_a_pair_at_the_threshold(threshold: float) -> None:
    rows = rows_per_band(threshold)
    assert 1 - (1 - threshold**rows) ** (duplicates.N_HASHES // rows) >= 0.995


@pytest.mark.parametrize("threshold", [0.6, 0.8])
def test_real_tweets_agree_with_all_pairs(real_data: Path, threshold: float) -> None:
    texts = pd.read_csv(real_data / "disaster" / "train.csv")["text"]
    unique = sorted({t for t in map(normalise, texts) if len(t) >= 12 and "storm" in t})
    assert len(unique) > 300
    n = len(unique)
    similar = np.zeros((n, n), dtype=bool)
    for i, j in combinations(range(n), 2):
        similar[i, j] = jaccard(unique[i], unique[j]) >= threshold
    _, expected = connected_components(similar, directed=False)
    found = duplicate_groups(unique, threshold)
    assert n > len(set(expected)) == found.max() + 1
    assert len(set(zip(expected, found, strict=True))) == len(set(expected))


def test_planted_near_duplicates_are_found_among_many() -> None:
    rng = random.Random(0)
    words = [f"{rng.getrandbits(30):x}" for _ in range(3000)]
    originals = [" ".join(rng.choices(words, k=15)) for _ in range(3000)]
    copies = [text[:50] + "#" + text[51:] for text in originals]
    groups = duplicate_groups(originals + copies, 0.8)
    assert (groups[:3000] == np.arange(3000)).all()
    assert (groups[3000:] == groups[:3000]).mean() > 0.999


def test_one_template_for_all_rows_stays_linear(monkeypatch: pytest.MonkeyPatch) -> None:
    compared = []
    real = duplicates.jaccard

    def counting(a: str, b: str) -> float:
        compared.append(1)
        return real(a, b)

    monkeypatch.setattr(duplicates, "jaccard", counting)
    groups = duplicate_groups([f"{LONG} {i}" for i in range(3000)], 0.8)
    assert groups.max() == 0
    assert 0 < len(compared) < 3000 * 100  # all pairs would be 4.5 million


def test_a_large_bucket_is_compared_along_a_window() -> None:
    size = 40 * duplicates.FULL_BUCKET
    one_bucket = np.zeros(size, dtype=np.uint64)
    order = np.random.default_rng(0).permutation(size).astype(np.uint64)
    pairs = duplicates._bucket_pairs(one_bucket, order)
    assert (duplicates.WINDOW - 1) * size < len(pairs) < duplicates.WINDOW * size
    distance = order[pairs[:, 0]].astype(int) - order[pairs[:, 1]].astype(int)
    assert abs(distance).max() == duplicates.WINDOW
    small = duplicates._bucket_pairs(one_bucket[:10], order[:10])
    assert len(set(map(tuple, small.tolist()))) == 45


def test_chunks_do_not_change_the_result(monkeypatch: pytest.MonkeyPatch) -> None:
    texts = [f"{LONG[i % 7 :]} {i * 7919} {LONG[: i % 30]}" for i in range(300)]
    expected = duplicate_groups(texts, 0.8)
    monkeypatch.setattr(duplicates, "_CHUNK", 7)
    assert (duplicate_groups(texts, 0.8) == expected).all()
    monkeypatch.setattr(duplicates, "_CHUNK_CHARACTERS", 100)
    assert (duplicate_groups(texts, 0.8) == expected).all()


def test_a_long_search_shows_movement(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(progress, "PLAIN_SECONDS", 0.0)
    monkeypatch.setattr(duplicates, "_CHUNK", 10)
    duplicate_groups([f"{LONG} {i * 7919}" for i in range(30)], 0.8)
    lines = capsys.readouterr().out.splitlines()
    signatures = [line.split()[3] for line in lines if line.startswith("near duplicates: sig")]
    assert signatures == ["10/30", "20/30", "30/30"]
    bands = duplicates.N_HASHES // duplicates.rows_per_band(0.8)
    comparisons = [line.split()[3] for line in lines if line.startswith("near duplicates: comp")]
    assert comparisons == [f"{k}/{bands}" for k in range(1, bands + 1)]
