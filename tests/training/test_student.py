"""Soft labels: the same as hard ones where they are sure, and the expected loss where not."""

import numpy as np
import pytest
import torch

from oofline.config import CFG
from oofline.errors import ConfigError
from oofline.models.losses import Loss
from oofline.results import Task
from oofline.training.pseudo import refuse_other_links
from oofline.training.student import StudentLoss, soft_labels, soft_predictions

BINARY = Task("binary", ("y",), ("0", "1"), ("y",), "f1", "label")
CLASSES = Task("multiclass", ("y",), ("a", "b", "c"), ("a", "b", "c"), "accuracy", "label")
LABELS = Task("multilabel", ("y", "z"), ("0", "1"), ("y", "z"), "roc_auc", "probability")
VALUES = Task("multi-target", ("y", "z"), (), ("y", "z"), "mcrmse", "value")
STEPS = Task("ordinal", ("y",), ("1", "2", "5"), ("y",), "qwk", "label", "classes")
CORN = Task("ordinal", ("y",), ("1", "2", "5"), ("y",), "qwk", "label", "ordinal")
CASES = {
    "bce": (BINARY, "bce", torch.tensor([0, 1, 1, 0]), 1, torch.tensor([0.4, 2.0])),
    "cross_entropy": (CLASSES, "cross_entropy", torch.tensor([0, 2, 1, 1]), 3,
                      torch.tensor([0.4, 2.0, 1.0])),
    "several labels": (LABELS, "bce", torch.tensor([[0, 1], [1, 1], [0, 0], [1, 0]]), 2,
                       torch.tensor([0.4, 2.0, 0.9, 1.3])),
    "steps": (STEPS, "cross_entropy", torch.tensor([0, 2, 1, 1]), 3, torch.tensor([0.4, 2.0, 1.0])),
    "corn": (CORN, "corn", torch.tensor([0, 2, 1, 1]), 2, torch.tensor([0.4, 2.0, 1.0])),
}  # fmt: skip


@pytest.fixture(params=CASES)
def case(request):
    task, name, labels, width, weights = CASES[request.param]
    logits = torch.randn(2, 4, width, generator=torch.Generator().manual_seed(3))
    return task, name, labels, logits, weights


@pytest.mark.parametrize("weighted", [False, True])
def test_a_sure_soft_label_costs_what_the_hard_one_does(case, weighted):
    task, name, labels, logits, weights = case
    loss = Loss(name, weights=weights if weighted else None)
    soft = loss(logits, soft_labels(task, labels))
    torch.testing.assert_close(soft, loss(logits, labels))


def test_label_smoothing_acts_on_soft_labels_as_on_hard_ones(case):
    task, name, labels, logits, _ = case
    if name != "corn":
        loss = Loss(name, smoothing=0.2)
        torch.testing.assert_close(loss(logits, soft_labels(task, labels)), loss(logits, labels))


def test_an_unsure_label_costs_the_expected_loss(case):
    task, name, labels, logits, _ = case
    other = labels.flip(0)
    loss, share = Loss(name), 0.3
    mixed = share * soft_labels(task, labels) + (1 - share) * soft_labels(task, other)
    expected = share * loss(logits, labels) + (1 - share) * loss(logits, other)
    torch.testing.assert_close(loss(logits, mixed), expected)


@pytest.mark.parametrize("weight", [0.25, 1.0, 3.0])
def test_pseudo_rows_weigh_what_is_asked_and_micro_batches_add_up(case, weight):
    task, name, labels, logits, _ = case
    mark = torch.tensor([[0.0], [1.0], [0.0], [1.0]])
    both = torch.cat([soft_labels(task, labels), mark], dim=1)
    loss = Loss(name)
    rows = torch.stack([loss(logits[:, i : i + 1], labels[i : i + 1]) for i in range(4)])
    expected = (rows * torch.where(mark[:, 0] > 0, weight, 1.0)).mean()
    student = StudentLoss(loss, weight)
    torch.testing.assert_close(student(logits, both), expected)
    parts = [student(logits[:, i : i + 2], both[i : i + 2]) / 2 for i in (0, 2)]
    torch.testing.assert_close(parts[0] + parts[1], expected)


class Standardised:
    def encode(self, y):
        return ((y - 3.0) / 2.0).astype(np.float32)


def test_values_are_standardised_as_the_students_own():
    pred = np.array([[5.0, 1.0]])
    assert soft_predictions(VALUES, Standardised(), pred).tolist() == [[1.0, -1.0]]
    y = torch.tensor([[0.5, -2.0]])
    assert soft_labels(VALUES, y).equal(y)


def test_a_position_on_a_scale_keeps_its_mean():
    pred = np.array([[0.0], [0.25], [1.5], [2.0], [2.2]])
    found = soft_predictions(CORN, None, pred)
    torch.testing.assert_close(found[:, 1] + 2 * found[:, 2], torch.tensor([0, 0.25, 1.5, 2, 2]))
    assert found.sum(1).tolist() == [1.0] * 5
    torch.testing.assert_close(found[1], torch.tensor([0.75, 0.25, 0.0]))


def test_settings_that_cannot_act_are_refused():
    for settings in ({"pseudo_weight": 0.5}, {"pseudo_threshold": 0.9}, {"pseudo": "a/b"}):
        with pytest.raises(ConfigError, match="pseudo"):
            CFG(**settings)


def test_predictions_that_are_no_labels_are_refused():
    class Spans:
        kind, link = "spans", "span"

    with pytest.raises(ConfigError, match="no soft pseudo-labels for spans"):
        refuse_other_links(Spans())
    for task in (BINARY, CLASSES, LABELS, VALUES, STEPS, CORN):
        refuse_other_links(task)
