"""Names that differ: the target's from the sample's column, an ensemble's from an experiment's."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from oofline.config import CFG
from oofline.data.competition import Competition, read_competition
from oofline.kaggle.submission import make_submission
from oofline.results import prediction_frame
from oofline.storage import Paths, write_json


@pytest.fixture
def paths(tmp_path) -> Paths:
    """A competition whose sample says "prediction" where train says "target"."""
    paths = Paths("comp", tmp_path)
    tables = {
        "train": {
            "id": range(20),
            "text": [f"{word} {i}" for i, word in enumerate(["storm", "garden"] * 10)],
            "target": ["calm", "alarm"] * 10,
        },
        "test": {"id": [100, 101, 102], "text": ["a storm", "a garden", "a river"]},
        "sample_submission": {"id": [102, 100, 101], "prediction": ["calm"] * 3},
    }
    paths.input.mkdir(parents=True)
    for stem, table in tables.items():
        pd.DataFrame(table).to_csv(paths.input / f"{stem}.csv", index=False)
    return paths


def store(folder: Path, competition: Competition, pred: list[float]) -> None:
    folder.mkdir(parents=True)
    block = np.array(pred)[:, None]
    frame = prediction_frame(competition.task, competition.test_ids, 42, -1, pred=block)
    frame.to_parquet(folder / "test.parquet")
    scores = {"metric": "f1", "score": 0.8, "ci95": [0.7, 0.9], "seeds": [42], "threshold": 0.5}
    write_json(folder / "scores.json", scores)


def submit(paths: Paths, competition: Competition, name: str) -> list[str]:
    make_submission(paths, competition.task, competition.sample, competition.id_col, name)
    return paths.submission.read_text().split()


@pytest.mark.parametrize("settings", [{}, {"target_col": "target"}])
def test_a_target_of_another_name_goes_to_the_samples_own_column(settings, paths):
    competition = read_competition(CFG(comp="comp", **settings), paths)
    task = competition.task
    assert (task.targets, task.outputs) == (("target",), ("target",))
    assert task.labels == ("alarm", "calm")
    store(paths.experiment("base"), competition, [0.9, 0.1, 0.8])
    assert submit(paths, competition, "base") == ["id,prediction", "102,calm", "100,calm",
                                                  "101,alarm"]  # fmt: skip


def test_an_experiment_comes_before_an_ensemble_of_its_name(paths):
    competition = read_competition(CFG(comp="comp"), paths)
    store(paths.experiment("blend"), competition, [0.9, 0.9, 0.9])
    store(paths.ensemble("blend"), competition, [0.1, 0.1, 0.1])
    assert submit(paths, competition, "blend")[1:] == ["102,calm", "100,calm", "101,calm"]
    assert submit(paths, competition, "ensembles/blend")[1:] == [
        "102,alarm", "100,alarm", "101,alarm",
    ]  # fmt: skip
