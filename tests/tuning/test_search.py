"""What a search belongs to, what it needs, and where its best values may be written."""

import contextlib
import shutil

import pytest

from oofline.config import CFG
from oofline.engines.depot import Depot
from oofline.sharing import _inputs
from oofline.storage import read_json, write_json
from oofline.tuning import run as run_module

PENALTY = (
    "tune", "--comp", "toy", "--kind", "ridge", "--confirm", "0", "--prune", "none", "--name", "p",
    "--sampler", "random",
)  # fmt: skip
SPACE = ("--space", "linear_penalty=log(1e-2,1e2)")


def test_trials_on_other_rows_are_not_compared(write_competition, oofline):
    paths = write_competition(n=60)
    assert oofline(*PENALTY, *SPACE, "--trials", "1")[0] == 0
    paths.folds.rename(paths.output / "former.csv")  # as the file says that changed
    path = paths.input / "train.csv"
    path.write_text(path.read_text() + "\n")
    code, _, err = oofline(*PENALTY, *SPACE, "--trials", "2")
    assert code == 2
    assert "tuning p was started with another train file" in err
    assert not paths.experiment("p-t0001").exists()


def test_the_best_of_a_longer_search_replaces_what_was_not_trained(write_competition, oofline):
    paths = write_competition(n=60)
    apply = (*PENALTY, *SPACE, "--apply", "tuned")
    assert oofline(*apply, "--trials", "1")[0] == 0
    stored = paths.experiment("tuned") / "cfg.json"
    former = read_json(stored)
    write_json(stored, former | {"linear_penalty": 7.0})
    assert oofline(*apply, "--trials", "1")[0] == 0
    assert read_json(stored) == former
    assert oofline("train", "--comp", "toy", "--exp", "tuned", "--from", "tuned")[0] == 0
    code, _, err = oofline(*apply, "--trials", "1")
    assert code == 2
    assert "apply = tuned: this experiment has trained folds" in err


@pytest.mark.parametrize("name", ["a/b", "blend"])
def test_where_the_best_cannot_be_written_is_said_at_once(write_competition, oofline, name):
    paths = write_competition(n=60)
    paths.ensemble("blend").mkdir(parents=True)
    code, _, err = oofline(*PENALTY, *SPACE, "--trials", "1", "--apply", name)
    assert code == 2
    assert name in err
    assert not paths.tuning("p").exists()


def test_nodes_are_given_every_model_that_is_searched_over(
    write_competition, oofline, tmp_path, monkeypatch
):
    paths = write_competition(n=60)
    first = CFG(model=read_model(paths)).model
    other = tmp_path / "other"
    shutil.copytree(first, other)
    works = []
    monkeypatch.setattr(run_module, "engine_ready", lambda *_: contextlib.nullcontext())
    monkeypatch.setattr(run_module, "do_on_cluster", lambda *args: works.append(args))
    code, _, err = oofline(
        "tune", "--comp", "toy", "--space", f"model=choice({first},{other})", "--trials", "2",
        "--engine", "ray",
    )  # fmt: skip
    assert code == 2
    assert "no trial was completed" in err
    cfg, _, work, _ = works[0]
    wanted = {str(first), str(other)}
    assert {further.model for further in work.further} == wanted
    assert _inputs(None, (cfg, *work.further))[1].keys() == wanted
    files, models = _inputs(Depot(str(tmp_path / "store"), paths), (cfg, *work.further))
    assert models.keys() == wanted
    assert {f"{folder}/config.json" for folder in models.values()} < files.keys()


def read_model(paths):
    """The model that the competition's settings name."""
    import tomllib

    return tomllib.loads((paths.input / "cfg.toml").read_text())["model"]
