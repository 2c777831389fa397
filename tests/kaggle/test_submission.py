"""submission.csv: joined by id, in the sample's shape and the labels' original form, checked."""

import os
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from oofline.errors import ConfigError, DataError
from oofline.kaggle.submission import check_submission, make_submission, validate_submission
from oofline.results import Task, prediction_frame
from oofline.storage import Paths, read_json, write_json

BINARY = Task("binary", ("target",), ("0", "1"), ("target",), "f1", "label")
CHANCE = Task("binary", ("target",), ("0", "1"), ("target",), "roc_auc", "probability")
WORDS = ("negative", "neutral", "positive")
CLASSES = Task("multiclass", ("label",), WORDS, WORDS, "accuracy", "label")
PER_CLASS = Task("multiclass", ("label",), WORDS, WORDS, "log_loss", "probability")
VALUES = Task("regression", ("target",), (), ("target",), "rmse", "value")
DATA = Path(
    os.environ.get("OOFLINE_DATA", Path(__file__).resolve().parents[2].parent / "shared" / "data")
)


@pytest.fixture
def paths(tmp_path) -> Paths:
    return Paths("comp", tmp_path)


def sample_of(ids, **columns) -> pd.DataFrame:
    return pd.DataFrame({"id": ids, **columns}).astype(str)


def store(paths, task, ids, preds, name="base", threshold=0.5, ensemble=False):
    """Write test.parquet (rows shuffled, one block per seed) and scores.json."""
    folder = paths.ensemble(name) if ensemble else paths.experiment(name)
    folder.mkdir(parents=True)
    rng, frames = np.random.default_rng(0), []
    for seed, pred in enumerate(preds):
        order = rng.permutation(len(ids))
        frames.append(prediction_frame(task, np.array(ids)[order], seed, -1, pred=pred[order]))
    pd.concat(frames).to_parquet(folder / "test.parquet")
    scores = {"metric": task.metric, "score": 0.8, "ci95": [0.7, 0.9], "seeds": [0]}
    write_json(folder / "scores.json", scores | {"threshold": threshold})


def read(paths) -> pd.DataFrame:
    return pd.read_csv(paths.submission, dtype=str, na_filter=False)


def test_values_are_joined_by_id_and_averaged_over_seeds(paths):
    ids = [f"t{i}" for i in range(200)]
    preds = [np.arange(200.0)[:, None], np.arange(200.0)[:, None] + 1]
    store(paths, VALUES, ids, preds)
    shuffled = np.random.default_rng(1).permutation(200)
    sample = sample_of(np.array(ids)[shuffled], target="0")
    assert make_submission(paths, VALUES, sample, "id", "base") == paths.submission
    found = read(paths)
    assert (found["id"] == sample["id"]).all()
    np.testing.assert_allclose(found["target"].astype(float), shuffled + 0.5)


def test_labels_use_the_stored_threshold(paths):
    store(paths, BINARY, ["a", "b", "c"], [np.array([[0.2], [0.31], [0.6]])], threshold=0.3)
    make_submission(paths, BINARY, sample_of(["c", "a", "b"], target="0"), "id", "base")
    assert read(paths)["target"].tolist() == ["1", "0", "1"]
    assert read_json(paths.output / "submission.json")["threshold"] == 0.3


def test_a_threshold_of_zero_is_kept(paths):
    store(paths, BINARY, ["a", "b"], [np.array([[0.0], [0.1]])], threshold=0.0)
    make_submission(paths, BINARY, sample_of(["a", "b"], target="0"), "id", "base")
    assert read(paths)["target"].tolist() == ["0", "1"]


def test_string_labels_come_back_in_their_original_form(paths):
    store(paths, CLASSES, ["a", "b", "c"], [np.eye(3)[[2, 0, 1]]])
    make_submission(paths, CLASSES, sample_of(["b", "c", "a"], label="neutral"), "id", "base")
    assert read(paths)["label"].tolist() == ["negative", "neutral", "positive"]


