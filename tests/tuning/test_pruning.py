"""Which trials are stopped early, by scores as trials report them."""

import optuna
import pytest
from optuna.trial import TrialState

from oofline.tuning.pruning import FoldPruner, build_pruner, step_after, step_inside, step_of_loss

GOOD = {0: 0.80, 1: 0.82, 2: 0.78, 3: 0.81, 4: 0.79}


def steps(values):
    """Fold -> score as a trial reports it; what is a step already stays."""
    return {step_after(k) if k < 10 else k: score for k, score in values.items()}


def study_of(completed, direction="maximize", p=0.2):
    study = optuna.create_study(direction=direction, pruner=FoldPruner(p, inside=True))
    for values in completed:
        folds = [v for step, v in values.items() if step < 10]
        study.add_trial(
            optuna.create_trial(value=sum(folds) / len(folds), intermediate_values=steps(values))
        )
    return study


def running(study, values):
    """A trial that has reported these, and whether it would be stopped after each."""
    trial, stops = study.ask(), []
    for step, value in steps(values).items():
        trial.report(value, step)
        stops.append(trial.should_prune())
    return stops


def test_three_folds_below_the_best_trial_are_enough():
    study = study_of([GOOD])
    assert running(study, {k: v - 0.02 - k / 1000 for k, v in GOOD.items()})[:4] == [
        False, False, True, True,
    ]  # fmt: skip


def test_folds_that_go_both_ways_are_not_stopped():
    study = study_of([GOOD])
    shifts = (-0.02, 0.03, -0.01, 0.02)
    assert not any(running(study, {k: GOOD[k] + s for k, s in enumerate(shifts)}))


def test_it_is_paired_a_fold_that_is_hard_for_all_says_nothing():
    hard = {0: 0.5, 1: 0.6, 2: 0.7, 3: 0.8, 4: 0.9}
    assert not any(running(study_of([hard]), {k: v + 0.001 * (k + 1) for k, v in hard.items()}))


def test_lower_is_better_is_understood():
    study = study_of([GOOD], direction="minimize")
    assert running(study, {k: GOOD[k] + 0.02 + k / 1000 for k in range(3)})[-1]
    assert not any(running(study, {k: GOOD[k] - 0.02 for k in range(3)}))


def at(loss, score):
    """What an evaluation in fold 0 after two epochs reports."""
    return {step_of_loss(0, 2.0): loss, step_inside(0, 2.0): score}


OTHERS = [GOOD | at(loss, 0.70 + k / 100) for k, loss in enumerate((0.34, 0.33, 0.32, 0.31, 0.30))]


def test_inside_a_fold_it_is_the_medians_of_trials_at_that_point():
    study = study_of(OTHERS)
    assert running(study, at(0.325, 0.715))[-1]
    assert not running(study, at(0.325, 0.725))[-1]
    assert not running(study, at(0.315, 0.715))[-1]  # a better loss: it is learning
    elsewhere = {step_of_loss(1, 2.0): 9.0, step_inside(1, 2.0): 0.1}
    assert not any(running(study, elsewhere))  # no other was looked at there
    assert not any(running(study_of(OTHERS[:4]), at(9.0, 0.1)))  # too few to have a median


def test_the_loss_is_better_lower_whatever_the_score_is():
    swapped = [GOOD | at(loss, 0.30 - k / 100) for k, loss in enumerate((0.3, 0.3, 0.2, 0.2, 0.2))]
    study = study_of(swapped, direction="minimize")
    assert running(study, at(0.25, 0.29))[-1]
    assert not running(study, at(0.15, 0.29))[-1]


def test_only_folds_are_looked_at_where_that_is_asked():
    study = study_of(OTHERS)
    study.pruner = FoldPruner(0.2, inside=False)
    assert not any(running(study, at(9.0, 0.1)))


def test_the_last_value_of_a_stopped_trial_is_a_score():
    assert max(at(9.0, 0.1).items())[1] == 0.1


def test_folds_are_tested_though_there_are_evaluations_too():
    study = study_of([GOOD | {step_inside(k, 1.0): 0.9 for k in GOOD}])
    values = {}
    for k in range(3):
        values |= {step_inside(k, 1.0): 0.95, k: GOOD[k] - 0.02 - k / 1000}
    assert running(study, values) == [False] * 5 + [True]


def test_evaluations_do_not_enter_the_test_over_folds():
    study = study_of([GOOD | {step_inside(0, 1.0): 0.9}])
    values = {step_inside(k, 1.0): 0.1 for k in range(3)} | {k: GOOD[k] + 0.01 for k in range(3)}
    assert not any(running(study, values))


@pytest.mark.parametrize(
    ("pruning", "sampler", "kind"),
    [("auto", "tpe", FoldPruner), ("auto", "gp", optuna.pruners.NopPruner),
     ("folds", "gp", FoldPruner), ("none", "tpe", optuna.pruners.NopPruner)],
)  # fmt: skip
def test_a_gaussian_process_sees_every_trial_to_its_end(pruning, sampler, kind):
    assert isinstance(build_pruner(pruning, sampler, 0.2), kind)


def test_a_stopped_trial_counts_as_one():
    study = study_of([GOOD])
    study.optimize(lambda trial: (_ for _ in ()).throw(optuna.TrialPruned()), n_trials=1)
    assert study.trials[-1].state == TrialState.PRUNED
