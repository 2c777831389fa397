import numpy as np
import pytest

from oofline.baselines.boosting import Boosted
from oofline.baselines.fitting import (
    fit_baseline,
    importance_frame,
    refuse_targets,
    stages,
)
from oofline.baselines.problems import problems_of
from oofline.baselines.rows import make_source, source_of_rows
from oofline.baselines.stored import load_baseline, save_baseline
from oofline.errors import ConfigError, DataError, Stopped
from oofline.storage import sha256_of

KINDS = ["lightgbm", "ridge", "logistic"]


@pytest.fixture
def fitted(setting):
    """fitted(toy, fold, y, check, **settings) -> (baseline, source, competition, folds)."""

    def make(toy="binary", fold=0, y=None, check=lambda: None, **settings):
        cfg, paths, competition, folds = setting(toy, **settings)
        source = make_source(cfg, paths, competition)
        y = competition.y if y is None else y(competition.y, folds)
        baseline = fit_baseline(cfg, competition.task, source, y, folds, fold, 7, check)
        return baseline, source, competition, folds

    return make


def predict(baseline, source, rows):
    return baseline.predict(baseline.features.transform(source, rows))


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("toy", ["binary", "multiclass", "regression"])
def test_every_task_is_learnt(fitted, kind, toy):
    if (kind, toy) == ("logistic", "regression"):
        pytest.skip("logistic regression is for classes")
    baseline, source, competition, folds = fitted(toy, kind=kind)
    rows = folds.valid_rows(0)
    pred, y = predict(baseline, source, rows), competition.y[rows]
    assert pred.shape == (len(rows), competition.task.n_outputs)
    if toy == "regression":
        assert np.corrcoef(pred[:, 0], y[:, 0])[0, 1] > 0.9
    elif toy == "binary":
        assert ((pred[:, 0] > 0.5) == y).mean() > 0.9
    else:
        assert (pred.argmax(axis=1) == y).mean() > 0.6
        assert pred.sum(axis=1) == pytest.approx(1.0)


@pytest.mark.parametrize(("settings", "message"), [
    ({"kind": "logistic"}, 'use "ridge", or ordinal = "classes"'),
    ({"kind": "ridge", "class_weights": "balanced"}, "class_weights acts on classes"),
])  # fmt: skip
def test_what_is_for_classes_is_refused_on_a_scale_of_values(setting, settings, message):
    cfg, _, competition, _ = setting("ordinal", **settings)
    with pytest.raises(ConfigError, match=message):
        refuse_targets(cfg, competition.task, competition.y)
    cfg, _, competition, _ = setting("ordinal", ordinal="classes", **settings)
    refuse_targets(cfg, competition.task, competition.y)


@pytest.mark.parametrize("kind", KINDS)
def test_labels_of_validation_rows_change_nothing(fitted, kind):
    def scrambled(y, folds):
        changed = y.copy()
        changed[folds.valid_rows(0)] = 1 - changed[folds.valid_rows(0)]
        return changed

    (one, source, *_), (two, *_) = fitted(kind=kind), fitted(kind=kind, y=scrambled)
    everything = np.arange(source.n_train)
    assert one.choices == two.choices
    assert np.array_equal(predict(one, source, everything), predict(two, source, everything))
    changed, *_ = fitted(kind=kind, y=lambda y, _: 1 - y)
    assert not np.array_equal(predict(one, source, everything),
                              predict(changed, source, everything))  # fmt: skip


def test_several_values_are_fitted_one_by_one(fitted):
    two = lambda y, _: np.hstack([y, 5 - 2 * y])  # noqa: E731
    for kind in ("lightgbm", "ridge"):
        baseline, source, *_ = fitted("regression", y=two, kind=kind)
        pred = predict(baseline, source, np.arange(source.n_train))
        assert pred.shape[1] == 2
        assert np.corrcoef(pred[:, 0], pred[:, 1])[0, 1] < -0.9
        assert pred[:, 1].mean() > 3


