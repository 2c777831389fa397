"""A trained project, made once: experiments, ensembles, and copies of it to spoil."""

import shutil

import pandas as pd
import pytest

from oofline import cli
from oofline.storage import Paths


@pytest.fixture(scope="session")
def trained(tmp_path_factory, write_competition_at):
    """Paths of a project with base (EMA, seeds 1 and 2), other (mixout, a template) and blends."""
    root = tmp_path_factory.mktemp("trained")
    paths = write_competition_at(root, n=48, n_test=12, epochs=1, n_folds=2, metric="roc_auc")

    def run(verb, **options):
        argv = [
            word for name, value in options.items()
            for word in (f"--{name.replace('_', '-')}", str(value))
        ]  # fmt: skip
        assert cli.run([verb, "--comp", "toy", *argv], root) == 0

    run("train", seed="1,2", ema_decay=0.5)
    run("train", exp="other", seed="1", mixout_p=0.3, pooling="max", text_template="{text} {id}")
    run("ensemble", exps="base@2,other", name="blend", method="mean")
    run("ensemble", exps="base,other", name="ranks", method="rank_mean")
    run("ensemble", exps="blend,base@1", name="both", method="mean")
    return paths


@pytest.fixture
def project(trained, tmp_path):
    """A copy of the trained project that a test may change."""
    shutil.copytree(trained.root, tmp_path / "project")
    return Paths("toy", tmp_path / "project")


@pytest.fixture
def kernel(trained, tmp_path):
    """kernel() -> Paths of an empty project with the competition's files, as a kernel has it."""

    def make(name="kernel"):
        paths = Paths("toy", tmp_path / name)
        shutil.copytree(trained.input, paths.input, ignore=shutil.ignore_patterns("cfg.toml"))
        return paths

    return make


@pytest.fixture
def write_test():
    """write_test(paths, frame): the test file from now on, with a sample that fits."""

    def write(paths, frame):
        frame.to_csv(paths.input / "test.csv", index=False)
        sample = frame[["id"]].assign(target="0")
        sample.to_csv(paths.input / "sample_submission.csv", index=False)

    return write


@pytest.fixture
def hidden(trained):
    """A hidden test file: the public rows under new ids, twice, one empty text, one unseen."""
    public = pd.read_csv(trained.input / "test.csv")
    twice = pd.concat([public, public], ignore_index=True)
    more = pd.DataFrame({"text": [None, "an unseen row é の 1"]})
    frame = pd.concat([twice, more], ignore_index=True)
    return frame.assign(id=[f"h{n}" for n in range(len(frame))])


@pytest.fixture
def oofline(capsys):
    """oofline(root, "predict", ...) -> (exit code, stdout, stderr)."""

    def run(root, *argv):
        capsys.readouterr()
        code = cli.run([str(word) for word in argv], root)
        return code, *capsys.readouterr()

    return run
