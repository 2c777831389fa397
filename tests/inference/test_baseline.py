"""`oofline predict` with LightGBM and linear models, alone and in a blend with a transformer."""

import shutil

import pandas as pd
import pytest

from oofline import cli
from oofline.storage import Paths, read_json

KINDS = {"lgbm": "lightgbm", "lin": "logistic"}


@pytest.fixture(scope="module")
def trained_baselines(tmp_path_factory, write_competition_at):
    """Paths of a project with two baselines, a transformer, and the blend of all."""
    root = tmp_path_factory.mktemp("baselines")
    paths = write_competition_at(root, n=48, n_test=12, epochs=1, n_folds=2, metric="roc_auc")
    for name in ("train", "test"):
        frame = pd.read_csv(paths.input / f"{name}.csv", dtype=str)
        extra = {"length": frame["text"].str.len(), "ending": frame["text"].str[-1:]}
        frame.assign(**extra).to_csv(paths.input / f"{name}.csv", index=False)

    def run(verb, *argv):
        assert cli.run([verb, "--comp", "toy", *argv], root) == 0

    for exp, kind in KINDS.items():
        run("train", "--exp", exp, "--kind", kind, "--lgbm-min-rows", "3", "--text-col", "text")
    run("train", "--exp", "net", "--text-col", "text")
    run("ensemble", "--exps", "lgbm,lin,net", "--name", "mix", "--method", "mean")
    return paths


def test_stored_models_alone_predict_what_training_predicted(project, kernel_of, oofline):
    paths = kernel_of(project)
    code, _, _ = oofline(
        paths.root, "predict", "--comp", "toy", "--exp", "mix", "--weights", project.root, "--check"
    )
    assert code == 0
    for exp in (*KINDS, "net"):
        for part in ("seed42/fold0", "seed42/fold1", "."):
            mine, theirs = (
                pd.read_parquet(each.experiment(exp) / part / "test.parquet")
                for each in (paths, project)
            )
            pd.testing.assert_frame_equal(mine, theirs, check_exact=True)
    about = read_json(paths.output / "predict.json")
    assert set(about["max_difference"].values()) == {0.0}
    assert about["precision"] == ["fp32"]
    assert oofline(paths.root, "submission", "--comp", "toy", "--exp", "mix")[0] == 0
    assert oofline(project.root, "submission", "--comp", "toy", "--exp", "mix")[0] == 0
    assert paths.submission.read_bytes() == project.submission.read_bytes()


@pytest.fixture
def project(trained_baselines, tmp_path):
    """A copy of that project that a test may change."""
    shutil.copytree(trained_baselines.root, tmp_path / "project")
    return Paths("toy", tmp_path / "project")


@pytest.fixture
def kernel_of(tmp_path):
    """kernel_of(project) -> Paths of an empty project with the competition's files."""

    def make(project):
        paths = Paths("toy", tmp_path / "kernel")
        paths.input.mkdir(parents=True)
        for name in ("train", "test", "sample_submission"):
            (paths.input / f"{name}.csv").write_bytes((project.input / f"{name}.csv").read_bytes())
        return paths

    return make


@pytest.fixture
def hide(project):
    """hide(**columns): a hidden test file of other texts, with or without columns."""

    def write(paths, drop=()):
        frame = pd.DataFrame({
            "id": ["h1", "h2", "h3"], "text": ["good good", "", "ありがとう ×"],
            "length": ["9", "", "no number"], "ending": ["d", "", "never seen"],
        }).drop(columns=list(drop))  # fmt: skip
        frame.to_csv(paths.input / "test.csv", index=False)
        sample = frame[["id"]].assign(target="0")
        sample.to_csv(paths.input / "sample_submission.csv", index=False)

    return write


@pytest.mark.parametrize("exp", KINDS)
def test_a_hidden_test_file_with_cells_never_seen(project, kernel_of, hide, oofline, exp):
    paths = kernel_of(project)
    hide(paths)
    argv = ("predict", "--comp", "toy", "--exp", exp, "--weights", project.root)
    assert oofline(paths.root, *argv)[0] == 0
    found = pd.read_parquet(paths.experiment(exp) / "test.parquet")
    assert list(found["id"]) == ["h1", "h2", "h3"]
    assert found["pred_target"].between(0, 1).all()
    assert found["pred_target"].nunique() > 1


def test_a_column_that_is_gone_is_named(project, kernel_of, hide, oofline):
    paths = kernel_of(project)
    hide(paths, drop=["ending"])
    argv = ("predict", "--comp", "toy", "--exp", "lin", "--weights", project.root)
    code, _, err = oofline(paths.root, *argv)
    assert code == 2
    assert err.count("\n") == 1
    assert "no column 'ending'" in err


@pytest.mark.parametrize("file", ["model0.txt", "features.json"])
def test_a_swapped_file_is_named(project, kernel_of, oofline, file):
    paths = kernel_of(project)
    path = project.fold("lgbm", 42, 1) / file
    path.write_bytes(path.read_bytes() + b" ")
    argv = ("predict", "--comp", "toy", "--exp", "lgbm", "--weights", project.root)
    code, _, err = oofline(paths.root, *argv)
    assert code == 2
    assert f"{path} is not the file that this fold was trained with" in err


def test_what_was_trained_here_is_not_replaced(project, oofline):
    other = project.root / "here"
    for source in (project.input, project.output / "lin"):
        for file in source.rglob("*.*"):
            if file.is_file():
                target = other / file.relative_to(project.root)
                target.parent.mkdir(parents=True, exist_ok=True)
                target.write_bytes(file.read_bytes())
    argv = ("predict", "--comp", "toy", "--exp", "lin", "--weights", project.root)
    code, _, err = oofline(other, *argv)
    assert code == 2
    assert "is trained here" in err
