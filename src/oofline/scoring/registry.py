"""The registry of metrics: what a metric is, and the decorator that adds one."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import numpy as np

from oofline.errors import ConfigError
from oofline.tasks import Kind, kinds_of

Needs = Literal["label", "probability", "value", "answer"]
MetricFunction = Callable[[np.ndarray, np.ndarray], float]

CLASSES: tuple[Kind, ...] = kinds_of("class")
REGRESSION: tuple[Kind, ...] = kinds_of("values")
LABELS: tuple[Kind, ...] = kinds_of("labels")
ORDINAL: tuple[Kind, ...] = ("ordinal",)
ANSWERS: tuple[Kind, ...] = kinds_of("answer")


@dataclass(frozen=True)
class Metric:
    """One registered metric.

    Attributes:
        name: how CFG and `Task.metric` call it.
        function: ``(y, pred) -> float``; y (n,) int64, (n, T) int64 of 0 and 1 (multilabel) or
            (n, T) float64; pred has the shape of y and is int64 labels where ``needs`` is
            "label", else (n, T) float64. "answer": y (n,) `Answer` and pred (n,) str objects.
        greater_is_better: direction.
        needs: "label", "probability", "value" or "answer": what ``function`` takes as pred.
        kinds: task kinds that it fits.
        thresholded: for binary tasks the decision threshold is tuned (and cross-fitted) on it;
            for multilabel and ordinal tasks cut points are, for every metric of labels.
        by_row: ``(y, pred) -> (n,)`` where the score is the mean over rows of these: then rows are
            scored once and drawn thousands of times.
    """

    name: str
    function: MetricFunction
    greater_is_better: bool
    needs: Needs
    kinds: tuple[Kind, ...]
    thresholded: bool = False
    by_row: Callable[[np.ndarray, np.ndarray], np.ndarray] | None = None

    def of_rows(self, y: np.ndarray, pred: np.ndarray) -> Callable[[np.ndarray], float]:
        """``rows -> score`` of the rows given, by the values of single rows where there are any."""
        if self.by_row is None:
            return lambda rows: self.function(y[rows], pred[rows])
        values = self.by_row(y, pred)
        return lambda rows: float(values[rows].mean())

    @property
    def sign(self) -> float:
        """1.0 where greater is better, -1.0 where lower is: ``sign * score`` always grows."""
        return 1.0 if self.greater_is_better else -1.0


METRICS: dict[str, Metric] = {}
"""Every metric by its name."""


def metric(
    name: str,
    *,
    greater_is_better: bool,
    needs: Needs,
    kinds: tuple[Kind, ...],
    thresholded: bool = False,
    by_row: Callable[[np.ndarray, np.ndarray], np.ndarray] | None = None,
) -> Callable[[MetricFunction], MetricFunction]:
    """Register the decorated function ``(y, pred) -> float`` as a metric (see `Metric`).

    Raises:
        ConfigError: the name is taken.
    """

    def register(function: MetricFunction) -> MetricFunction:
        """Put the metric into the table and give it back."""
        if name in METRICS:
            raise ConfigError(f"metric {name!r} is registered twice: choose another name")
        facts = (greater_is_better, needs, kinds, thresholded, by_row)
        METRICS[name] = Metric(name, function, *facts)
        return function

    return register
