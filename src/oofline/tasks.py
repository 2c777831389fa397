"""Kinds of task as data: how each is recognised, trained, split and scored.

What the rest of the code does for a kind it reads here, so that another kind is another entry.
"""

from dataclasses import dataclass
from typing import Literal

Kind = Literal[
    "binary", "multiclass", "multilabel", "regression", "multi-target", "ordinal", "qa",
]  # fmt: skip
Asks = Literal["label", "probability", "value", "answer"]
Truth = Literal["class", "labels", "values", "answer"]
Link = Literal["sigmoid", "softmax", "identity", "expected", "corn", "span"]
OrdinalForm = Literal["regression", "classes", "ordinal"]

LOSSES: dict[Link, tuple[str, ...]] = {
    "sigmoid": ("bce",),
    "softmax": ("cross_entropy",),
    "identity": ("mse", "huber", "rmse"),
    "expected": ("cross_entropy",),
    "corn": ("corn",),
    "span": ("cross_entropy",),
}
"""Losses that fit what the logits mean; the first is the default.

Links: "sigmoid" is a probability per logit, "softmax" one per class, "identity" a (standardised)
value, "expected" the mean position on the scale under a softmax over its steps, "corn" the same
under conditional probabilities of going one step further, "span" a start and an end under a softmax
over the tokens of a context each.
"""
ORDINAL_LINKS: dict[OrdinalForm, Link] = {
    "regression": "identity",
    "classes": "expected",
    "ordinal": "corn",
}
"""``CFG.ordinal`` -> what the logits of an ordinal task are."""


@dataclass(frozen=True)
class TaskKind:
    """What is the same for all tasks of a kind.

    Attributes:
        recognised: how it is told from the files, for the README.
        truth: what y is: "class" (n,) int64 index, "labels" (n, T) int64 of 0 and 1, "values"
            (n, T) float64, "answer" (n,) `oofline.results.Answer` objects.
        link: how logits become predictions (see `LOSSES`).
        folds: fold scheme by default.
        grouped_folds: the same with groups.
        metrics: what the submission asks for -> metric by default.
        outputs: names of the prediction columns; empty: the targets, or the classes.
        beside: further metrics that scores show.
    """

    recognised: str
    truth: Truth
    link: Link
    folds: str
    grouped_folds: str
    metrics: dict[Asks, str]
    outputs: tuple[str, ...] = ()
    beside: tuple[str, ...] = ()


KINDS: dict[Kind, TaskKind] = {
    "binary": TaskKind(
        "one target with two values",
        "class", "sigmoid", "stratified", "stratified-group",
        {"label": "f1", "probability": "roc_auc"},
    ),
    "multiclass": TaskKind(
        "one target with several texts or up to 50 whole numbers, or a sample column per class",
        "class", "softmax", "stratified", "stratified-group",
        {"label": "accuracy", "probability": "log_loss"},
    ),
    "multilabel": TaskKind(
        "several sample columns that are 0/1 columns of train",
        "labels", "sigmoid", "multilabel-stratified", "group",
        {"probability": "roc_auc", "label": "f1_macro"},
    ),
    "regression": TaskKind(
        "one target with fractions or many numbers",
        "values", "identity", "binned", "group", {"value": "rmse"},
    ),
    "multi-target": TaskKind(
        "several sample columns that are numeric columns of train",
        "values", "identity", "multilabel-stratified", "group", {"value": "mcrmse"},
    ),
    "ordinal": TaskKind(
        'whole numbers with `metric = "qwk"`, or `task = "ordinal"`',
        "class", "identity", "stratified", "stratified-group", {"label": "qwk"},
    ),
    "qa": TaskKind(
        "a text column of train whose answers stand word for word in a column of train and test",
        "answer", "span", "kfold", "group", {"answer": "answer_f1"}, ("start", "end"),
        ("exact_match",),
    ),
}  # fmt: skip
"""Every kind of target. A sentence pair is a kind of input and goes with each of them."""

PAIR = "two text-like columns that train and test share"
"""How a sentence pair is recognised, for the README."""


def kinds_of(*truths: Truth) -> tuple[Kind, ...]:
    """The kinds whose truth is one of these, ordinal left out: its predictions are positions."""
    return tuple(k for k, facts in KINDS.items() if facts.truth in truths and k != "ordinal")
