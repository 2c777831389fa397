"""``oofline ablation``: train every arm on the same units, in turns, and compare."""

import dataclasses
from pathlib import Path
from typing import Any

from oofline.ablation.arms import Arm, choose_arms
from oofline.ablation.contrast import Rows
from oofline.ablation.entries import Entry, Failures, gather
from oofline.ablation.spread import Job, train_spread
from oofline.ablation.table import conclusions, frame_of, markdown, shown
from oofline.baselines.fitting import refuse_targets
from oofline.claim import check_inputs, check_settings, inputs_of
from oofline.config import CFG
from oofline.crossval import Unit, is_done, parse_folds, parse_seeds
from oofline.data.competition import Competition, read_competition
from oofline.data.folds import Folds, ensure_folds
from oofline.engines.devices import device_list
from oofline.engines.outcome import Failure
from oofline.errors import OoflineError, Stopped
from oofline.models.backbone import load_tokenizer
from oofline.progress import bar, say
from oofline.report.comparison import compare_forest
from oofline.report.terminal import print_frame
from oofline.scoring.metrics import get_metric
from oofline.storage import Paths, write_text
from oofline.training.guard import Guard
from oofline.training.precision import choose_precision
from oofline.training.preparation import check_parts


def run_ablation(options: Any, paths: Paths) -> None:
    """Train what is not trained yet, then write table.md, table.csv and forest.png.

    Arms take turns unit by unit, so that all of them can be compared early; the files are written
    after each round. Where there are several devices, units are trained side by side. An arm whose
    unit fails is noted, and the others go on.

    Raises:
        ConfigError, DataError: something is wrong; nothing was trained or written.
        Stopped: time limit or interrupt; the same command goes on from there.
        OoflineError: units failed; the table says which and why.
    """
    name = options.name or "ablation"
    arms = choose_arms(options.cfg, name, options.arms, options.file, options.base)
    folds = parse_folds(options.fold, options.cfg.n_folds)
    units = [(seed, fold) for seed in parse_seeds(options.seed) for fold in folds]
    ablation = Ablation(name, arms, units, paths, options.cfg)
    try:
        ablation.train()
    except Stopped:
        ablation.write()
        raise
    ablation.write()
    ablation.finish()