@pytest.mark.parametrize(
    ("labels", "placeholder", "written"),
    [
        (("0.0", "1.0"), "0", ["0", "1"]),
        (("0.0", "1.0"), "0.0", ["0.0", "1.0"]),
        (("False", "True"), "False", ["False", "True"]),
        (("no", "yes"), "0", ["no", "yes"]),
    ],
)
def test_whole_numbers_where_the_sample_has_them(labels, placeholder, written, paths):
    task = Task("binary", ("target",), labels, ("target",), "accuracy", "label")
    store(paths, task, ["a", "b"], [np.array([[0.1], [0.9]])])
    make_submission(paths, task, sample_of(["a", "b"], target=placeholder), "id", "base")
    assert read(paths)["target"].tolist() == written


def test_probabilities_are_not_rounded_by_an_integer_placeholder(paths):
    store(paths, CHANCE, ["a", "b"], [np.array([[0.25], [0.875]])], threshold=None)
    make_submission(paths, CHANCE, sample_of(["a", "b"], target="0"), "id", "base")
    assert read(paths)["target"].tolist() == ["0.25", "0.875"]


def test_one_column_per_class_in_the_samples_order(paths):
    pred = np.array([[0.5, 0.25, 0.25], [0.125, 0.125, 0.75]])
    store(paths, PER_CLASS, ["a", "b"], [pred])
    sample = sample_of(["a", "b"], positive="0", negative="1", neutral="0")
    make_submission(paths, PER_CLASS, sample, "id", "base")
    found = read(paths)
    assert list(found.columns) == ["id", "positive", "negative", "neutral"]
    assert found.iloc[1].tolist() == ["b", "0.75", "0.125", "0.125"]


def test_values_scored_by_kappa_are_rounded(paths):
    task = Task("regression", ("target",), (), ("target",), "qwk", "value")
    store(paths, task, ["a", "b"], [np.array([[1.6], [3.2]])])
    make_submission(paths, task, sample_of(["a", "b"], target="0"), "id", "base")
    assert read(paths)["target"].tolist() == ["2", "3"]


def test_submission_json_says_where_it_came_from(paths):
    store(paths, VALUES, ["a"], [np.array([[1.5]])], name="blend", ensemble=True)
    make_submission(paths, VALUES, sample_of(["a"], target="0"), "id", "blend")
    about = read_json(paths.output / "submission.json")
    assert (about["source"], about["score"], about["ci95"]) == ("blend", 0.8, [0.7, 0.9])
    assert about["rows"] == 1
    assert about["time"].startswith("20")
    assert sorted(f.name for f in paths.output.iterdir()) == [
        "ensembles",
        "submission.csv",
        "submission.json",
    ]


def test_unknown_name_lists_what_is_there(paths):
    store(paths, VALUES, ["a"], [np.ones((1, 1))], name="awp")
    store(paths, VALUES, ["a"], [np.ones((1, 1))], name="blend", ensemble=True)
    with pytest.raises(DataError, match="no experiment or ensemble 'best'; there: awp, blend"):
        make_submission(paths, VALUES, sample_of(["a"], target="0"), "id", "best")


def test_an_id_without_prediction_writes_nothing(paths):
    store(paths, VALUES, ["a", "b"], [np.ones((2, 1))])
    with pytest.raises(DataError, match=r"1 ids have no prediction \(c\)"):
        make_submission(paths, VALUES, sample_of(["a", "c"], target="0"), "id", "base")
    assert not paths.submission.exists()


