from typing import Any

import numpy as np
import pandas as pd
import pytest

from oofline.config import CFG
from oofline.data.kinds import VALUE_METRICS, decide_kind
from oofline.errors import ConfigError
from oofline.scoring.metrics import METRICS

STARS = [1, 2, 3, 4, 5] * 8


def kind_of(values: list[Any], asked: list[Any], **settings: Any) -> tuple[str, str]:
    texts = pd.Series([str(value) for value in values], dtype="str")
    samples = pd.Series([str(value) for value in asked], dtype="str")
    numbers = pd.to_numeric(texts, errors="coerce").to_numpy(dtype=np.float64)
    known = numbers if np.isfinite(numbers).all() else None
    return decide_kind(CFG(**settings), "stars", texts, known, samples)


def test_value_metrics_are_those_that_fit_nothing_but_regression() -> None:
    values = {"regression", "multi-target"}
    only = {name for name, metric in METRICS.items() if set(metric.kinds) == values}
    assert only == VALUE_METRICS


@pytest.mark.parametrize(
    ("asked", "settings", "kind"),
    [
        ([3, 3], {}, "multiclass"),
        (["3.0"], {}, "multiclass"),
        ([0], {}, "multiclass"),
        (["", "nan"], {}, "multiclass"),
        ([2.75, 2.75], {}, "regression"),
        ([3, 2.75], {}, "regression"),
        ([2.75], {"submission_asks": "label"}, "multiclass"),
        ([2.75], {"task": "multiclass"}, "multiclass"),
        ([3], {"task": "regression"}, "regression"),
        ([3], {"metric": "qwk"}, "ordinal"),
        ([3], {"metric": "qwk", "task": "multiclass"}, "multiclass"),
        ([3], {"metric": "qwk", "task": "regression"}, "regression"),
        ([3], {"task": "ordinal"}, "ordinal"),
        ([3], {"metric": "accuracy"}, "multiclass"),
        *[([3], {"metric": name}, "regression") for name in sorted(VALUE_METRICS)],
        ([3], {"metric": "rmse", "task": "multiclass"}, "multiclass"),
    ],
)
def test_ordered_whole_numbers(asked: list[Any], settings: dict[str, Any], kind: str) -> None:
    assert kind_of(STARS, asked, **settings)[0] == kind


def test_the_reason_is_told() -> None:
    assert (
        "sample_submission holds 2.75, which is no label of stars" in kind_of(STARS, [3, 2.75])[1]
    )
    assert kind_of(STARS, [3], metric="mae")[1] == "metric mae scores values"
    assert 'set task = "ordinal" or "regression" if their order matters' in kind_of(STARS, [3])[1]


def test_two_values_are_classes_unless_a_value_metric_is_set() -> None:
    assert kind_of([0, 1] * 20, [0.5])[0] == "binary"
    assert kind_of([0, 1] * 20, [0.5], metric="rmse")[0] == "regression"


def test_texts_are_classes_whatever_the_metric() -> None:
    assert kind_of(["a", "b", "c"] * 9, [0.5], metric="rmse")[0] == "multiclass"


@pytest.mark.parametrize("values", [[1.5, 2, 3] * 9, list(range(60)), ["low", "mid", "high"] * 9])
def test_a_scale_needs_a_few_whole_numbers(values: list[Any]) -> None:
    with pytest.raises(ConfigError, match='"ordinal" needs up to 50 whole numbers'):
        kind_of(values, [1], task="ordinal")


def test_quadratic_kappa_of_two_or_of_many_values_is_no_scale() -> None:
    assert kind_of([0, 1] * 20, [0], metric="qwk")[0] == "binary"
    assert kind_of(list(range(60)), [0], metric="qwk")[0] == "regression"
