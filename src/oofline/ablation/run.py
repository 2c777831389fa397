"""``oofline ablation``: train every arm on the same units, in turns, and compare."""

import dataclasses
from pathlib import Path
from typing import Any

from oofline.ablation.arms import Arm, choose_arms
from oofline.ablation.contrast import Rows
from oofline.ablation.entries import Entry, Failures, gather
from oofline.ablation.spread import train_spread, unit_of
from oofline.ablation.table import conclusions, frame_of, markdown, shown
from oofline.ablation.units import Unit, train_apart
from oofline.baselines.fitting import refuse_targets
from oofline.board import Board, board
from oofline.claim import check_inputs, check_settings, inputs_of
from oofline.config import CFG
from oofline.crossval import is_done, parse_folds, parse_seeds
from oofline.data.competition import Competition, read_competition
from oofline.data.folds import Folds, ensure_folds
from oofline.engines.devices import device_list, device_name
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
    after each round. An arm whose unit fails is noted, and the others go on.

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
            if not baseline:
                away = arm.cfg.engine == "ray"  # the nodes' devices are theirs to check
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
        guard, last = Guard(self.cfg.time_limit_hours), self.units[-1]
        if self.cfg.engine == "ray":
            self._train_on_cluster(guard)
            return
        for note in self.competition.notes if self._n_left() else ():
            say(note)
        with guard.signals(), board("units", self._n_left()) as table:
            for unit in self.units:
                if self._round(unit, guard, table) and unit != last:
                    self.write()

    def _train_on_cluster(self, guard: Guard) -> None:
        """All units of all arms side by side, arms taking turns."""
        todo = [(a, u) for u in self.units for a in self.arms if not self._is_done(a, u)]
        names = {arm.cfg.exp: arm.name for arm in self.arms}
        for failure in train_spread([(arm.cfg, unit) for arm, unit in todo], self.paths, guard):
            cfg, unit = failure.unit
            self.failures[names[cfg.exp], unit] = failure.reason

    def _round(self, unit: Unit, guard: Guard, table: Board) -> int:
        """One unit for every arm; returns how many were trained now."""
        todo = [arm for arm in self.arms if not self._is_done(arm, unit)]
        for arm in todo:
            if guard.must_stop(0.0):
                raise Stopped(
                    f"{guard.reason}: {self._n_left()} units are left; the same command goes on "
                    "from there",
                    guard.exit_code,
                )
            self._train_one(arm, unit, guard, table)
        return len(todo)

    def _train_one(self, arm: Arm, unit: Unit, guard: Guard, table: Board) -> None:
        name, device = unit_of(arm.cfg, unit), device_list(arm.cfg, 1)[0]
        log = self.paths.output / "ablations" / "workers" / f"{name.replace(' ', '-')}.log"

        def tell(kind: str, *content: Any) -> None:
            """Show what the unit's process says."""
            table.say(name, *content) if kind == "say" else table.follow(name, *content)

        table.begin(name, device_name(dataclasses.replace(arm.cfg, device=device)), log)
        problem = train_apart(arm.cfg, self.paths, unit, guard, device, log, tell)
        if problem is None:
            table.end(name, self._is_done(arm, unit) or False)
        else:
            self.failures[arm.name, unit] = problem
            table.fail(name, problem, log)

    def _is_done(self, arm: Arm, unit: Unit) -> bool:
        return is_done(self.paths.fold(arm.cfg.exp, *unit))

    def _n_left(self) -> int:
        pairs = [(arm, unit) for arm in self.arms for unit in self.units]
        return sum(not self._is_done(a, u) and (a.name, u) not in self.failures for a, u in pairs)

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
        text = markdown(self.paths.comp, self.name, task, self.entries, self.folds.n_folds)
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
