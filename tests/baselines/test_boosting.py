import numpy as np
import pytest
from scipy import sparse

from oofline.baselines.boosting import choose_rounds, fit_boosted, load_boosted, parameters
from oofline.baselines.problems import Problem
from oofline.config import CFG
from oofline.errors import ConfigError, Stopped

SMALL = {"kind": "lightgbm", "lgbm_min_rows": 5, "lgbm_leaves": 4, "lgbm_features": 1.0}


@pytest.fixture
def data(rng):
    x = rng.normal(size=(200, 5))
    return sparse.csr_matrix(x), (x[:, 0] > 0).astype(np.float64)


def fit(cfg, problem, x, rounds=20, seed=1):
    return fit_boosted(cfg, problem, x, rounds, seed, lambda: None)


@pytest.mark.parametrize(("sort", "width"), [("binary", 1), ("classes", 3), ("value", 1)])
def test_every_sort_of_problem_is_learnt_and_read_back(data, sort, width, tmp_path):
    x, y = data
    y = {"binary": y, "classes": y * 2, "value": y * 10 - 3}[sort]
    model = fit(CFG(**SMALL), Problem(sort, y, {"binary": 2, "classes": 3}.get(sort, 0)), x, 60)
    pred = model.predict(x)
    assert pred.shape == (200, width)
    if sort == "value":
        assert np.abs(pred[:, 0] - y).mean() < 0.5
    else:
        labels = pred.argmax(axis=1) if sort == "classes" else pred[:, 0] > 0.5
        assert (labels == y).mean() > 0.97
    model.save(tmp_path / "model.txt")
    assert (tmp_path / "model.txt").read_text().startswith("tree")
    assert np.array_equal(load_boosted(tmp_path / "model.txt", sort).predict(x), pred)


def test_the_same_seed_gives_the_same_trees(data):
    x, y = data
    cfg = CFG(**(SMALL | {"lgbm_rows": 0.5, "lgbm_features": 0.4}))
    one, same, other = (fit(cfg, Problem("binary", y, 2), x, 10, s).predict(x) for s in (1, 1, 2))
    assert np.array_equal(one, same)
    assert not np.array_equal(one, other)


def test_trees_add_up(data):
    x, y = data
    model = fit(CFG(**SMALL), Problem("binary", y, 2), x, 12)
    parts = model.raw(x, 0, 5) + model.raw(x, 5, 7)
    assert parts == pytest.approx(model.raw(x))
    assert model.rounds == 12


def test_boosting_stops_where_the_inner_loss_is_lowest(data, rng):
    x, y = data
    noisy = Problem("binary", np.where(rng.random(200) < 0.3, 1 - y, y), 2)
    rows = np.arange(100), np.arange(100, 200)
    sides = noisy.at(rows[0]), x[:100], noisy.at(rows[1]), x[100:]
    cfg = CFG(**SMALL, lgbm_lr=0.3, lgbm_patience=10)
    chosen = choose_rounds(cfg, *sides, 1, lambda: None)
    assert 1 <= chosen < 40
    losses = [_loss(cfg, sides, rounds) for rounds in (chosen, chosen + 60)]
    assert losses[0] < losses[1]


def _loss(cfg, sides, rounds):
    pred = fit(cfg, sides[0], sides[1], rounds).predict(sides[3])[:, 0]
    y = sides[2].y
    return -np.log(np.clip(np.where(y == 1, pred, 1 - pred), 1e-9, None)).mean()


def test_without_patience_all_rounds_are_boosted(data):
    x, y = data
    problem = Problem("binary", y, 2)
    cfg = CFG(**SMALL, lgbm_patience=0, lgbm_rounds=7)
    assert choose_rounds(cfg, problem, x, problem, x, 1, lambda: None) == 7


def test_settings_reach_lightgbm(data):
    cfg = CFG(kind="lightgbm", lgbm_lr=0.2, lgbm_leaves=7, lgbm_min_rows=4, lgbm_features=0.3,
              lgbm_rows=0.6, lgbm_l2=2.0)  # fmt: skip
    given = parameters(cfg, Problem("classes", np.zeros(3), 3), 5)
    assert given.items() >= {
        "learning_rate": 0.2, "num_leaves": 7, "min_data_in_leaf": 4, "feature_fraction": 0.3,
        "bagging_fraction": 0.6, "bagging_freq": 1, "lambda_l2": 2.0, "num_class": 3, "seed": 5,
        "objective": "multiclass", "deterministic": True,
    }.items()  # fmt: skip


def test_a_stop_asked_for_ends_boosting(data):
    x, y = data
    calls = []

    def check():
        calls.append(1)
        if len(calls) == 3:
            raise Stopped("time")

    with pytest.raises(Stopped):
        fit_boosted(CFG(**SMALL), Problem("binary", y, 2), x, 1000, 1, check)
    assert len(calls) == 3


def test_a_gpu_that_lightgbm_cannot_use_is_an_error_in_one_line(data, monkeypatch):
    import lightgbm
    from lightgbm.basic import LightGBMError

    def refuse(given, *rest, **kwargs):
        assert given["gpu_device_id"] == 1
        raise LightGBMError("CUDA Tree Learner was not enabled in this build.")

    x, y = data
    monkeypatch.setattr(lightgbm, "train", refuse)
    with pytest.raises(ConfigError, match=r'device = "cuda:1": LightGBM cannot use it'):
        fit(CFG(**SMALL, device="cuda:1"), Problem("binary", y, 2), x)
