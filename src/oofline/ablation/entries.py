"""What is known of each arm: its finished units, its failures, and its contrast with the base."""

from dataclasses import dataclass
from typing import Any

import numpy as np

from oofline.ablation.arms import Arm
from oofline.ablation.contrast import Contrast, Rows, Runs, contrast, decided
from oofline.ablation.units import at_chance, read_runs
from oofline.crossval import Unit, is_done
from oofline.data.folds import Folds
from oofline.storage import Paths, read_json

Failures = dict[tuple[str, Unit], str]
"""(arm, unit) -> why it failed."""


@dataclass(frozen=True)
class Entry:
    """One arm's results.

    Attributes:
        arm: what was tried.
        contrast: with the base; None where the two have nothing in common.
        seeds: those of ``contrast``, in its order.
        scores: contents of scores.json of its finished units.
        failures: why its other units failed.
        n_at_chance: finished units that score no better than a constant prediction.
    """

    arm: Arm
    contrast: Contrast | None
    seeds: list[int]
    scores: dict[Unit, dict[str, Any]]
    failures: list[str]
    n_at_chance: int

    @property
    def n_units(self) -> int:
        """Units that were tried."""
        return len(self.scores) + len(self.failures)

    def ratio(self, base: "Entry", key: str) -> float:
        """A figure of scores.json relative to base: median over the units that both finished.

        The median, because one unit that shared the machine with something else says little.
        """
        pairs = [
            (self.scores[u].get(key), base.scores[u].get(key))
            for u in self.scores
            if u in base.scores
        ]
        return float(np.median([ours / its for ours, its in pairs if ours and its] or [np.nan]))


def gather(
    arms: list[Arm], paths: Paths, rows: Rows, folds: Folds, units: list[Unit], failures: Failures
) -> list[Entry]:
    """Read every arm's units and compare each arm with the first one, the base.

    Args:
        arms: the base first.
        paths: of the competition.
        rows: in the order of ``folds``.
        folds: which row validates where.
        units: those asked for; only those that every arm has finished or failed count.
        failures: of all arms.
    """
    done = {arm.name: {u for u in units if is_done(paths.fold(arm.cfg.exp, *u))} for arm in arms}
    tried = [u for u in units if all(u in done[a.name] or (a.name, u) in failures for a in arms)]
    entries: list[Entry] = []
    base: Runs | None = None
    for arm in arms:
        runs = read_runs(paths, arm.cfg.exp, rows.task, folds.ids, folds.fold, tried)
        base = runs if base is None else base
        seeds = np.array(list(dict.fromkeys(seed for seed, _ in tried)), dtype=np.int64)
        shared = seeds[(runs.there & base.there).any(axis=1)]
        finished = [u for u in tried if u in done[arm.name]]
        entries.append(
            Entry(
                arm, contrast(rows, runs, base), [int(seed) for seed in shared],
                {u: read_json(paths.fold(arm.cfg.exp, *u) / "scores.json") for u in finished},
                [failures[arm.name, u] for u in tried if u not in done[arm.name]],
                _count_at_chance(rows, runs, folds),
            )
        )  # fmt: skip
    return entries


def _count_at_chance(rows: Rows, runs: Runs, folds: Folds) -> int:
    """Finished units at chance level; thresholds cross-fitted as in the arm's score."""
    total = 0
    for pred, mask in zip(runs.pred, runs.there, strict=True):
        inputs = decided(rows.task, rows.y, pred, mask, rows.fold)
        for k in np.unique(rows.fold[mask]):
            train, valid = folds.train_rows(int(k)), folds.valid_rows(int(k))
            total += at_chance(rows.task, rows.y[train], rows.y[valid], inputs[valid])
    return total
