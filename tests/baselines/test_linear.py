import dataclasses

import numpy as np
import pytest
from scipy import sparse
from sklearn.linear_model import LogisticRegression, Ridge

from oofline.baselines.linear import PENALTIES, choose_penalty, fit_linear, load_linear
from oofline.baselines.problems import Problem
from oofline.config import CFG


@pytest.fixture
def data(rng):
    x = rng.normal(size=(80, 6))
    y = (x[:, 0] + 0.3 * rng.normal(size=80) > 0).astype(np.float64)
    return sparse.csr_matrix(x), y


def test_ridge_of_values_is_scikit_learns(data):
    x, _ = data
    y = np.asarray(x[:, 1].todense()).ravel() * 2 + 1
    model = fit_linear(CFG(kind="ridge"), Problem("value", y, 0), x, 0.5)
    reference = Ridge(alpha=0.5, solver="cholesky").fit(x.toarray(), y)
    assert model.predict(x)[:, 0] == pytest.approx(reference.predict(x.toarray()), abs=1e-2)


def test_logistic_of_two_classes_is_scikit_learns(data):
    x, y = data
    model = fit_linear(CFG(kind="logistic"), Problem("binary", y, 2), x, 0.5)
    reference = LogisticRegression(C=2.0, max_iter=1000).fit(x.toarray(), y)
    expected = reference.predict_proba(x.toarray())[:, 1]
    assert model.predict(x)[:, 0] == pytest.approx(expected, abs=1e-2)


@pytest.mark.parametrize("kind", ["ridge", "logistic"])
def test_classes_get_probabilities_in_the_order_of_the_scores(data, kind, rng):
    x, _ = data
    y = np.asarray(x[:, :3].todense()).argmax(axis=1).astype(np.float64)
    model = fit_linear(CFG(kind=kind), Problem("classes", y, 3), x, 0.1)
    pred = model.predict(x)
    assert pred.sum(axis=1) == pytest.approx(1.0)
    raw = x @ model.coef + model.intercept
    assert np.array_equal(pred.argmax(axis=1), raw.argmax(axis=1))
    assert (pred.argmax(axis=1) == y).mean() > 0.85


def test_ridges_probabilities_have_slope_one_where_classes_are_equal(data):
    x, y = data
    model = fit_linear(CFG(kind="ridge"), Problem("binary", y, 2), x, 1.0)
    zero = sparse.csr_matrix((1, 6))
    for value, expected in ((0.5, 0.5), (0.51, 0.51)):
        moved = dataclasses.replace(model, intercept=np.array([value], dtype=np.float32))
        assert moved.predict(zero)[0, 0] == pytest.approx(expected, abs=1e-3)


@pytest.mark.parametrize("present", [[0], [1], [2], [0, 2], [1, 2]])
def test_a_class_without_rows_is_all_but_impossible(data, present, rng):
    x, _ = data
    y = rng.choice(present, 80).astype(np.float64)
    pred = fit_linear(CFG(kind="logistic"), Problem("classes", y, 3), x, 1.0).predict(x)
    absent = [k for k in range(3) if k not in present]
    assert pred[:, absent].max() < 1e-6
    assert pred.sum(axis=1) == pytest.approx(1.0)
    if len(present) == 2:
        assert pred[:, present[1]].mean() == pytest.approx((y == present[1]).mean(), abs=0.05)


@pytest.mark.parametrize("label", [0.0, 1.0])
def test_two_classes_of_which_one_has_no_rows(data, label):
    x, _ = data
    problem = Problem("binary", np.full(80, label), 2)
    pred = fit_linear(CFG(kind="logistic"), problem, x, 1.0).predict(x)
    assert pred == pytest.approx(label, abs=1e-6)


def test_class_weights_reach_the_fit(data):
    x, _ = data
    y = (np.arange(80) % 8 == 0).astype(np.float64)
    plain, balanced = (
        fit_linear(CFG(kind="logistic", class_weights=w), Problem("binary", y, 2), x, 1.0)
        for w in ("none", "balanced")
    )
    assert balanced.predict(x).mean() > plain.predict(x).mean() + 0.1


@pytest.mark.parametrize("kind", ["ridge", "logistic"])
def test_the_penalty_with_the_lowest_inner_loss_is_chosen(data, kind, rng):
    x, y = data
    clean = Problem("binary", y, 2)
    noise = Problem("binary", rng.permutation(y), 2)
    half = slice(0, 40), slice(40, 80)
    low = choose_penalty(CFG(kind=kind), clean.at(np.arange(40)), x[half[0]],
                         clean.at(np.arange(40, 80)), x[half[1]])  # fmt: skip
    high = choose_penalty(CFG(kind=kind), noise.at(np.arange(40)), x[half[0]],
                          noise.at(np.arange(40, 80)), x[half[1]])  # fmt: skip
    assert high == PENALTIES[kind][-1]
    assert low < high
    fixed = CFG(kind=kind, linear_penalty=0.7)
    assert choose_penalty(fixed, clean, x, clean, x) == 0.7


@pytest.mark.parametrize("sort", ["binary", "classes"])
def test_saved_and_read_it_predicts_the_same(data, tmp_path, sort):
    x, y = data
    model = fit_linear(CFG(kind="ridge"), Problem(sort, y, 2), x, 1.0)
    model.save(tmp_path / "model.safetensors")
    again = load_linear(tmp_path / "model.safetensors", "ridge", sort)
    assert np.array_equal(again.predict(x), model.predict(x))
