from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from oofline.data.competition import Competition
from oofline.errors import ConfigError, DataError

Read = Callable[..., Competition]
Write = Callable[..., None]
IDS = [1000, 1001, 1002]


def asking(*values: Any) -> dict[str, list[Any]]:
    return {"id": IDS, "target": list(values) if len(values) == 3 else [values[0]] * 3}


@pytest.mark.parametrize(
    ("values", "kind", "labels", "first"),
    [
        ([0, 1], "binary", ("0", "1"), [0, 1]),
        ([True, False], "binary", ("False", "True"), [1, 0]),
        (["Yes", "no"], "binary", ("no", "Yes"), [1, 0]),
        ([1, -1], "binary", ("-1", "1"), [1, 0]),
        ([10, 9, 2, 9], "multiclass", ("2", "9", "10"), [2, 1]),
        (["b", "a", "c", "a"], "multiclass", ("a", "b", "c"), [1, 0]),
        (["NA", "x", "y", "y"], "multiclass", ("NA", "x", "y"), [0, 1]),
    ],
)
def test_classes(
    read: Read, write: Write, values: list[Any], kind: str, labels: tuple[str, ...], first: list
) -> None:
    write(target=values * 10, sample=asking(values[0]))
    found = read()
    assert (found.task.kind, found.task.labels) == (kind, labels)
    assert found.y[:2].tolist() == first
    assert found.y.dtype == np.int64
    assert found.task.outputs == (labels if kind == "multiclass" else ("target",))


@pytest.mark.parametrize("values", [[i / 7 for i in range(60)], list(range(60))])
def test_regression(read: Read, write: Write, values: list[float]) -> None:
    write(target=values)
    found = read()
    assert found.task.kind == "regression"
    assert found.task.labels == ()
    assert found.y[:, 0].tolist() == pytest.approx(values, rel=1e-4)


def test_whole_numbers_are_unordered_unless_told(read: Read, write: Write) -> None:
    write(target=[1, 2, 3, 4] * 10)
    found = read()
    assert found.task.kind == "multiclass"
    assert any('"regression" if their order matters' in note for note in found.notes)
    assert read(task="regression").y[:3].tolist() == [[1.0], [2.0], [3.0]]


def test_equal_numbers_written_differently_are_one_class_in_the_form_of_the_sample(
    read: Read, write: Write
) -> None:
    write(target=["0.0", "1.0", "1"] * 10, sample=asking(0))
    found = read()
    assert found.task.labels == ("0", "1")
    assert found.y[:3].tolist() == [0, 1, 1]


@pytest.mark.parametrize(
    ("sample", "settings", "asks", "metric"),
    [
        (asking(0), {}, "label", "f1"),
        (asking(0.5), {}, "probability", "roc_auc"),
        (asking("0.0"), {}, "label", "f1"),
        (asking(0), {"metric": "roc_auc"}, "probability", "roc_auc"),
        (asking(0), {"metric": "log_loss"}, "probability", "log_loss"),
        (asking(0), {"submission_asks": "probability"}, "probability", "roc_auc"),
        (asking(0.5), {"submission_asks": "label"}, "label", "f1"),
        (asking(0), {"metric": "mcc"}, "label", "mcc"),
    ],
)
def test_labels_or_probabilities(
    read: Read, write: Write, sample: dict, settings: dict, asks: str, metric: str
) -> None:
    write(sample=sample)
    task = read(**settings).task
    assert (task.asks, task.metric) == (asks, metric)


def test_a_doubtful_sample_is_told(read: Read, write: Write) -> None:
    write(sample=asking("0.0"))
    assert any('submission_asks = "probability"' in note for note in read().notes)


def test_a_column_per_class(read: Read, write: Write) -> None:
    write(
        train={"target": ["b", "a", "c", "a"] * 10},
        sample={"id": IDS, "c": [0.3] * 3, "a": [0.3] * 3, "b": [0.4] * 3},
    )
    found = read()
    assert found.task.kind == "multiclass"
    assert found.task.targets == ("target",)
    assert found.task.labels == found.task.outputs == ("c", "a", "b")
    assert (found.task.asks, found.task.metric) == ("probability", "log_loss")
    assert found.y[:4].tolist() == [2, 1, 0, 1]
    with pytest.raises(ConfigError, match="column per class"):
        read(submission_asks="label")


