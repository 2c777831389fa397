"""The table of kinds holds together, and each kind works by it."""

import pytest

from oofline.report.tasks import tasks_markdown
from oofline.results import Task
from oofline.scoring.metrics import get_metric
from oofline.tasks import KINDS, LOSSES, ORDINAL_LINKS


@pytest.mark.parametrize("kind", KINDS)
def test_default_metrics_fit_their_kind(kind):
    for asks, name in KINDS[kind].metrics.items():
        found = get_metric(name, kind)
        assert found.needs == asks


def test_every_link_has_losses_and_is_used():
    used = {facts.link for facts in KINDS.values()} | set(ORDINAL_LINKS.values())
    assert used == set(LOSSES)
    assert all(LOSSES.values())


@pytest.mark.parametrize(("form", "n_logits"), [("regression", 1), ("classes", 4), ("ordinal", 3)])
def test_a_scale_has_one_prediction_in_every_form(form, n_logits):
    task = Task("ordinal", ("y",), tuple("1234"), ("y",), "qwk", "label", form)
    assert (task.n_outputs, task.n_logits) == (1, n_logits)


def test_one_of_several_targets():
    task = Task("multi-target", ("a", "b"), (), ("a", "b"), "mcrmse", "value")
    assert task.several
    assert task.one(1).targets == task.one(1).outputs == ("b",)
    assert not task.one(1).several
    assert not Task("multiclass", ("y",), ("a", "b"), ("a", "b"), "accuracy", "label").several


def test_the_readme_table_has_every_kind():
    table = tasks_markdown()
    for kind, facts in KINDS.items():
        assert f"| {kind} | {facts.recognised} |" in table
        assert facts.folds in table
