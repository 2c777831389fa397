"""Answers: SQuAD's normalisation and scores, and spans that are valid."""

import re
import string
from collections import Counter

import numpy as np
import pytest

from oofline.blocks import average, from_cells, largest_difference, weighted_sum
from oofline.errors import ConfigError
from oofline.results import Answer
from oofline.scoring.answers import (
    answer_f1,
    answer_f1_of,
    answers_from,
    character_f1_of,
    exact_match,
    exact_match_of,
    jaccard_of,
    likeliest_spans,
    normalise_answer,
)
from oofline.scoring.blending import blend, check_method
from oofline.scoring.metrics import METRICS, metric_inputs, score
from oofline.scoring.weights import convex_weights, true_edges


def official(true, found):
    """(exact match, F1) as evaluate-v1.1.py computes them, its functions copied in spirit."""

    def normalised(text):
        text = "".join(ch for ch in text.lower() if ch not in set(string.punctuation))
        return " ".join(re.sub(r"\b(a|an|the)\b", " ", text).split())

    a, b = normalised(found).split(), normalised(true).split()
    same = sum((Counter(a) & Counter(b)).values())
    if same == 0:
        return normalised(found) == normalised(true), 0
    precision, recall = same / len(a), same / len(b)
    return normalised(found) == normalised(true), 2 * precision * recall / (precision + recall)


@pytest.mark.parametrize(
    ("raw", "wanted"),
    [
        ("The Denver Broncos.", "denver broncos"),
        ("A an THE theatre", "theatre"),
        ("U.S.", "us"),
        ("the-end", "theend"),  # punctuation goes first, so the article is no word any more
        ("a.b a b", "ab b"),
        ("don't", "dont"),
        ("$1,000.50", "100050"),
        ("rock'n'roll  \t\n and\u00a0more", "rocknroll and more"),
        ("“The” — café", "“ ” — café"),  # only ASCII punctuation goes
        ("Ａ the ＴＨＥ", "ａ ｔｈｅ"),  # no Unicode normalisation
        ("İstanbul", "i̇stanbul"),
        ("東京タワー。", "東京タワー。"),
        ("the", ""),
        ("", ""),
    ],
)
def test_normalisation(raw, wanted):
    assert normalise_answer(raw) == wanted


PAIRS = [
    ("Denver Broncos", "the denver broncos!"),
    ("Denver Broncos", "Broncos"),
    ("to to be", "to be to be"),
    ("the", "a"),
    ("the", "cat"),
    ("", ""),
    ("24–10", "24-10"),
    ("café", "cafe\u0301"),
    ("naïve café", "café"),
    ("東京 タワー", "東京"),
    ("Levi's Stadium", "Levis stadium in"),
    ("½", "1⁄2"),
]


@pytest.mark.parametrize(("true", "found"), PAIRS)
def test_scores_are_those_of_the_official_script(true, found):
    em, f1 = official(true, found)
    assert exact_match_of(true, found) == em
    assert answer_f1_of(true, found) == pytest.approx(f1)


def test_nothing_left_matches_exactly_and_has_no_overlap():
    """Version 1.1: two answers that are articles only are the same, with F1 0."""
    assert exact_match_of("the", "a") == 1.0
    assert answer_f1_of("the", "a") == 0.0


def test_metrics_are_means_over_rows():
    y = np.array([Answer("x y z", "x y", 0), Answer("p q", "q", 2)], dtype=object)
    found = np.array(["x", "q"], dtype=object)
    assert answer_f1(y, found) == pytest.approx((2 / 3 + 1) / 2)
    assert exact_match(y, found) == 0.5


def test_characters_and_jaccard():
    assert character_f1_of("東京タワー", "東京") == pytest.approx(4 / 7)
    assert jaccard_of("Good day", "good") == 0.5
    assert jaccard_of("", "") == 0.0


def block(*rows):
    """Rows of {character: probability} for starts and for ends."""
    cells = [
        (row, 2 * at + side, p)
        for row, sides in enumerate(rows)
        for side, chances in enumerate(sides)
        for at, p in chances.items()
    ]
    table = np.array(cells, dtype=float).reshape(-1, 3)
    return from_cells(table[:, 0].astype(int), table[:, 1].astype(int), table[:, 2], len(rows))


