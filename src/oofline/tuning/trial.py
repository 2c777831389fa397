"""What a worker does: trials, each an experiment of its own, and re-runs of chosen settings."""

import dataclasses
import math
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import optuna
from optuna.trial import TrialState

from oofline.config import CFG
from oofline.crossval import Unit, begin, is_done, trainer_of
from oofline.errors import OoflineError, Stopped
from oofline.progress import quiet, say, within
from oofline.storage import Paths, read_json
from oofline.tracking import Tracker
from oofline.training.fold_files import remove_working_files
from oofline.training.guard import Guard
from oofline.tuning.pruning import step_after, step_inside, step_of_loss
from oofline.tuning.search import Search, score_units, trial_settings
from oofline.tuning.study import (
    BEAT_SECONDS,
    counts,
    open_study,
    requeue,
    seed_of,
    take_up_lost,
)

LOCK_SECONDS = 60.0
"""How long a fold is waited for that a process still holds whose trial was taken up."""

Job = tuple[CFG, Unit] | int
"""A unit of an experiment to train, or the how-manieth trial of this command."""


class Pruned(Stopped):
    """A trial is not worth going on with."""


def worker(search: Search, paths: Paths, device: str, guard: Guard) -> Callable[[Job], Any]:
    """What does one job in a worker process, after the study was created in another."""
    Tracker.group = search.name
    guard.lock_seconds = max(guard.lock_seconds, LOCK_SECONDS)

    def do(job: Job) -> Any:
        """Train one unit, or run one trial."""
        if isinstance(job, int):
            return run_trial(search, paths, device, guard, job)
        cfg, unit = dataclasses.replace(job[0], device=device), job[1]
        with quiet():  # what there is to say of the data was said before the first trial
            material = begin(cfg, paths)
        return trainer_of(cfg, material, guard)(unit)

    return do


def run_trial(search: Search, paths: Paths, device: str, guard: Guard, number: int) -> str:
    """Run the next trial, wherever it was left; wait while others run the last ones.

    Args:
        search: what is searched.
        paths: of the competition.
        device: of this worker.
        guard: of this worker.
        number: of this command's trials, from 0; makes the sampler's seed.

    Returns:
        What became of it, in a few words.

    Raises:
        Stopped: time limit or interrupt; the trial is taken up by the next command.
    """
    study = open_study(
        paths, search.name, search.url, search.sampler, seed_of(search.sampler_seed, number),
        search.pruning, search.prune_p, search.n_trials,
    )  # fmt: skip
    waited = False
    while not _is_one_left(study, search.n_trials):
        if counts(study)[TrialState.RUNNING] == 0:
            return "none was left"
        if not waited:
            say("waiting for trials that other processes run, or were running when they ended")
            waited = True
        _leave_if_asked(guard)
        time.sleep(BEAT_SECONDS / 2)
    trial = _Trial(search, paths, device, guard)
    try:
        study.optimize(trial, n_trials=1, catch=(OoflineError,))
    except Stopped:
        requeue(study, study.trials[trial.number], died=False)
        raise
    except Exception:
        if not trial.lost:
            raise
        return "taken up by another process"
    return trial.outcome


def _is_one_left(study: optuna.Study, n_trials: int) -> bool:
    """Whether a trial waits, or one more may start; takes up those whose process is gone."""
    take_up_lost(study)
    states = counts(study)
    return states[TrialState.WAITING] > 0 or sum(states.values()) < n_trials


def _leave_if_asked(guard: Guard) -> None:
    if guard.must_stop(0.0):
        raise Stopped(f"{guard.reason}; the same command goes on from there", guard.exit_code)


