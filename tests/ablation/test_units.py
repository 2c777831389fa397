"""A unit in a process of its own: its memory, its failure, its end; and what counts as chance."""

import multiprocessing
import os
import resource
import signal
import sys

import numpy as np
import pytest

from oofline.ablation import units
from oofline.ablation.contrast import decided
from oofline.ablation.units import at_chance, chance_score, read_runs, train_apart
from oofline.blocks import blank
from oofline.errors import ConfigError, DataError, OoflineError, Stopped
from oofline.progress import bar, say
from oofline.results import Answer, Task
from oofline.scoring.decisions import cross_fitted_decision
from oofline.storage import read_json
from oofline.training.guard import Guard


@pytest.fixture
def forked(monkeypatch):
    """forked(function): units call it, in a child that knows the test's patches."""
    if sys.platform != "linux":
        pytest.skip("needs fork")
    context = multiprocessing.get_context("fork")

    def use(function):
        monkeypatch.setattr(units.multiprocessing, "get_context", lambda kind: context)
        monkeypatch.setattr(units, "_do", lambda cfg, paths, unit, device: function(cfg))

    return use


@pytest.fixture
def unit(write_competition, load_settings):
    """unit(guard, **settings) -> what train_apart says of seed 7, fold 1."""
    paths = write_competition()
    said = []

    def run(guard=None, **settings):
        cfg = load_settings(paths, epochs=1, **settings)
        log = paths.output / "workers" / "unit.log"
        said.clear()
        tell = lambda *message: said.append(message)  # noqa: E731
        return train_apart(cfg, paths, (7, 1), guard or Guard(), "cpu", log, tell), paths

    run.said = said
    return run


def fail(error):
    raise error


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_a_units_memory_is_its_own(unit):
    ballast = b"x" * 800_000_000
    problem, paths = unit()
    assert problem is None
    scores = read_json(paths.fold("base", 7, 1) / "scores.json")
    del ballast
    here = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / 1e6
    assert 100 < scores["peak_memory_mb"] < here - 300
    inherited = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss * 1024 / 1e6
    assert inherited > here - 100  # the faulty form: what a child that was started says of itself


@pytest.mark.parametrize("error", [OoflineError("the loss is nan"), ConfigError("no effect")])
def test_a_failure_comes_back_as_one_line(forked, unit, error):
    forked(lambda cfg: fail(error))
    assert unit()[0] == str(error)


def test_a_killed_process_is_a_failed_unit(forked, unit):
    forked(lambda cfg: os.kill(os.getpid(), signal.SIGKILL))
    assert unit()[0] == "its process was killed by signal 9 (out of memory?)"


def test_a_bug_is_no_failed_unit(forked, unit, capfd):
    forked(lambda cfg: 1 / 0)
    with pytest.raises(
        RuntimeError, match=r"(?s)^seed 7 fold 1 of base \(log: .*ZeroDivisionError"
    ):
        unit()
    assert capfd.readouterr() == ("", "")


def test_lines_and_bars_come_back_and_the_log_keeps_all(forked, unit, tmp_path, capfd):
    def work(cfg):
        say("resumed at step 3")
        os.write(2, b"a library wrote this\n")
        with bar("seed 7 fold 1", 4) as line:
            line.advance(4, f1=0.5)

    forked(work)
    problem, paths = unit()
    assert problem is None
    assert unit.said == [
        ("say", "resumed at step 3"), ("bar", "seed 7 fold 1", 4, 4, "f1 0.5")
    ]  # fmt: skip
    log = (paths.output / "workers" / "unit.log").read_text()
    assert "resumed at step 3" in log
    assert "a library wrote this" in log
    assert capfd.readouterr() == ("", "")


def test_a_stop_and_its_exit_code_come_back(forked, unit):
    forked(lambda cfg: fail(Stopped("interrupted", 130)))
    with pytest.raises(Stopped) as stop:
        unit()
    assert (str(stop.value), stop.value.exit_code) == ("interrupted", 130)


def test_a_request_to_stop_is_passed_on_once(forked, unit):
    def wait(cfg):
        with Guard().signals():  # a second SIGTERM would kill
            signal.sigtimedwait([signal.SIGUSR1], 1.5)
        fail(Stopped("saved", 130))

    guard = Guard()
    guard.interrupted = True
    forked(wait)
    with pytest.raises(Stopped):
        unit(guard)


def test_what_is_left_of_the_time_limit_is_the_units(forked, unit, monkeypatch):
    forked(lambda cfg: fail(OoflineError(f"{cfg.time_limit_hours:.3f}")))
    monkeypatch.setattr(Guard, "seconds_left", lambda self: 900.0)
    assert unit(time_limit_hours=2.0)[0] == "0.250"
    assert unit()[0] == "0.000"