def test_backward_and_too_long_spans_are_no_answers():
    pred = block(
        ({8: 0.9, 2: 0.1}, {3: 0.6, 9: 0.4}),  # 8..3 is backwards: 8..9 wins with 0.36
        ({0: 0.9, 6: 0.1}, {9: 1.0}),  # 0..9 is longer than 5: 6..9 is left
        ({4: 1.0}, {4: 1.0}),  # one character
    )
    spans, chances = likeliest_spans(pred, longest=5, n=2)
    assert spans[:, 0].tolist() == [[8, 10], [6, 10], [4, 5]]
    assert spans[0, 1].tolist() == [2, 4]
    np.testing.assert_allclose(chances[:, 0], [0.36, 0.1, 1.0], rtol=1e-6)
    assert spans[1, 1].tolist() == [-1, -1]
    assert chances[1, 1] == 0


def test_n_best_equals_trying_every_span():
    rng = np.random.default_rng(0)
    for _ in range(20):
        starts, ends = (
            dict(zip(rng.permutation(30)[:12].tolist(), rng.random(12).tolist(), strict=True))
            for _ in range(2)
        )
        spans, chances = likeliest_spans(block((starts, ends)), longest=9, n=5)
        every = sorted(
            (p * q for s, p in starts.items() for e, q in ends.items() if s <= e < s + 9),
            reverse=True,
        )
        every = (every + [0.0] * 5)[:5]
        np.testing.assert_allclose(chances[0], every, rtol=1e-5)
        for (start, end), chance in zip(spans[0], chances[0], strict=True):
            if chance:
                assert starts[int(start)] * ends[int(end) - 1] == pytest.approx(chance, rel=1e-5)


def test_unlikely_spans_are_found_where_the_likely_ones_do_not_fit():
    late = {100 + c: 0.04 for c in range(24)}  # 24 starts behind every end
    pred = block(({**late, 3: 0.001}, {5: 1.0}), ({9: 1.0}, {2: 1.0}), ({}, {}))
    context = "abcdefghij" * 20
    assert answers_from([context] * 3, pred, 8).tolist() == ["def", "", ""]


@pytest.mark.parametrize("name", ["answer_f1", "exact_match", "answer_char_f1", "jaccard"])
def test_drawn_rows_score_as_they_would_anew(name, sample, make_task):
    """Bootstraps draw the values of single rows; that is the score of the rows drawn."""
    y, pred = sample("qa")
    task = make_task("qa", name)
    found = METRICS[name]
    inputs = metric_inputs(task, y, pred, 0.5)
    rows = np.random.default_rng(1).integers(0, len(y), 300)
    assert found.of_rows(y, inputs)(rows) == pytest.approx(found.function(y[rows], inputs[rows]))
    assert score(task, y[rows], pred[rows]) == pytest.approx(found.function(y[rows], inputs[rows]))


@pytest.mark.parametrize("method", ["mean", "convex", "hill_climbing", "auto"])
def test_blends_of_answers_are_cross_fitted(method, sample, make_task):
    y, good = sample("qa", seed=0)
    noise = sample("qa", seed=1)[1]  # of other answers
    task, fold = make_task("qa", "answer_f1"), np.arange(len(y)) % 4
    found = blend(task, y, [good, noise], fold, method)
    assert found.score == pytest.approx(answer_f1(y, found.inputs))
    assert found.pred.shape == good.shape
    if method != "mean":
        assert found.weights[0] > 0.8
        assert found.score >= score(task, y, noise)
    inside = fold == 2
    mixed = weighted_sum(found.fold_weights[2], [good[inside], noise[inside]])
    assert largest_difference(found.pred[inside], mixed) == 0


def test_convex_weights_minimise_the_log_loss_of_both_ends(sample, make_task):
    y, first = sample("qa", seed=0)
    second = average([first, sample("qa", seed=3)[1]])
    weights = convex_weights(make_task("qa", "answer_f1"), y, [first, second])

    def loss(share):
        chances = true_edges(y, [weighted_sum(np.array([share, 1 - share]), [first, second])])[0]
        return -np.log(chances).mean()

    assert loss(weights[0]) <= min(loss(share) for share in np.linspace(0, 1, 21)) + 1e-6


def test_ranks_do_not_fit_answers(make_task):
    with pytest.raises(ConfigError, match="rank_mean"):
        check_method(make_task("qa", "answer_f1"), "rank_mean")