@pytest.mark.parametrize(
    ("task", "pred", "message"),
    [
        (VALUES, [[np.nan]], "1 rows hold no finite number, the first in line 2"),
        (VALUES, [[np.inf]], "no finite number"),
        (CHANCE, [[1.2]], "outside 0 to 1"),
        (PER_CLASS, [[0.5, 0.5, 0.5]], "do not sum to one"),
    ],
)
def test_a_bad_result_never_gets_the_name(task, pred, message, paths):
    store(paths, task, ["a"], [np.array(pred)])
    paths.submission.write_text("the one before")
    columns = dict.fromkeys(task.outputs, "0") if task is PER_CLASS else {"target": "0"}
    with pytest.raises(DataError, match=message):
        make_submission(paths, task, sample_of(["a"], **columns), "id", "base")
    assert paths.submission.read_text() == "the one before"
    assert not list(paths.output.glob(".*"))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("id,label\na,neutral\nb,happy\n", "1 labels in column label are not known .*'happy'"),
        ("id,label\na,neutral\nb,\n", "labels in column label are not known"),
        ("id,label\nb,neutral\na,neutral\n", "another order"),
        ("id,label\na,neutral\nc,neutral\n", r"1 ids .* missing and 1 are strange .*\(.*b\)"),
        ("id,label\na,neutral\n", "1 ids of sample_submission are missing"),
        ("id,label\na,neutral\nb,neutral\nb,neutral\n", "3 rows, sample_submission has 2"),
        ("id,target\na,neutral\nb,neutral\n", "its columns are id, target"),
        ("", "cannot be read"),
        ("id,label\na,b,c,d\n\n1,2\n", "columns|cannot be read|ids"),
    ],
)
def test_any_file_can_be_validated(text, message, tmp_path):
    path = tmp_path / "submission.csv"
    path.write_text(text)
    with pytest.raises(DataError, match=message):
        validate_submission(path, sample_of(["a", "b"], label="neutral"), "id", CLASSES)


def test_a_good_file_is_returned_as_text(tmp_path):
    path = tmp_path / "submission.csv"
    path.write_text("id,label\na,neutral\nb,positive\n")
    found = validate_submission(path, sample_of(["a", "b"], label="neutral"), "id", CLASSES)
    assert found["label"].tolist() == ["neutral", "positive"]


def test_columns_that_do_not_fit_the_task(paths):
    store(paths, PER_CLASS, ["a"], [np.full((1, 3), 1 / 3)])
    with pytest.raises(ConfigError, match="no column neutral for the probability"):
        make_submission(
            paths, PER_CLASS, sample_of(["a"], negative="0", positive="0"), "id", "base"
        )


def test_other_columns_of_the_sample_stay(paths):
    store(paths, VALUES, ["a", "b"], [np.array([[1.5], [2.5]])])
    sample = sample_of(["a", "b"], usage="public", target="0")
    make_submission(paths, VALUES, sample, "id", "base")
    assert paths.submission.read_text() == "id,usage,target\na,public,1.5\nb,public,2.5\n"


@pytest.mark.skipif(not DATA.is_dir(), reason="no competition data: set OOFLINE_DATA")
@pytest.mark.parametrize(
    ("name", "task", "target"),
    [("disaster", BINARY, "target"), ("sentiment-ja", CLASSES, "label"),
     ("commonlit", VALUES, "target")],
)  # fmt: skip
def test_real_samples(name, task, target, paths):
    sample = pd.read_csv(DATA / name / "sample_submission.csv", dtype=str, na_filter=False)
    rng = np.random.default_rng(0)
    pred = rng.dirichlet(np.ones(3), len(sample))[:, : task.n_outputs]
    store(paths, task, sample["id"].tolist(), [pred], threshold=0.4)
    make_submission(paths, task, sample, "id", "base")
    found = read(paths)
    assert (found["id"] == sample["id"]).all()
    expected = {
        "disaster": lambda: (pred[:, 0] > 0.4).astype(int).astype(str).tolist(),
        "sentiment-ja": lambda: [WORDS[k] for k in pred.argmax(1)],
        "commonlit": lambda: [repr(float(v)) for v in pred[:, 0]],
    }[name]()
    assert found[target].tolist() == expected


def test_answers_that_are_all_empty_are_no_submission():
    task = Task("qa", ("answer",), (), ("start", "end"), "answer_f1", "answer", longest=9)
    sample = pd.DataFrame({"id": ["a", "b"], "PredictionString": ["", ""]})
    with pytest.raises(DataError, match="every answer in column PredictionString is empty"):
        check_submission(sample, sample, "id", task)
    check_submission(sample.assign(PredictionString=["", "x"]), sample, "id", task)