class _Trial:
    """The objective: the cross-validated score of one set of values.

    Attributes:
        number: of the trial; -1 before it began.
        outcome: what became of it, in a few words.
        lost: whether others took it up, since this process did not say for long that it is alive.
    """

    def __init__(self, search: Search, paths: Paths, device: str, guard: Guard) -> None:
        self.search, self.paths, self.device, self.guard = search, paths, device, guard
        self.number, self.outcome, self.lost = -1, "", False

    def __call__(self, trial: optuna.Trial) -> float:
        """Train every unit, scoring after each.

        Raises:
            optuna.TrialPruned: it is stopped early.
            OoflineError: it cannot be trained; kept with the trial as its reason.
            Stopped: time limit or interrupt.
        """
        self.number = trial.number
        try:
            return self._score(trial)
        finally:
            trials = trial.study.get_trials(deepcopy=False)
            self.lost = trials[trial.number].state.is_finished()

    def _score(self, trial: optuna.Trial) -> float:
        search = self.search
        home = int(trial.user_attrs.get("home", trial.number))
        values = {parameter.name: parameter.suggest(trial) for parameter in search.space}
        name = f"trial {home}"
        say(f"{name}: {', '.join(f'{k} = {_short(v)}' for k, v in values.items())}")
        try:
            cfg = trial_settings(search, home, values, self.device)
            with within(name), quiet():  # the log file holds every line of every fold
                score, metric = self._run(trial, cfg)
        except Pruned as stop:
            self._forget(cfg)
            trial.set_user_attr("reason", str(stop))
            self.outcome = "stopped early"
            say(f"{name}: stopped early, {stop}")
            raise optuna.TrialPruned(str(stop)) from None
        except OoflineError as error:
            trial.set_user_attr("reason", str(error))
            self.outcome = "failed"
            say(f"{name} failed: {error}")
            raise
        self.outcome = f"{metric} {score:.5f}"
        say(f"{name}: {self.outcome}")
        return score

    def _run(self, trial: optuna.Trial, cfg: CFG) -> tuple[float, str]:
        """The score, and its metric's name."""
        material = begin(cfg, self.paths)
        train = trainer_of(cfg, material, self.guard)
        for index, unit in enumerate(self.search.units):
            self.guard.watch = self._watcher(trial, index, cfg)
            try:
                train(unit)
            finally:
                self.guard.watch = None
            self._report(trial, index, cfg, unit)
        scores = score_units(cfg, self.paths, material.competition, material.folds, self.search)
        if scores["score"] is None:
            raise OoflineError(f"{scores['metric']} is not defined on its predictions")
        if not self.search.keep_models:
            self._drop_models(cfg)
        return float(scores["score"]), str(scores["metric"])

    def _watcher(
        self, trial: optuna.Trial, index: int, cfg: CFG
    ) -> Callable[[dict[str, float]], None]:
        """What looks at the evaluations of one unit; those before its half only get noted."""

        def watch(row: dict[str, float]) -> None:
            """Report an evaluation; raise `Pruned` where others were better at this point."""
            epoch, score = row["epoch"], row["score"]
            if not math.isfinite(score) or epoch >= cfg.epochs:
                return
            trial.report(row["valid_loss"], step_of_loss(index, epoch))
            trial.report(score, step_inside(index, epoch))
            if 2 * epoch >= cfg.epochs and trial.should_prune():
                raise Pruned(f"score and loss worse than the medians after epoch {epoch:.3g}")

        return watch

    def _report(self, trial: optuna.Trial, index: int, cfg: CFG, unit: Unit) -> None:
        folder = self.paths.fold(cfg.exp, *unit)
        if not is_done(folder):
            raise OoflineError(f"{folder} is being trained by another command")
        score = read_json(folder / "scores.json")["score"]
        if score is None:
            return
        trial.report(score, step_after(index))
        if index + 1 < len(self.search.units) and trial.should_prune():
            raise Pruned(f"its {index + 1} folds are below those of the best trial")

    def _folders(self, cfg: CFG) -> list[Path]:
        return [self.paths.fold(cfg.exp, *unit) for unit in self.search.units]

    def _forget(self, cfg: CFG) -> None:
        """Drop the states of a trial that is not gone on with."""
        for folder in self._folders(cfg):
            remove_working_files(folder)
        if not self.search.keep_models:
            self._drop_models(cfg)

    def _drop_models(self, cfg: CFG) -> None:
        for folder in self._folders(cfg):
            for path in folder.glob("*.safetensors"):
                path.unlink(missing_ok=True)


def _short(value: Any) -> str:
    return f"{value:.3g}" if isinstance(value, float) else str(value)