def test_logistic_regression_refuses_values(setting):
    cfg, _, competition, _ = setting("regression", kind="logistic")
    with pytest.raises(ConfigError, match='kind = "logistic" is for classes and regression has'):
        refuse_targets(cfg, competition.task, competition.y)


@pytest.mark.parametrize(("settings", "choices"), [
    ({"kind": "ridge", "linear_penalty": 2.5}, (2.5,)),
    ({"kind": "lightgbm", "lgbm_patience": 0, "lgbm_rounds": 4}, (4,)),
])  # fmt: skip
def test_a_choice_that_is_set_is_taken(fitted, settings, choices):
    baseline, *_ = fitted(**settings)
    assert baseline.choices == choices
    if isinstance(baseline.models[0], Boosted):
        assert baseline.models[0].rounds == 4


@pytest.mark.parametrize("kind", ["lightgbm", "ridge"])
def test_stages_end_with_the_predictions(fitted, kind):
    baseline, source, competition, folds = fitted("multiclass", kind=kind)
    rows, valid = folds.train_rows(0), folds.valid_rows(0)
    curve = stages(baseline, problems_of(competition.task, competition.y), source, rows, valid)
    assert curve[-1].valid == pytest.approx(predict(baseline, source, valid))
    assert [s.rounds for s in curve] == sorted({s.rounds for s in curve})
    if kind == "lightgbm":
        assert curve[-1].rounds == baseline.models[0].rounds
        assert curve[-1].train_loss < curve[0].train_loss
    else:
        assert len(curve) == 1


@pytest.mark.parametrize("kind", KINDS)
def test_importance_names_what_decides(fitted, kind):
    baseline, source, competition, folds = fitted(kind=kind, tfidf_chars="", text_stats=False)
    frame = importance_frame(baseline, competition.task, source, folds.train_rows(0))
    assert frame["importance"].sum() == pytest.approx(1.0)
    top = frame.set_index("name").head(2)
    assert set(top.index) & {"good", "bad"}
    if kind != "lightgbm":
        assert top.loc["good", "towards"] == "+"
        assert top.loc["bad", "towards"] == "-"


@pytest.mark.parametrize("settings", [
    {"kind": "lightgbm"}, {"kind": "ridge"}, {"kind": "logistic", "svd_dims": 3},
    {"kind": "ridge", "svd_dims": 3, "svd_beside": False},
])  # fmt: skip
def test_saved_and_read_it_predicts_new_rows_the_same(setting, fitted, settings, tmp_path):
    baseline, source, competition, _ = fitted("multiclass", **settings)
    folder = tmp_path / "fold"
    folder.mkdir()
    hashes = save_baseline(baseline, folder)
    assert hashes == {path.name: sha256_of(path) for path in folder.iterdir()}
    again = load_baseline(folder)
    assert again.features.names == baseline.features.names
    cfg, paths, *_ = setting("multiclass", **settings)
    later = source_of_rows(
        cfg, paths, again.features.recipe, again.features.tfidfs, competition.test_texts,
        competition.test,
    )  # fmt: skip
    there = np.arange(source.n_train, source.n_train + 21)
    found = predict(again, later, np.arange(21))
    assert np.array_equal(found, predict(baseline, source, there))
    suffixes = {path.suffix for path in folder.iterdir()}
    assert suffixes <= {".json", ".txt", ".safetensors"}


@pytest.mark.parametrize("damage", ["model0.txt", "features.safetensors"])
@pytest.mark.parametrize("how", ["gone", "cut"])
def test_a_damaged_baseline_is_named(fitted, damage, how, tmp_path):
    baseline, *_ = fitted(kind="lightgbm")
    save_baseline(baseline, tmp_path)
    if how == "gone":
        (tmp_path / damage).unlink()
    else:
        (tmp_path / damage).write_bytes((tmp_path / damage).read_bytes()[:20])
    with pytest.raises(DataError, match="cannot be read") as error:
        load_baseline(tmp_path)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("kind", KINDS)
def test_a_stop_asked_for_ends_the_fit(fitted, kind):
    def stop():
        raise Stopped("time")

    with pytest.raises(Stopped):
        fitted(kind=kind, check=stop)
