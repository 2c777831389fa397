"""Trials that their process lost, or left, and what a worker is given."""

import optuna
import pytest
import torch
from optuna.trial import TrialState

from oofline.config import CFG
from oofline.engines import threads
from oofline.errors import Stopped
from oofline.storage import Paths
from oofline.tuning import run as run_module
from oofline.tuning import study as study_module
from oofline.tuning import trial as trial_module
from oofline.tuning.search import Search
from oofline.tuning.space import Parameter
from oofline.tuning.study import ATTEMPTS, home_of, requeue, storage_url
from oofline.tuning.trials import NO_REASON, trials_frame

PENALTY = (
    "tune", "--comp", "toy", "--kind", "ridge", "--space", "linear_penalty=log(1e-2,1e2)",
    "--confirm", "0", "--prune", "none", "--name", "penalty",
)  # fmt: skip


def study_of(paths):
    return optuna.load_study(study_name="toy/penalty", storage=storage_url(paths, "penalty", ""))


def frame_of(study, paths):
    space = (Parameter("linear_penalty", "log", (1e-2, 1e2)),)
    search = Search("penalty", CFG(), space, ((42, 0),), 3, "tpe", "none", 0.2, 0, "", False)
    return trials_frame(study, search)


@pytest.fixture
def before_each_unit(monkeypatch):
    """before_each_unit(act) calls act(cfg, unit) in a trial before each of its units."""
    trainer_of = trial_module.trainer_of

    def install(act):
        def make(cfg, material, guard):
            train = trainer_of(cfg, material, guard)

            def one(unit):
                act(cfg, unit)
                return train(unit)

            return one

        monkeypatch.setattr(trial_module, "trainer_of", make)

    return install


def test_a_trial_that_was_thought_dead_and_taken_up_does_not_end_the_search(
    write_competition, oofline, before_each_unit
):
    """As where a machine sleeps: another worker has the trial when this one wakes up."""
    paths, units = write_competition(n=60), []

    def sleep(cfg, unit):
        units.append((cfg.exp, unit))
        if len(units) == 2:  # in the first trial's second fold
            study = study_of(paths)
            lost = study.trials[0]
            study._storage.set_trial_state_values(lost._trial_id, TrialState.FAIL)
            requeue(study, lost)

    before_each_unit(sleep)
    for _ in range(2):  # once more, had the trial gone to the last worker
        assert oofline(*PENALTY, "--trials", "2")[0] == 0
    frame = frame_of(study_of(paths), paths)
    assert frame["state"].tolist() == ["complete"] * 2
    assert frame["exp"].tolist() == ["penalty-t0000", "penalty-t0002"]


def test_a_process_that_ends_while_values_are_chosen_leaves_nothing_to_wait_for(
    write_competition, oofline, monkeypatch
):
    """It never said that it is alive, so that its silence tells nothing."""
    paths = write_competition(n=60)
    monkeypatch.setattr(study_module, "UNBEGUN_SECONDS", 0)
    assert oofline(*PENALTY, "--trials", "1")[0] == 0
    study = study_of(paths)
    study.enqueue_trial({"linear_penalty": 3.0})
    study.ask()  # the default, say
    study.ask()  # and one without values so far
    waiting = optuna.create_trial(
        state=TrialState.WAITING, params=study.trials[0].params, user_attrs={"home": 0},
        distributions=study.trials[0].distributions,
    )  # fmt: skip
    study.add_trial(waiting)
    study.ask()  # one that had been taken up before
    assert [t.state for t in study.trials[1:]] == [TrialState.RUNNING] * 3
    assert oofline(*PENALTY, "--trials", "3")[0] == 0
    frame = frame_of(study_of(paths), paths)
    assert frame["state"].tolist() == ["complete"] * 3
    assert 3.0 in frame["linear_penalty"].tolist()


def test_a_process_that_ends_before_its_first_sign_of_life_leaves_nothing_to_wait_for(
    write_competition, oofline, monkeypatch, before_each_unit
):
    """One that gave a sign is not taken for it, however young the limit."""
    paths, lost = write_competition(n=60), []
    monkeypatch.setattr(study_module, "UNBEGUN_SECONDS", 0)
    assert oofline(*PENALTY, "--trials", "1")[0] == 0
    study = study_of(paths)
    trial = study.ask()
    trial.suggest_float("linear_penalty", 1e-2, 1e2, log=True)  # its objective was called

    def look(cfg, unit):
        study_module.take_up_lost(study)
        lost.append([t.number for t in study.trials if t.state == TrialState.FAIL])

    before_each_unit(look)
    assert oofline(*PENALTY, "--trials", "2")[0] == 0
    assert lost
    assert all(numbers == [trial.number] for numbers in lost)
    frame = frame_of(study_of(paths), paths)
    assert frame["state"].tolist() == ["complete"] * 2
    assert trial.params["linear_penalty"] in frame["linear_penalty"].tolist()


def test_a_trial_may_be_interrupted_any_number_of_times(
    write_competition, oofline, before_each_unit
):
    paths, times = write_competition(n=60), []

    def interrupt(cfg, unit):
        times.append(cfg.exp)
        if len(times) <= ATTEMPTS + 1:
            raise Stopped("interrupted", 130)

    before_each_unit(interrupt)
    for _ in range(ATTEMPTS + 1):
        assert oofline(*PENALTY, "--trials", "1")[0] == 130
    assert oofline(*PENALTY, "--trials", "1")[0] == 0
    assert set(times) == {"penalty-t0000"}
    assert frame_of(study_of(paths), paths)["state"].tolist() == ["complete"]


def test_a_process_may_die_so_many_times_and_then_its_trial_has_failed(tmp_path):
    study = optuna.create_study()
    trial = study.ask({"linear_penalty": optuna.distributions.FloatDistribution(1e-2, 1e2)})
    for _ in range(ATTEMPTS - 1):
        study.tell(trial, state=TrialState.FAIL)
        requeue(study, study.trials[trial.number])
        trial = study.ask()
        assert home_of(study.trials[trial.number]) == 0
    study.tell(trial, state=TrialState.FAIL)
    requeue(study, study.trials[trial.number])
    assert [t.state for t in study.trials] == [TrialState.FAIL] * ATTEMPTS
    frame = frame_of(study, Paths("toy", tmp_path))
    assert frame[["trial", "state", "reason"]].to_numpy().tolist() == [[0, "failed", NO_REASON]]


def test_a_trial_computes_with_the_threads_that_the_settings_name(
    write_competition, oofline, before_each_unit, monkeypatch
):
    write_competition(n=60)
    seen, former = [], torch.get_num_threads()
    before_each_unit(lambda cfg, unit: seen.append(torch.get_num_threads()))
    try:
        assert oofline(*PENALTY, "--trials", "1", "--cpus-per-fold", former + 1)[0] == 0
    finally:
        threads.limit_threads(former)
    assert set(seen) == {former + 1}
    given = []
    monkeypatch.setattr(run_module, "share", lambda *args: given.append(args[-1]))
    oofline(*PENALTY, "--trials", "3", "--parallel", "2", "--cpus-per-fold", "5")
    assert given == [5]
