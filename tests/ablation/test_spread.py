"""Arms on a cluster: the same units and files as here; the cluster works in this process."""

import contextlib
import shutil

import pandas as pd
import pytest

from oofline import cli
from oofline.ablation import spread
from oofline.engines.dispatch import Failure
from oofline.engines.store import Store
from oofline.engines.stored_fold import StoredFold
from oofline.errors import OoflineError
from oofline.storage import read_json


@pytest.fixture
def cluster(monkeypatch):
    """Notes the jobs that a cluster is given, and does them here; a job of arm "low" fails."""
    given = []

    def do(cfg, paths, work, guard):
        assert work.go_on
        assert work.alone
        outcomes = []
        train = work.start(paths, "cpu", guard)
        for job in work.jobs:
            given.append(work.name(job))
            try:
                if "-low " in work.name(job):
                    raise OoflineError("a node said no")
                outcomes.append(train(job))
            except OoflineError as error:
                outcomes.append(Failure(job, str(error)))
        return outcomes

    monkeypatch.setattr(spread, "do_on_cluster", do)
    monkeypatch.setattr(spread, "engine_ready", lambda cfg, n: contextlib.nullcontext())
    return given


def test_arms_take_turns_and_a_failure_is_in_the_table(
    write_competition, cluster, tmp_path, capsys
):
    paths = write_competition("binary", 60)
    arms = tmp_path / "arms.toml"
    arms.write_text(
        "[arms.plain]\n[arms.high]\nlinear_penalty = 10.0\n[arms.low]\nlinear_penalty = 0.1\n"
    )
    code = cli.run(
        ["ablation", "--comp", "toy", "--arms", "plain,high,low", "--file", str(arms), "--fold",
         "0,1", "--engine", "ray", "--kind", "ridge"],
        tmp_path,
    )  # fmt: skip
    assert code == 2
    assert "2 of 6 units failed (the first: a node said no)" in capsys.readouterr().err
    names = ("plain", "high", "low")
    assert cluster == [f"ablation-{arm} seed 42 fold {k}" for k in (0, 1) for arm in names]
    frame = pd.read_csv(paths.output / "ablations" / "ablation" / "table.csv")
    assert set(frame["arm"]) == set(names)
    for arm in ("plain", "high"):
        assert read_json(paths.fold(f"ablation-{arm}", 42, 1) / "scores.json")["n_rows"] == 20
    assert not (paths.fold("ablation-low", 42, 0) / "scores.json").exists()


def test_what_a_store_holds_finished_is_fetched_and_not_trained_again(
    write_competition, cluster, tmp_path, capsys
):
    paths = write_competition("binary", 60)
    url = str(tmp_path / "store")
    words = ["ablation", "--comp", "toy", "--arms", "base", "--fold", "0,1", "--engine", "ray",
             "--kind", "ridge", "--shared-storage", url]  # fmt: skip
    assert cli.run(words, tmp_path) == 0, capsys.readouterr().err
    fold = paths.fold("ablation-base", 42, 1)
    key = fold.relative_to(paths.root).as_posix()
    scores = read_json(fold / "scores.json")
    StoredFold(Store(url), key).put(fold, {}, weights=True)
    shutil.rmtree(fold)
    shutil.rmtree(paths.fold("ablation-base", 42, 0))
    cluster.clear()
    assert cli.run(words, tmp_path) == 0
    assert cluster == ["ablation-base seed 42 fold 0"]
    assert read_json(fold / "scores.json") == scores
