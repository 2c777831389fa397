"""What stored models predicted, averaged and blended into the files that a submission is made of.

While predictions are being replaced, ``inputs.json`` names no test file and the averaged
``test.parquet`` is gone: a command that was cut short leaves nothing that mixes two test files.
"""

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from oofline.baselines.stored import FEATURES_FILE
from oofline.errors import DataError
from oofline.inference.needs import Needs
from oofline.models.text_model import WEIGHTS_FILE
from oofline.results import Task
from oofline.scoring.ensemble_files import blend_test
from oofline.scoring.oof import mean_of_folds, read_parquet
from oofline.scoring.stored import ENSEMBLES, Stored, mean_of_seeds, members_that_count
from oofline.scoring.summary import write_frame, write_test
from oofline.storage import Paths, copy_file, read_json, write_json
from oofline.takeup import copy_folds, refuse_other_folds

TEST_FILE = "test file"
"""Key of the test file's SHA-256 in inputs.json."""


class Delivery:
    """Takes predictions from where models are stored to where the submission is made.

    Args:
        needs: what predicts.
        stored: where the models are.
        paths: where predictions go; the same folder, where models were trained here.
    """

    def __init__(self, needs: Needs, stored: Paths, paths: Paths) -> None:
        self.needs, self.stored, self.paths = needs, stored, paths
        self.apart = stored is not paths

    def refuse_trained(self) -> None:
        """Results copied from elsewhere must not replace what was trained here (DataError)."""
        refuse_other_folds(self.stored, self.paths)
        for exp in self.needs.seeds:
            folder = self.paths.experiment(exp)
            for name in (WEIGHTS_FILE, FEATURES_FILE, "state.safetensors"):
                if any(folder.glob(f"seed*/fold*/{name}")):
                    raise DataError(
                        f"{folder} is trained here: leave out --weights, or set OOFLINE_ROOT to "
                        "another folder"
                    )

    def begin(self) -> None:
        """Take away what is about to be replaced, and copy what needs no prediction."""
        for folder in self._folders():
            for name in ("test.parquet", "scores.json")[: 1 + self.apart]:
                (folder / name).unlink(missing_ok=True)
        if self.apart:
            copy_folds(self.stored, self.paths)
        for exp in self.needs.seeds:
            self._write_inputs(exp, "")
            if self.apart:
                self._copy(f"{exp}/cfg.json", f"{exp}/oof.parquet")
        for unit in self.needs.units if self.apart else []:
            self._copy(f"{self._below(unit)}/oof.parquet")

    def finish(self, task: Task, test_ids: np.ndarray, test_sha256: str) -> None:
        """Average folds and seeds, blend ensembles, and write what a submission reads.

        Args:
            task: gives the outputs.
            test_ids: (n_test,) str.
            test_sha256: of the test file.
        """
        index = pd.Index(test_ids)
        for exp, seeds in self.needs.seeds.items():
            folds, folder = self.needs.folds[exp], self.paths.experiment(exp)
            test = [mean_of_folds(self.paths, exp, s, folds, task, index) for s in seeds]
            write_test(folder, task, seeds, test_ids, test)
            self._join_validation(exp)
            self._write_inputs(exp, test_sha256)
        for name, blend in self.needs.ensembles.items():
            self._blend(name, blend, task)
        if self.apart:
            self._copy(*(f"{self._below(unit)}/scores.json" for unit in self.needs.units))
            self._copy(*(f"{exp}/scores.json" for exp in self.needs.whole))
            self._copy(*(f"ensembles/{name}/scores.json" for name in self.needs.ensembles))

    def _folders(self) -> list[Path]:
        return [
            *(self.paths.experiment(exp) for exp in self.needs.seeds),
            *(self.paths.ensemble(name) for name in self.needs.ensembles),
        ]

    def _below(self, unit: tuple[str, int, int]) -> str:
        return self.paths.fold(*unit).relative_to(self.paths.output).as_posix()

    def _copy(self, *names: str) -> None:
        """Copy files by their paths below output/<comp>, those that are there."""
        for name in names:
            if (self.stored.output / name).is_file():
                copy_file(self.stored.output / name, self.paths.output / name)

    def _write_inputs(self, exp: str, test_sha256: str) -> None:
        source = self.stored.experiment(exp) / "inputs.json"
        inputs = read_json(source) if source.is_file() else {}
        write_json(self.paths.experiment(exp) / "inputs.json", inputs | {TEST_FILE: test_sha256})

    def _join_validation(self, exp: str) -> None:
        """The experiment's oof.parquet, from its folds' where it was not copied as a whole."""
        target = self.paths.experiment(exp) / "oof.parquet"
        parts = [self.paths.fold(*u) / "oof.parquet" for u in self.needs.units if u[0] == exp]
        if not target.is_file() and all(part.is_file() for part in parts):
            write_frame(target, [read_parquet(part) for part in parts])

    def _blend(self, name: str, blend: dict[str, Any], task: Task) -> None:
        folder, weights = self.paths.ensemble(name), members_that_count(blend)
        members = [self._member(spec, task, blend["method"] == "rank_mean") for spec in weights]
        test = blend_test(members, blend["method"], np.stack(list(weights.values())))
        write_test(folder, task, [-1], members[0].test_ids, [test])
        if self.apart:
            self._copy(*(f"ensembles/{name}/{f}" for f in ("weights.json", "ensemble.md")))
            self._copy(f"ensembles/{name}/oof.parquet")

    def _member(self, spec: str, task: Task, ranked: bool) -> Stored:
        name, _, seed = spec.partition("@")
        folder = self.paths.experiment(name)
        if name not in self.needs.seeds:
            folder = self.paths.ensemble(name.removeprefix(ENSEMBLES))
        test, test_ids = mean_of_seeds(folder / "test.parquet", task, seed)
        pred = np.zeros((0, task.n_outputs))
        if ranked:
            pred = mean_of_seeds(folder / "oof.parquet", task, seed)[0]
        return Stored(spec, pred, np.zeros(len(pred), np.int64), test, test_ids, {})