class Ablation:
    """Arms and units of one ablation, checked before anything is written.

    Args:
        name: its folder below ``output/<comp>/ablations``.
        arms: the base first.
        units: (seed, fold) that every arm is trained on.
        paths: of the competition.
        cfg: settings that all arms start from.

    Raises:
        ConfigError, DataError: an arm cannot be trained as it is.
    """

    def __init__(
        self, name: str, arms: list[Arm], units: list[Unit], paths: Paths, cfg: CFG
    ) -> None:
        self.name, self.arms, self.units, self.paths, self.cfg = name, arms, units, paths, cfg
        self.failures: Failures = {}
        self.competition: Competition = read_competition(cfg, paths)
        for arm in arms:
            self._check(arm)
        self.folds: Folds
        self.folds, created = ensure_folds(cfg, paths, self.competition)
        if created:
            say(f"made {paths.folds}; {paths.folds.with_suffix('.md')} holds the leak audit")
        for arm in arms:
            if (paths.experiment(arm.cfg.exp) / "inputs.json").exists():
                hashes = inputs_of(arm.cfg, paths, self.competition)
                check_inputs(paths.experiment(arm.cfg.exp), hashes)
        groups = self.folds.groups if self.competition.group_col else None
        self.rows = Rows(
            self.competition.task, self.competition.y, self.folds.fold, groups,
            cfg.bootstrap_samples,
        )  # fmt: skip

    @property
    def folder(self) -> Path:
        """Where its files go."""
        return self.paths.output / "ablations" / self.name

    def _check(self, arm: Arm) -> None:
        try:
            started, baseline = check_settings(arm.cfg, self.paths), arm.cfg.kind != "transformer"
            away = arm.cfg.engine == "ray"  # the nodes' devices are theirs to check
            if not away:
                device_list(arm.cfg, len(self.units))
            if not baseline:
                choose_precision(dataclasses.replace(arm.cfg, device="cpu") if away else arm.cfg)
                load_tokenizer(arm.cfg.model)
            competition = read_competition(arm.cfg, self.paths)
            get_metric(competition.task.metric, competition.task.kind)
            if baseline:
                refuse_targets(arm.cfg, competition.task, competition.y)
            elif not started:
                check_parts(arm.cfg, competition)
        except OoflineError as error:
            message = str(error).partition(": choose another EXP")
            hint = ": choose another NAME" if message[1] else ""
            raise type(error)(f"arm {arm.name}: {message[0]}{hint}") from None

    def train(self) -> None:
        """Every unit of every arm that is not finished.

        Raises:
            Stopped: time limit or interrupt.
        """
        jobs = [(arm, unit) for unit in self.units for arm in self.arms if self._is_left(arm, unit)]
        for note in self.competition.notes if jobs else ():
            say(note)
        try:
            train_spread(jobs, self.paths, Guard(self.cfg.time_limit_hours), self._after)
        except Stopped as stop:  # it knows of the units that were at work, not of all
            reason = "interrupted" if stop.exit_code else "time_limit_hours reached"
            text = f"{self._n_left()} units are left; the same command goes on from there"
            raise Stopped(f"{reason}: {text}", stop.exit_code) from None

    @property
    def _side_by_side(self) -> bool:
        n_units = len(self.arms) * len(self.units)
        return any(a.cfg.engine == "ray" or len(device_list(a.cfg, n_units)) > 1 for a in self.arms)

    def _after(self, job: Job, outcome: Any) -> None:
        """Note a failure; at the end of a round, while there is more to come, write the files."""
        arm, unit = job
        if isinstance(outcome, Failure):
            self.failures[arm.name, unit] = outcome.reason
        if self._n_left() and not any(self._is_left(arm, unit) for arm in self.arms):
            self.write()

    def _is_left(self, arm: Arm, unit: Unit) -> bool:
        done = is_done(self.paths.fold(arm.cfg.exp, *unit))
        return not done and (arm.name, unit) not in self.failures

    def _n_left(self) -> int:
        return sum(self._is_left(arm, unit) for arm in self.arms for unit in self.units)

    def write(self) -> None:
        """Compare the arms on the units that all of them have tried, and write the three files."""
        with bar(f"compare {len(self.arms)} arms", 1) as progress:
            self.entries: list[Entry] = gather(
                self.arms, self.paths, self.rows, self.folds, self.units, self.failures
            )
            progress.advance()
        if self.entries[0].n_units == 0:
            return
        task, frame = self.rows.task, frame_of(self.entries)
        text = markdown(
            self.paths.comp, self.name, task, self.entries, self.folds.n_folds, self._side_by_side
        )
        write_text(self.folder / "table.md", text)
        write_text(self.folder / "table.csv", frame.to_csv(index=False))
        greater = get_metric(task.metric, task.kind).greater_is_better
        marks = [
            f" (failed {len(e.failures)}/{e.n_units})" * bool(e.failures) for e in self.entries
        ]
        named = frame.assign(experiment=frame["arm"] + marks)
        compare_forest(named, self.folder / "forest.png", task.metric, greater)

    def finish(self) -> None:
        """Print the table and what it says.

        Raises:
            OoflineError: units failed.
        """
        if self.entries[0].n_units:
            title = f"{self.paths.comp}: ablation {self.name}, {self.rows.task.metric}"
            print_frame(shown(frame_of(self.entries), for_terminal=True), title)
        for line in conclusions(self.rows.task, self.entries):
            say(line)
        say(f"open {self.folder / 'table.md'} or forest.png")
        if left := self._n_left():
            say(f"{left} units are being trained by another process: run this again afterwards")
        if self.failures:
            n_units, reason = len(self.arms) * len(self.units), next(iter(self.failures.values()))
            raise OoflineError(
                f"{len(self.failures)} of {n_units} units failed (the first: {reason}); the table "
                "holds the others"
            )
