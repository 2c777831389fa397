"""Each metric equals an independent implementation; undefined scores are nan; names are checked."""

import numpy as np
import pytest
from scipy import stats
from sklearn import metrics as reference

from oofline.blocks import from_cells
from oofline.errors import ConfigError, DataError
from oofline.scoring.class_metrics import EPSILON
from oofline.scoring.metrics import METRICS, get_metric, hard_labels, metric, score, score_targets

BINARY = {
    "accuracy": lambda y, p: reference.accuracy_score(y, p > 0.5),
    "f1": lambda y, p: reference.f1_score(y, p > 0.5),
    "f1_macro": lambda y, p: reference.f1_score(y, p > 0.5, average="macro"),
    "f1_weighted": lambda y, p: reference.f1_score(y, p > 0.5, average="weighted"),
    "log_loss": reference.log_loss,
    "roc_auc": reference.roc_auc_score,
    "mcc": lambda y, p: reference.matthews_corrcoef(y, p > 0.5),
    "qwk": lambda y, p: reference.cohen_kappa_score(y, p > 0.5, weights="quadratic"),
}
MULTICLASS = {
    "accuracy": lambda y, p: reference.accuracy_score(y, p.argmax(1)),
    "f1_macro": lambda y, p: reference.f1_score(y, p.argmax(1), average="macro"),
    "f1_weighted": lambda y, p: reference.f1_score(y, p.argmax(1), average="weighted"),
    "log_loss": lambda y, p: reference.log_loss(y, p, labels=range(p.shape[1])),
    "roc_auc": lambda y, p: reference.roc_auc_score(y, p, multi_class="ovr"),
    "mcc": lambda y, p: reference.matthews_corrcoef(y, p.argmax(1)),
    "qwk": lambda y, p: reference.cohen_kappa_score(
        y, p.argmax(1), weights="quadratic", labels=range(p.shape[1])
    ),
}
REGRESSION = {
    "mse": reference.mean_squared_error,
    "rmse": lambda y, p: reference.mean_squared_error(y, p) ** 0.5,
    "mcrmse": reference.root_mean_squared_error,
    "mae": reference.mean_absolute_error,
    "r2": reference.r2_score,
    "pearson": lambda y, p: np.mean([stats.pearsonr(y[:, t], p[:, t])[0] for t in range(3)]),
    "spearman": lambda y, p: np.mean([stats.spearmanr(y[:, t], p[:, t])[0] for t in range(3)]),
}


@pytest.mark.parametrize("name", BINARY)
@pytest.mark.parametrize("ties", [False, True])
def test_binary_metrics_equal_sklearn(name, ties, make_task, sample):
    y, pred = sample("binary", n=301)
    pred = pred.round(1) if ties else pred
    expected = BINARY[name](y, pred[:, 0].clip(EPSILON, 1 - EPSILON))
    assert score(make_task("binary", name), y, pred) == pytest.approx(expected, abs=1e-9)


@pytest.mark.parametrize("name", MULTICLASS)
@pytest.mark.parametrize("n_classes", [3, 7])
def test_multiclass_metrics_equal_sklearn(name, n_classes, make_task, sample):
    y, pred = sample("multiclass", n=250, n_classes=n_classes)
    expected = MULTICLASS[name](y, pred)
    result = score(make_task("multiclass", name, n_classes), y, pred)
    assert result == pytest.approx(expected, abs=1e-9)


@pytest.mark.parametrize("name", REGRESSION)
def test_value_metrics_equal_the_reference(name, make_task, sample):
    y, pred = sample("regression", n_targets=3)
    expected = REGRESSION[name](y, pred)
    result = score(make_task("regression", name, n_targets=3), y, pred)
    assert result == pytest.approx(expected, abs=1e-12)


