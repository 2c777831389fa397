"""One stored fold of a baseline predicts: its n-grams, tables' columns and models, no network."""

import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from oofline.baselines.fitting import Baseline
from oofline.baselines.rows import source_of_rows
from oofline.baselines.stored import load_baseline
from oofline.config import CFG
from oofline.data.competition import Competition
from oofline.data.encoding import Row
from oofline.inference.files import stored_validation, write_test_predictions
from oofline.inference.needs import Unit
from oofline.storage import Paths
from oofline.training.guard import Guard
from oofline.training.precision import Precision, choose_precision


@dataclass(frozen=True)
class StoredBaseline:
    """A loaded fold of a baseline.

    Attributes:
        unit: which fold.
        folder: its files (read only).
        cfg: settings of its experiment.
        baseline: as loaded.
        paths: where predictions go.
        guard: notices interrupts.
        precision: of a CPU without reduced formats: what baselines compute in.
    """

    unit: Unit
    folder: Path
    cfg: CFG
    baseline: Baseline
    paths: Paths
    guard: Guard
    precision: Precision

    def predict_test(self, competition: Competition) -> float:
        """Write the fold's test.parquet; returns the seconds it took from texts to predictions."""
        started = time.perf_counter()
        pred = self._predict(competition.test_rows, competition.test)
        seconds = time.perf_counter() - started
        target = self.paths.fold(*self.unit)
        write_test_predictions(
            target, competition.task, competition.test_ids, self.unit, pred,
            f"restore {self.folder}",
        )  # fmt: skip
        return seconds

    def check(self, competition: Competition, n_rows: int) -> tuple[float | None, int]:
        """Predict validation rows again: (largest absolute difference, rows compared)."""
        at, wanted = stored_validation(self.folder, competition)
        some = np.unique(np.linspace(0, len(at) - 1, min(n_rows, len(at))).astype(np.int64))
        if not len(some):
            return None, 0
        rows = [competition.train_rows[row] for row in at[some]]
        found = self._predict(rows, competition.train.iloc[at[some]])
        return float(np.abs(found - wanted[some]).max()), len(some)

    def _predict(self, rows: Sequence[Row], table: pd.DataFrame) -> np.ndarray:
        """(r, T) float64 predictions of rows."""
        self.guard.check()
        features = self.baseline.features
        source = source_of_rows(
            self.cfg, self.paths, features.recipe, features.tfidfs, rows, table
        )  # fmt: skip
        return self.baseline.predict(features.transform(source, np.arange(len(rows))))


def open_baseline(unit: Unit, folder: Path, cfg: CFG, paths: Paths, guard: Guard) -> StoredBaseline:
    """Load a fold of a baseline.

    Raises:
        DataError: a file is missing or damaged.
    """
    precision = choose_precision(CFG(device="cpu", precision="fp32"))
    return StoredBaseline(unit, folder, cfg, load_baseline(folder), paths, guard, precision)
