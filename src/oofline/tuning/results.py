"""The result folder of a search: trials.csv, four pictures and tuning.md."""

import dataclasses
from typing import Any

import numpy as np
import optuna
import pandas as pd
from optuna.importance import FanovaImportanceEvaluator, get_param_importances
from optuna.trial import FrozenTrial

from oofline.ablation.contrast import Rows, contrast
from oofline.ablation.units import read_runs
from oofline.config import CFG
from oofline.crossval import Unit, is_done
from oofline.data.competition import Competition
from oofline.data.folds import Folds
from oofline.data.markdown import table
from oofline.report import tuning as pictures
from oofline.scoring.metrics import get_metric
from oofline.storage import Paths, read_json, write_text
from oofline.tuning.search import Search, score_units
from oofline.tuning.study import home_of
from oofline.tuning.trials import best_trial, trials_frame
from oofline.tuning.verdict import Rerun, sentences, shown

FEWEST = 4
"""Completed trials before importances mean anything."""


class Results:
    """What is known of a search, and the files that say it.

    Args:
        search: what is searched.
        paths: of the competition.
        study: its trials.
        competition: its rows.
        folds: which row validates where.
        default: settings of the re-run of the default.
    """

    def __init__(
        self, search: Search, paths: Paths, study: optuna.Study, competition: Competition,
        folds: Folds, default: CFG,
    ) -> None:  # fmt: skip
        self.search, self.paths, self.study, self.default = search, paths, study, default
        self.competition, self.folds = competition, folds
        task = competition.task
        self.metric = get_metric(task.metric, task.kind)
        self.folder = paths.tuning(search.name)
        self.best: CFG | None = None
        self.units: list[Unit] = []
        self.lines: list[str] = []

    def choose(self, best: FrozenTrial, seeds: list[int]) -> None:
        """Fix which trial is trained again, and on which seeds."""
        name = f"{self.search.name}-best-t{home_of(best):04d}"
        made = dataclasses.replace(self.search.cfg, exp=name, **best.params)
        same = dataclasses.replace(made, exp=self.default.exp) == self.default
        self.best = self.default if same else made
        folds = dict.fromkeys(fold for _, fold in self.search.units)
        self.units = [(seed, fold) for seed in seeds for fold in folds]

    @property
    def rerun_settings(self) -> list[CFG]:
        """The best and the default; one where they are the same."""
        assert self.best is not None
        return [self.best] if self.best is self.default else [self.best, self.default]

    def write(self) -> None:
        """Write what is known."""
        frame = trials_frame(self.study, self.search)
        write_text(self.folder / "trials.csv", frame.to_csv(index=False))
        if best_trial(self.study) is None:
            return
        rerun, default = self._rerun(), self._default_values()
        self.lines = sentences(
            frame, self.search.space, self.metric.name, self.metric.greater_is_better, default,
            rerun,
        )  # fmt: skip
        if self.best is self.default:
            self.lines[-2:-1] = ["The best values are the default."]
        self._draw(frame, default)
        write_text(self.folder / "tuning.md", self._markdown(frame))

    def _default_values(self) -> dict[str, Any]:
        return {p.name: getattr(self.search.cfg, p.name) for p in self.search.space}

    def _rerun(self) -> Rerun | None:
        """The re-runs, once all of them are done."""
        if self.best is None or not all(
            is_done(self.paths.fold(cfg.exp, *unit))
            for cfg in self.rerun_settings
            for unit in self.units
        ):
            return None
        task, groups = self.competition.task, self.folds.groups
        known = [fold for _, fold in self.units]
        fold = np.where(np.isin(self.folds.fold, known), self.folds.fold, -1)
        rows = Rows(
            task, self.competition.y, fold, groups if self.competition.group_col else None,
            self.search.cfg.bootstrap_samples,
        )  # fmt: skip
        seeds = list(dict.fromkeys(seed for seed, _ in self.units))
        runs = []
        for cfg in (self.best, self.default):
            score_units(cfg, self.paths, self.competition, self.folds, self.search, seeds)
            ids = self.folds.ids
            runs.append(read_runs(self.paths, cfg.exp, task, ids, fold, self.units))
        found, trial = contrast(rows, *runs), best_trial(self.study)
        assert found is not None
        assert trial is not None
        scores = read_json(self.paths.experiment(self.search.exp(home_of(trial))) / "scores.json")
        claimed = float(np.mean(list(scores["seed_scores"].values())))
        return Rerun(found, claimed, int(self.metric.sign))

    def _draw(self, frame: pd.DataFrame, default: dict[str, Any]) -> None:
        forms: dict[str, str] = {p.name: p.form for p in self.search.space}
        begun = frame[frame["state"] != "waiting"].reset_index(drop=True)
        about = (begun, forms, self.metric.name, self.metric.greater_is_better)
        pictures.progress(self.folder / "progress.png", *about)
        pictures.sensitivity(self.folder / "sensitivity.png", *about, default)
        pictures.parallel(self.folder / "parallel.png", *about)
        if shares := self.importances(frame):
            note = f"share of the variance over {int(frame['score'].notna().sum())} complete trials"
            pictures.importances(self.folder / "importances.png", shares, note)

    def importances(self, frame: pd.DataFrame) -> dict[str, float]:
        """Setting -> share of the scores' variance, by fANOVA (Hutter 2014); {} with few trials."""
        known = frame[frame["score"].notna()]
        if len(known) < FEWEST or known["score"].nunique() < 2:
            return {}
        return get_param_importances(self.study, evaluator=FanovaImportanceEvaluator(seed=0))

    def _markdown(self, frame: pd.DataFrame) -> str:
        search, names = self.search, [p.name for p in self.search.space]
        ordered = frame.sort_values(
            "estimate", ascending=not self.metric.greater_is_better, na_position="last"
        )
        header = ("trial", "experiment", "state", self.metric.name, *names, "folds", "minutes")
        body = [
            (
                row["trial"], row["exp"], row["state"], _score(row),
                *(shown(row[name]) for name in names), f"{row['units']} of {len(search.units)}",
                f"{row['minutes']:.3g}",
            )
            for _, row in ordered.iterrows()
        ]  # fmt: skip
        better = "higher" if self.metric.greater_is_better else "lower"
        seeds = ", ".join(str(s) for s in dict.fromkeys(seed for seed, _ in search.units))
        lines = [
            f"# {self.paths.comp}: tuning {search.name}", "",
            f"{self.metric.name} out of fold ({better} is better), seeds {seeds}; searched: "
            f"{'; '.join(map(str, search.space))}; sampler {search.sampler}.", "",
            "## What it found", "", *(f"- {line}" for line in self.lines), "",
            "![progress](progress.png)", "", "![sensitivity](sensitivity.png)", "",
            "## Trials", "",
            "~ marks the estimate of a trial that was stopped early: the best trial's score plus "
            "the mean difference on the folds that both finished.", "",
            *table(header, body),
        ]  # fmt: skip
        return "\n".join(lines) + "\n"


def _score(row: pd.Series) -> str:
    """A trial's score; its estimate, marked as one; or why it has none."""
    if not np.isnan(row["score"]):
        return f"{row['score']:.5f}"
    return str(row["reason"]) if np.isnan(row["estimate"]) else f"~{row['estimate']:.5f}"