def test_every_metric_is_covered_and_knows_its_direction():
    assert set(METRICS) >= set(BINARY) | set(MULTICLASS) | set(REGRESSION)
    lower = {name for name, m in METRICS.items() if not m.greater_is_better}
    assert lower == {"log_loss", "mse", "rmse", "mcrmse", "mae"}
    assert {name for name, m in METRICS.items() if m.thresholded} == {
        "f1", "f1_macro", "f1_micro", "f1_weighted", "mcc",
    }  # fmt: skip


@pytest.mark.parametrize(("name", "kind"), [(m.name, k) for m in METRICS.values() for k in m.kinds])
def test_a_perfect_prediction_beats_a_noisy_one(name, kind, make_task, sample):
    y, noisy = sample(kind)
    y = np.rint(y) if (name, kind) == ("qwk", "regression") else y
    perfect = {
        "binary": lambda: y[:, None] * 1.0,
        "ordinal": lambda: y[:, None] * 1.0,
        "multiclass": lambda: np.eye(3)[y],
        "multilabel": lambda: y * 1.0,
        "qa": lambda: from_cells(
            np.arange(len(y)).repeat(2),
            np.array([[2 * answer.start, 2 * answer.end - 1] for answer in y]).ravel(),
            np.ones(2 * len(y)), len(y),
        ),
    }  # fmt: skip
    best = score(make_task(kind, name), y, perfect.get(kind, lambda: y)())
    gain = best - score(make_task(kind, name), y, noisy)
    assert gain > 0 if METRICS[name].greater_is_better else gain < 0


LABELS = {
    "roc_auc": lambda y, p: reference.roc_auc_score(y, p, average="macro"),
    "roc_auc_micro": lambda y, p: reference.roc_auc_score(y, p, average="micro"),
    "log_loss": lambda y, p: np.mean(
        [reference.log_loss(t, q) for t, q in zip(y.T, p.T, strict=True)]
    ),
    "f1_macro": lambda y, p: reference.f1_score(y, p > 0.5, average="macro"),
    "f1_micro": lambda y, p: reference.f1_score(y, p > 0.5, average="micro"),
}


@pytest.mark.parametrize("name", LABELS)
def test_multilabel_metrics_equal_sklearn(name, make_task, sample):
    y, pred = sample("multilabel")
    assert {m.name for m in METRICS.values() if "multilabel" in m.kinds} == set(LABELS)
    expected = LABELS[name](y, pred)
    assert score(make_task("multilabel", name), y, pred) == pytest.approx(expected, abs=1e-9)


def test_a_label_without_positives_is_left_out_of_macro_auc(make_task, sample):
    y, pred = sample("multilabel")
    y[:, 1] = 0
    expected = np.mean([reference.roc_auc_score(y[:, t], pred[:, t]) for t in (0, 2)])
    assert score(make_task("multilabel", "roc_auc"), y, pred) == pytest.approx(expected)
    task = make_task("multilabel", "roc_auc")
    alone = score_targets(task, y, pred)
    assert np.isnan(alone["label1"])
    assert np.mean([alone["label0"], alone["label2"]]) == pytest.approx(expected)
    assert np.isnan(score(task, np.zeros_like(y), pred))


def test_scores_of_each_target_are_the_metric_on_its_column(make_task, sample):
    y, pred = sample("multi-target")
    alone = score_targets(make_task("multi-target", "mcrmse"), y, pred)
    assert np.mean(list(alone.values())) == pytest.approx(
        score(make_task("multi-target", "mcrmse"), y, pred)
    )
    assert list(alone) == ["target0", "target1", "target2"]
    assert score_targets(make_task("binary", "f1"), *sample("binary")) == {}


def test_qwk_of_a_scale_equals_sklearn(make_task, sample):
    y, pred = sample("ordinal")
    labels = np.clip(np.rint(pred[:, 0]), 0, 4)
    expected = reference.cohen_kappa_score(y, labels, weights="quadratic")
    assert score(make_task("ordinal", "qwk"), y, pred) == pytest.approx(expected)