@pytest.mark.parametrize("bad", ["", "nan", "inf", "-Infinity", "NULL"])
def test_missing_or_infinite_targets(read: Read, write: Write, bad: str) -> None:
    write(target=[0, 1, bad, bad] * 10)
    with pytest.raises(DataError, match=r'"target" is missing.*20 row\(s\), ids 2 '):
        read()


def test_an_empty_string_label(read: Read, write: Write) -> None:
    write(target=["x", "y", "", "y"] * 10)
    with pytest.raises(DataError, match=r"10 row\(s\), ids 2 \(empty\)"):
        read()


@pytest.mark.parametrize(
    ("target", "settings", "error", "message"),
    [
        ([1] * 20, {}, DataError, "only one value"),
        ([f"unlike {i}" for i in range(40)], {}, DataError, "40 distinct texts in 40 rows"),
        ([0, 1, 2] * 9, {"task": "binary"}, ConfigError, "3 distinct values"),
        ([i / 3 for i in range(40)], {"task": "multiclass"}, ConfigError, "40 distinct values"),
        (["a", "b"] * 9, {"task": "regression"}, DataError, "not a number in 18 row"),
        ([0.1, 0.2, 0.4], {"submission_asks": "label"}, ConfigError, "is for classes"),
        (["a", "b", "c"] * 9, {"submission_asks": "probability"}, ConfigError, "column per class"),
    ],
)
def test_refused(
    read: Read, write: Write, target: list, settings: dict, error: type, message: str
) -> None:
    write(target=target)
    with pytest.raises(error, match=message):
        read(**settings)


@pytest.mark.parametrize("task", ["multilabel", "multi-target"])
def test_several_targets_need_several_columns(read: Read, write: Write, task: str) -> None:
    write()
    with pytest.raises(ConfigError, match=r"has several targets.*asks for target"):
        read(task=task)


BOTH = asking(0.5) | {"other": [0.5] * 3}


@pytest.mark.parametrize(
    ("second", "kind", "metric", "asks"),
    [([0, 1] * 20, "multilabel", "roc_auc", "probability"),
     ([0.5, 2] * 20, "multi-target", "mcrmse", "value")],
)  # fmt: skip
def test_several_targets(
    read: Read, write: Write, second: list, kind: str, metric: str, asks: str
) -> None:
    write(train={"other": second}, sample=BOTH)
    found = read()
    assert (found.task.kind, found.task.metric, found.task.asks) == (kind, metric, asks)
    assert found.task.targets == found.task.outputs == ("target", "other")
    assert found.y[:2].tolist() == [[0, second[0]], [1, second[1]]]
    assert found.y.dtype == (np.int64 if kind == "multilabel" else np.float64)
    assert any("2 targets: target, other" in note for note in found.notes)
    with pytest.raises(ConfigError, match=r"target_col names one target.*target, other"):
        read(target_col="other")
    with pytest.raises(ConfigError, match='task = "binary" has one target'):
        read(task="binary")


def test_what_several_labels_ask_for(read: Read, write: Write) -> None:
    write(train={"other": [0, 1] * 20}, sample=asking(0) | {"other": [1] * 3})
    found = read()
    assert found.task.asks == "probability"
    assert any('submission_asks = "label"' in note for note in found.notes)
    assert (read(submission_asks="label").task.metric) == "f1_macro"
    assert read(metric="f1_micro").task.asks == "label"
    assert read(task="multi-target").task.kind == "multi-target"


@pytest.mark.parametrize(
    ("second", "error", "message"),
    [(["a", "b"] * 20, DataError, '"other" holds no numbers'),
     ([0.5, ""] * 20, DataError, '"other" is missing.*20 row'),
     ([2.5] * 40, DataError, '"other" has only one value')],
)  # fmt: skip
def test_several_targets_refused(
    read: Read, write: Write, second: list, error: type, message: str
) -> None:
    write(train={"other": second}, sample=BOTH)
    with pytest.raises(error, match=message):
        read()


