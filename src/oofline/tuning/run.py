"""``oofline tune``: search settings, train the best again, and say what it is worth."""

import contextlib
import dataclasses
import functools
from typing import Any

import optuna
from optuna.trial import TrialState

from oofline.claim import check_settings, claim_experiment, inputs_of
from oofline.crossval import is_done, say_passed_over
from oofline.engines.devices import device_list
from oofline.engines.in_turn import in_turn
from oofline.engines.threads import limited_threads
from oofline.engines.workers import share
from oofline.errors import ConfigError, OoflineError, Stopped
from oofline.progress import bar, say
from oofline.scoring.metrics import get_metric
from oofline.sharing import Work, do_on_cluster, engine_ready
from oofline.storage import Paths
from oofline.tracking import Tracker
from oofline.training.guard import Guard
from oofline.training.precision import choose_device
from oofline.training.preparation import prepare
from oofline.tuning.identity import check_same_inputs, check_search, store_identity
from oofline.tuning.results import Results
from oofline.tuning.search import Search, check_apply, further_settings, plan_search
from oofline.tuning.study import create_study, latest
from oofline.tuning.trial import Job, worker
from oofline.tuning.trials import best_trial

CONFIRM_SEED = 1001
"""First seed of the re-runs, unless the search used it."""


def run_tune(options: Any, paths: Paths) -> None:
    """Run the trials that are left, train the best again, then write tuning.md and the pictures.

    Raises:
        ConfigError, DataError: something is wrong; nothing was trained.
        Stopped: time limit or interrupt; the same command goes on from there.
        OoflineError: no trial was completed.
    """
    search = plan_search(options, paths)
    if options.apply:
        check_apply(search.cfg, options.apply, paths)
    with engine_ready(search.cfg, options.parallel):
        tuning = Tuning(search, paths, options.parallel)
        try:
            tuning.run_trials()
        except Stopped:
            tuning.write()
            raise
        tuning.write()
        if options.confirm:
            tuning.confirm(options.confirm)
            tuning.write()
    tuning.finish()
    if options.apply:
        tuning.apply(options.apply)