def test_log_loss_with_a_class_missing_in_the_fold(make_task, sample):
    y, pred = sample("multiclass", n=60)
    keep = y != 1
    expected = reference.log_loss(y[keep], pred[keep], labels=[0, 1, 2])
    assert score(make_task("multiclass", "log_loss"), y[keep], pred[keep]) == pytest.approx(
        expected
    )


def test_log_loss_of_a_certain_error_is_finite(make_task):
    result = score(make_task("binary", "log_loss"), np.array([1, 0]), np.array([[0.0], [0.5]]))
    assert 5 < result < 10


def test_undefined_scores_are_nan(make_task, sample):
    y, pred = sample("binary")
    assert np.isnan(score(make_task("binary", "roc_auc"), np.zeros_like(y), pred))
    y, pred = sample("multiclass")
    assert np.isnan(score(make_task("multiclass", "roc_auc"), y[y != 1], pred[y != 1]))
    y, pred = sample("regression")
    for name in ("pearson", "spearman"):
        assert np.isnan(score(make_task("regression", name), y, np.ones_like(pred)))
    assert np.isnan(score(make_task("regression", "r2"), np.ones_like(y), pred))


def test_constant_labels_score_zero_not_nan(make_task):
    y, pred = np.array([0, 1, 1]), np.zeros((3, 1))
    assert score(make_task("binary", "f1"), y, pred) == 0.0
    assert score(make_task("binary", "mcc"), y, pred) == 0.0


def test_threshold_moves_labels(make_task):
    task, y, pred = make_task("binary", "accuracy"), np.array([0, 1]), np.array([[0.2], [0.3]])
    assert score(task, y, pred) == 0.5
    assert score(task, y, pred, cut=0.25) == 1.0
    assert hard_labels("binary", pred, 0.25).tolist() == [0, 1]


def test_qwk_of_a_regression_rounds(make_task):
    y = np.array([[1.0], [2.0], [3.0], [3.0]])
    assert score(make_task("regression", "qwk"), y, y + 0.3) == 1.0
    expected = reference.cohen_kappa_score([1, 2, 3, 3], [2, 3, 4, 4], weights="quadratic")
    assert score(make_task("regression", "qwk"), y, y + 0.7) == pytest.approx(expected)


def test_unknown_metric_names_the_nearest():
    with pytest.raises(ConfigError, match="did you mean 'accuracy'"):
        get_metric("acuracy", "binary")


def test_metric_that_does_not_fit_lists_those_that_do():
    with pytest.raises(ConfigError, match=r"does not fit a regression task: use one of.*rmse"):
        get_metric("f1", "regression")
    with pytest.raises(ConfigError, match="f1_macro"):
        get_metric("f1", "multiclass")


def test_a_metric_is_added_as_one_function(make_task, sample):
    @metric("max_error", greater_is_better=False, needs="value", kinds=("regression",))
    def max_error(y: np.ndarray, pred: np.ndarray) -> float:
        return float(np.abs(y - pred).max())

    try:
        y, pred = sample("regression")
        expected = reference.max_error(y, pred)
        assert score(make_task("regression", "max_error"), y, pred) == pytest.approx(expected)
        with pytest.raises(ConfigError, match="registered twice"):
            metric("max_error", greater_is_better=True, needs="value", kinds=())(max_error)
    finally:
        del METRICS["max_error"]


def test_shapes_must_match(make_task):
    with pytest.raises(DataError, match="shape"):
        score(make_task("binary", "f1"), np.array([0, 1]), np.zeros((3, 1)))
    with pytest.raises(DataError, match="empty"):
        score(make_task("binary", "f1"), np.zeros(0, int), np.zeros((0, 1)))


def test_a_prediction_that_is_not_finite_scores_nan(make_task):
    assert np.isnan(score(make_task("binary", "f1"), np.array([0, 1]), np.array([[0.1], [np.nan]])))