def test_a_label_that_nobody_has_is_told(read: Read, write: Write) -> None:
    write(train={"other": [0] * 40}, sample=BOTH)
    assert any("one value only in train, left out of AUC: other" in n for n in read().notes)


def test_weights_of_targets_need_several(read: Read, write: Write) -> None:
    write()
    with pytest.raises(ConfigError, match="there is one: target"):
        read(target_weights="target=2")


def test_steps_of_a_scale(read: Read, write: Write) -> None:
    write(target=[3, 1, 2, 5] * 10, sample=asking(1))
    found = read(metric="qwk", ordinal="ordinal")
    assert (found.task.kind, found.task.asks) == ("ordinal", "label")
    assert found.task.labels == ("1", "2", "3", "5")
    assert found.y[:4].tolist() == [2, 0, 1, 3]
    assert (found.task.link, found.task.n_logits, found.task.n_outputs) == ("corn", 3, 1)
    assert read(task="ordinal").task.metric == "qwk"
    with pytest.raises(ConfigError, match="is for a scale, but the task is multiclass"):
        read(task="multiclass", ordinal="classes")


def test_a_sample_that_asks_for_something_else(read: Read, write: Write) -> None:
    write(sample={"id": IDS, "score": [0] * 3, "other": [0] * 3})
    with pytest.raises(DataError, match="score, other are not in train"):
        read()
    write(sample={"id": IDS})
    with pytest.raises(DataError, match="no column besides the id"):
        read()


def test_a_target_of_another_name_than_in_the_sample(read: Read, write: Write) -> None:
    write(sample={"id": IDS, "prediction": [0.5] * 3})
    found = read()
    assert (found.task.targets, found.task.outputs) == (("target",), ("target",))
    assert (found.task.kind, found.task.asks) == ("binary", "probability")
    assert found.y[:3].tolist() == [0, 1, 0]
    expected = "target: target (the only train column that test lacks), submitted as sample"
    assert any(expected in note for note in found.notes)


def test_several_columns_that_test_lacks_need_target_col(read: Read, write: Write) -> None:
    write(train={"annotator": [1, 2] * 20}, sample={"id": IDS, "prediction": [0] * 3})
    with pytest.raises(DataError, match=r"2 columns \(target, annotator\).*set target_col"):
        read()
    assert read(group_col="annotator").task.targets == ("target",)
    found = read(target_col="target")
    assert found.task.targets == ("target",)
    assert any("target_col is set" in note for note in found.notes)
    assert read(target_col="annotator").task.labels == ("1", "2")


def test_no_column_that_test_lacks(read: Read, write: Write) -> None:
    write(test={"target": [1] * 3}, sample={"id": IDS, "prediction": [0] * 3})
    with pytest.raises(DataError, match="train has no column that test lacks: set target_col"):
        read()
    assert read(target_col="target").task.targets == ("target",)


def test_target_col_comes_before_the_samples_column(read: Read, write: Write) -> None:
    write(train={"stars": [1.5, 2.5, 4.0, 3.5] * 10})
    assert read().task.targets == ("target",)
    assert read(target_col="target").notes == read().notes
    found = read(target_col="stars")
    assert (found.task.targets, found.task.kind) == (("stars",), "regression")


def test_target_col_picks_one_of_the_samples_columns(read: Read, write: Write) -> None:
    write(sample={"id": IDS, "usage": ["public"] * 3, "target": [0] * 3})
    with pytest.raises(DataError, match="usage are not in train"):
        read()
    assert read(target_col="target").task.targets == ("target",)


def test_target_col_names_the_holder_of_the_classes(read: Read, write: Write) -> None:
    classes = ["b", "a", "c", "a"] * 10
    write(
        train={"target": classes, "copy": classes},
        sample={"id": IDS, "a": [0.3] * 3, "b": [0.3] * 3, "c": [0.4] * 3},
    )
    with pytest.raises(DataError, match="exactly one train column"):
        read()
    assert read(target_col="copy").task.targets == ("copy",)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("targte", 'target_col: column "targte" is not in train.*"target"'),
        ("id", "is the id column"),
    ],
)
def test_a_target_col_that_cannot_be(read: Read, write: Write, name: str, message: str) -> None:
    write()
    with pytest.raises(ConfigError, match=message):
        read(target_col=name)
