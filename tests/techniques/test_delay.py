import pytest

from oofline.config import CFG
from oofline.errors import ConfigError
from oofline.results import Task
from oofline.techniques.delay import Delay

F1 = Task("binary", ("y",), ("0", "1"), ("y",), "f1", "label")
RMSE = Task("regression", ("y",), (), ("y",), "rmse", "value")
NAN = float("nan")


def acting(delay, epochs, scores=()):
    """Epochs in which it acts; an epoch sees the scores of the epochs before it."""
    return [epoch for epoch in range(epochs) if delay.over(epoch, list(scores[:epoch]))]


@pytest.mark.parametrize(("last", "wanted"), [(1, [3]), (3, [1, 2, 3]), (4, [0, 1, 2, 3])])
def test_the_last_epochs(last, wanted):
    delay = Delay.from_cfg(CFG(epochs=4, awp_last_epochs=last), F1, "awp")
    assert acting(delay, 4) == wanted


def test_a_start_epoch_counter_that_never_advances_would_be_caught():
    class Counting:
        """As published: an epoch of its own, which nothing moves on."""

        epoch, start_epoch = 0, 3

        def over(self, epoch, scores):
            return self.epoch >= self.start_epoch

    assert acting(Counting(), 4) != [3]
    assert acting(Delay("awp", 4, 1, None, True), 4) == [3]


@pytest.mark.parametrize(
    ("task", "start", "scores", "wanted"),
    [
        (F1, 0.8, [0.7, 0.8, 0.6], [2, 3]),  # greater is better; stays on once it was reached
        (F1, 0.8, [0.79, NAN, 0.7], []),
        (RMSE, 0.5, [0.6, 0.5, 0.7], [2, 3]),  # lower is better
        (RMSE, 0.5, [NAN, 0.6, 0.51], []),
    ],
)
def test_a_score_starts_it_in_the_metrics_direction(task, start, scores, wanted):
    delay = Delay.from_cfg(CFG(epochs=4, fgm_eps=1.0, fgm_start_score=start), task, "fgm")
    assert acting(delay, 4, scores) == wanted


def test_comparing_upwards_for_every_metric_would_be_caught():
    faulty = Delay("fgm", 4, 0, 0.5, greater_is_better=True)
    assert acting(faulty, 4, [0.6, 0.5, 0.7]) == [1, 2, 3]  # a bad rmse "reaches" 0.5 at once


def test_both_given_whichever_comes_first():
    delay = Delay("awp", 4, 1, 0.8, True)
    assert acting(delay, 4, [0.9, 0.1, 0.1]) == [1, 2, 3]
    assert acting(delay, 4, [0.1, 0.1, 0.1]) == [3]


def test_neither_given_always():
    assert acting(Delay.from_cfg(CFG(fgm_eps=1.0), F1, "fgm"), 3) == [0, 1, 2]


def test_what_to_change_when_it_never_acted():
    assert "never reached awp_start_score = 0.9: lower it or set awp_last_epochs" in (
        Delay("awp", 4, 0, 0.9, True).missed()
    )
    assert "fgm_start_score = 0.2: raise it" in Delay("fgm", 4, 0, 0.2, False).missed()
    assert "last 2 epochs: raise awp_last_epochs or patience" in (
        Delay("awp", 4, 2, 0.9, True).missed()
    )


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"awp_last_epochs": 4}, "there are 3 epochs"),
        ({"awp_start_score": NAN}, "can never be reached"),
        ({"fgm_eps": 1.0, "fgm_start_score": float("inf")}, "can never be reached"),
        ({"awp_start_score": 0.8, "epochs": 1}, "only evaluation is at the end"),
        ({"awp_start_score": 0.8, "evals_per_epoch": 0.3}, "raise evals_per_epoch"),
    ],
)
def test_a_delay_that_can_never_end_is_refused(settings, words):
    with pytest.raises(ConfigError, match=words):
        CFG(**settings)