def test_predictions_are_joined_by_id(fabricate):
    paths, _, competition, fold = fabricate({"base": (0.5, {})}, seeds=(4, 2), folds=(0, 2))
    ids, task = competition.train_ids, competition.task
    runs = read_runs(paths, "ablation-base", task, ids, fold, [(4, 0), (4, 1), (4, 2), (2, 0)])
    assert runs.pred.shape == (2, 90, 1)
    np.testing.assert_array_equal(runs.there, [fold != 1, fold == 0])
    error = np.abs(runs.pred - competition.y)[runs.there]
    assert error.max() < 3  # the files' rows are shuffled: a join by position would miss by far
    assert 0.3 < error.std() < 0.6
    moved = np.where(np.arange(90) == np.flatnonzero(fold == 0)[0], 2, fold)
    with pytest.raises(DataError, match=r"folds.csv changed since"):
        read_runs(paths, "ablation-base", task, ids, moved, [(4, 0)])


def test_the_best_constant_is_found_on_the_training_rows(task):
    y, valid = np.array([0, 0, 0, 1, 1]), np.array([0, 1, 1, 1])
    assert chance_score(task("binary", "accuracy"), y, valid) == 0.25
    assert chance_score(task("binary", "f1"), y, valid) == pytest.approx(2 * 3 / 7)  # all positive
    assert chance_score(task("binary", "mcc"), y, valid) == 0.0
    assert chance_score(task("binary", "roc_auc"), y, valid) == 0.5
    wanted = -(np.log(0.6) + 3 * np.log(0.4)) / 4
    assert chance_score(task("binary", "log_loss"), y, valid) == pytest.approx(wanted)
    classes = np.array([2, 2, 1, 0])
    assert chance_score(task("multiclass", "accuracy"), classes, np.array([2, 0, 1])) == 1 / 3
    values, held = np.array([[1.0], [3.0]]), np.array([[0.0], [4.0]])
    assert chance_score(task("regression", "rmse"), values, held) == 2.0
    assert chance_score(task("regression", "spearman"), values, held) == 0.0


def test_chance_of_several_targets_and_of_scales(task):
    y, valid = np.array([[1, 0], [1, 0], [0, 1]]), np.array([[1, 1], [0, 0]])
    assert chance_score(task("multilabel", "roc_auc"), y, valid) == 0.5
    assert chance_score(task("multilabel", "f1_macro"), y, valid) == pytest.approx(2 / 3)
    shares = np.array([[2 / 3, 1 / 3]] * 2)
    wanted = -np.log(np.where(valid == 1, shares, 1 - shares)).mean()
    assert chance_score(task("multilabel", "log_loss"), y, valid) == pytest.approx(wanted)
    values, held = np.array([[1.0, 0.0], [3.0, 2.0]]), np.array([[0.0, 1.0], [4.0, 1.0]])
    assert chance_score(task("multi-target", "mcrmse"), values, held) == 1.0
    steps = np.array([0, 2, 2, 1])
    assert chance_score(task("ordinal", "accuracy"), steps, np.array([2, 0, 2])) == 2 / 3
    assert chance_score(task("ordinal", "qwk"), steps, np.array([2, 0, 2])) == 0.0


def test_a_model_that_learnt_nothing_is_at_chance(task):
    rng, kind = np.random.default_rng(0), task("binary", "f1")
    y = rng.integers(0, 2, 300)
    train, valid = y[:200], y[200:]
    for p in (0.1, 0.9):  # whichever side of 0.5 it fell on
        inputs = cross_fitted_decision(kind, y, np.full((300, 1), p), np.arange(300) % 3).inputs
        assert at_chance(kind, train, valid, inputs[200:])
    assert not at_chance(kind, train, valid, valid)
    assert at_chance(task("regression", "rmse"), train[:, None], valid[:, None],
                     np.full((100, 1), train.mean()))  # fmt: skip
    undefined = np.zeros(50, dtype=np.int64)  # ROC AUC with one class says nothing
    assert not at_chance(task("binary", "roc_auc"), train, undefined, np.full((50, 1), 0.5))


def test_chance_of_answers_is_the_whole_context():
    y = np.array([Answer("red and blue", "red", 0), Answer("one two", "two", 4)], dtype=object)
    task = Task("qa", ("y",), (), ("start", "end"), "answer_f1", "answer", longest=9)
    chance = chance_score(task, y, y)
    assert chance == pytest.approx((2 / 4 + 2 / 3) / 2)
    assert at_chance(task, y, y, np.array(["blue", "one"], dtype=object))
    assert not at_chance(task, y, y, np.array(["red", "two"], dtype=object))
    seed = decided(task, y, blank(2, 2, sparse=True), np.array([True, False]), np.zeros(2, int))
    assert seed.tolist() == ["", 0]
