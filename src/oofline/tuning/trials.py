"""The trials as a table, and what each says about the score of its values."""

import numpy as np
import optuna
import pandas as pd
from optuna.trial import FrozenTrial, TrialState

from oofline.tuning.pruning import unit_of
from oofline.tuning.search import Search
from oofline.tuning.study import latest

STATES = {
    TrialState.COMPLETE: "complete", TrialState.PRUNED: "stopped early",
    TrialState.FAIL: "failed", TrialState.RUNNING: "running", TrialState.WAITING: "waiting",
}  # fmt: skip

NO_REASON = "its process ended; see workers/"


def trials_frame(study: optuna.Study, search: Search) -> pd.DataFrame:
    """Every trial in the order of its start.

    Returns:
        DataFrame with columns trial, exp, state, score (nan unless complete), estimate, one per
        searched setting, units (finished folds x seeds), minutes, started, reason. ``estimate`` is
        the score; of a trial that was stopped, the best trial's score plus the mean difference on
        the units that both finished; nan where it finished none.
    """
    trials = latest(study)
    best = best_trial(study)
    rows = [_row(number, trial, search, best) for number, trial in trials.items()]
    return pd.DataFrame(rows).sort_values("trial", ignore_index=True) if rows else pd.DataFrame()


def best_trial(study: optuna.Study) -> FrozenTrial | None:
    """The completed trial with the best score; None before there is one."""
    done = study.get_trials(deepcopy=False, states=(TrialState.COMPLETE,))
    return study.best_trial if done else None


def _row(number: int, trial: FrozenTrial, search: Search, best: FrozenTrial | None) -> dict:
    complete, failed = (trial.state == s for s in (TrialState.COMPLETE, TrialState.FAIL))
    folds = unit_scores(trial)
    score = float(trial.value) if complete and trial.value is not None else np.nan
    end = trial.datetime_complete
    length = (end - trial.datetime_start).total_seconds() if end and trial.datetime_start else None
    return {
        "trial": number, "exp": search.exp(number), "state": STATES[trial.state], "score": score,
        "estimate": score if complete else _estimate(folds, best),
        **{parameter.name: trial.params.get(parameter.name) for parameter in search.space},
        "units": len(search.units) if complete else len(folds),
        "minutes": np.nan if length is None else length / 60,
        "started": f"{trial.datetime_start:%Y-%m-%d %H:%M:%S}" if trial.datetime_start else "",
        "reason": trial.user_attrs.get("reason", NO_REASON if failed else ""),
    }  # fmt: skip


def unit_scores(trial: FrozenTrial) -> dict[int, float]:
    """Index of a unit -> its score, of the units that a trial finished."""
    pairs = ((unit_of(step), score) for step, score in trial.intermediate_values.items())
    return {unit: score for unit, score in pairs if unit is not None}


def _estimate(folds: dict[int, float], best: FrozenTrial | None) -> float:
    """The score that a stopped trial would about have reached."""
    known = unit_scores(best) if best else {}
    shared = [folds[unit] - known[unit] for unit in folds.keys() & known.keys()]
    if not shared or best is None or best.value is None:
        return float("nan")
    return float(best.value + np.mean(shared))