class Tuning:
    """One search, checked before anything is trained.

    Args:
        search: what is searched.
        paths: of the competition.
        parallel: trials side by side.

    Raises:
        ConfigError, DataError: the settings, or an earlier search of this name, do not fit.
    """

    def __init__(self, search: Search, paths: Paths, parallel: int) -> None:
        self.search, self.paths, self.n_parallel = search, paths, parallel
        self.folder = paths.tuning(search.name)
        check_search(search, self.folder)
        self.default = dataclasses.replace(search.cfg, exp=f"{search.name}-default")
        check_settings(self.default, paths)
        material = prepare(self.default, paths)
        self.competition, self.folds = material.competition, material.folds
        inputs = inputs_of(self.default, paths, self.competition)
        check_same_inputs(search, self.folder, inputs)
        task = self.competition.task
        greater = get_metric(task.metric, task.kind).greater_is_better
        self.folder.mkdir(parents=True, exist_ok=True)
        self.study = create_study(paths, search.name, search.url, greater)
        self._check_trials()
        store_identity(search, self.folder, inputs)
        self._enqueue_default()
        self.guard = Guard(search.cfg.time_limit_hours)
        self.results = Results(
            search, paths, self.study, self.competition, self.folds, self.default
        )

    def _check_trials(self) -> None:
        """Refuse experiments of trials that this study does not know."""
        first = self.paths.experiment(self.search.exp(0))
        if not latest(self.study) and first.exists():
            raise ConfigError(
                f"{first} is there, but its search is not: choose another NAME, or delete the "
                f"experiments {self.search.name}-t*"
            )

    def _enqueue_default(self) -> None:
        """The first trial is the default, where it lies within what is searched."""
        values = {p.name: getattr(self.search.cfg, p.name) for p in self.search.space}
        if all(p.holds(values[p.name]) for p in self.search.space) and not self.study.trials:
            self.study.enqueue_trial(values)

    def run_trials(self) -> None:
        """Every trial that is left, side by side.

        Raises:
            Stopped: time limit or interrupt.
        """
        left = self._n_left()
        if left > 0 and (done := self.search.n_trials - left):
            say(f"{done} of {self.search.n_trials} trials are finished already")
        former = left + 1
        while 0 < left < former:  # again, where a worker was done before a lost trial was queued
            first = len(self.study.trials)
            self._do(list(range(first, first + left)), "trials")
            former, left = left, self._n_left()

    def _n_left(self) -> int:
        states = [trial.state for trial in latest(self.study).values()]
        return self.search.n_trials - sum(state.is_finished() for state in states)

    def _do(self, jobs: list[Job], title: str) -> None:
        if self.search.cfg.engine == "ray":
            self._do_on_cluster(jobs)
            return
        named = device_list(self.search.cfg, self.n_parallel)
        named = [str(choose_device(name)) if name == "auto" else name for name in named]
        n_workers = min(self.n_parallel, len(jobs))
        devices = [named[index % len(named)] for index in range(n_workers)]
        start = functools.partial(worker, self.search, self.paths)
        threads = self.search.cfg.cpus_per_fold
        with self.guard.signals():
            if n_workers > 1:
                say(f"{n_workers} {title} side by side; logs in {self.folder / 'workers'}")
                logs = self.folder / "workers"
                share(jobs, devices, start, logs, self.guard, _name, threads)
            else:
                with limited_threads(threads) if threads else contextlib.nullcontext():
                    self._do_here(jobs, devices[0])

    def _do_on_cluster(self, jobs: list[Job]) -> None:
        keep = self.search.keep_models or not isinstance(jobs[0], int)
        work = Work(
            list(jobs), functools.partial(worker, self.search), self.folder / "workers",
            _name, most=self.n_parallel, weights=keep, further=further_settings(self.search),
        )  # fmt: skip
        do_on_cluster(self.search.cfg, self.paths, work, self.guard)

    def _do_here(self, jobs: list[Job], device: str) -> None:
        try:
            do = worker(self.search, self.paths, device, self.guard)
            in_turn(jobs, do, _name, device, self.paths.output / "oofline.log")
        finally:
            Tracker.group = ""

    def confirm(self, n_seeds: int) -> None:
        """Train the best values and the default on new seeds (finished units are kept).

        Raises:
            Stopped: time limit or interrupt.
        """
        best = best_trial(self.study)
        if best is None:
            return
        self.results.choose(best, self._new_seeds(n_seeds))
        jobs: list[Job] = [
            (cfg, unit)
            for unit in self.results.units
            for cfg in self.results.rerun_settings
            if not is_done(self.paths.fold(cfg.exp, *unit))
        ]
        if jobs:
            n_units = len(self.results.units)
            say(f"training again on {n_seeds} new seeds: {n_units} folds of the best, as many of "
                "the default")  # fmt: skip
            self._do(jobs, "re-runs")

    def _new_seeds(self, n_seeds: int) -> list[int]:
        used = {seed for seed, _ in self.search.units}
        candidates = range(CONFIRM_SEED, CONFIRM_SEED + n_seeds + len(used))
        return [seed for seed in candidates if seed not in used][:n_seeds]

    def write(self) -> None:
        """Write trials.csv, and once a trial is complete the pictures and tuning.md."""
        with bar(f"write {self.search.name}", 1) as progress:
            self.results.write()
            progress.advance()

    def finish(self) -> None:
        """Say what was found.

        Raises:
            OoflineError: no trial was completed.
        """
        if best_trial(self.study) is None:
            failed = self.study.get_trials(states=(TrialState.FAIL,))
            reason = next((t.user_attrs.get("reason", "") for t in failed), "none was run")
            raise OoflineError(f"no trial was completed (the first: {reason}): narrow the space")
        for line in self.results.lines:
            say(line)
        say(f"open {self.folder / 'tuning.md'} or sensitivity.png")
        exps = [cfg.exp for cfg in self.results.rerun_settings] if self.results.best else []
        say_passed_over(self.paths, exps, self.results.units)

    def apply(self, exp: str) -> None:
        """Write the best values to a new experiment, ready to be trained."""
        best: optuna.trial.FrozenTrial | None = best_trial(self.study)
        assert best is not None
        cfg = dataclasses.replace(self.search.cfg, exp=exp, **best.params)
        check_apply(cfg, exp, self.paths)
        (self.paths.experiment(exp) / "cfg.json").unlink(missing_ok=True)  # nothing was trained
        claim_experiment(cfg, self.paths, inputs_of(cfg, self.paths, self.competition))
        say(
            f"wrote the best settings to experiment {exp}; train it: make train "
            f'COMP={self.paths.comp} EXP={exp} ARGS="--from {exp}"'
        )


def _name(job: Job) -> str:
    """What a job is called until its worker knows better which trial it is."""
    if isinstance(job, int):
        return f"job {job}"
    cfg, (seed, fold) = job
    return f"{cfg.exp} seed {seed} fold {fold}"
