from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

from oofline.config import CFG
from oofline.data.competition import Competition, read_competition
from oofline.errors import ConfigError, DataError
from oofline.storage import Paths, sha256_of

Read = Callable[..., Competition]
Write = Callable[..., None]


def test_disaster(read_real: Read) -> None:
    found = read_real("disaster")
    assert found.task.kind == "binary"
    assert found.task.labels == ("0", "1")
    assert (found.task.metric, found.task.asks) == ("f1", "label")
    assert found.text_description == 'column "text" (longest by content)'
    assert found.y.dtype == np.int64
    assert (len(found.train_ids), len(found.test_ids), found.y.sum()) == (7613, 3263, 3271)
    assert found.train_texts[0].startswith("Our Deeds are the Reason")


def test_commonlit(read_real: Read) -> None:
    found = read_real("commonlit")
    assert found.task.kind == "regression"
    assert (found.task.metric, found.task.asks) == ("rmse", "value")
    assert found.y.shape == (2267, 1)
    assert found.y[0, 0] == pytest.approx(-0.340259125)
    assert 'column "excerpt"' in found.text_description
    assert "ignored columns, not in test: standard_error" in found.notes


def test_sentiment_ja(read_real: Read) -> None:
    found = read_real("sentiment-ja")
    assert found.task.kind == "multiclass"
    assert found.task.labels == found.task.outputs == ("negative", "neutral", "positive")
    assert np.bincount(found.y).tolist() == [1000, 1000, 1000]
    assert (found.task.metric, found.task.asks) == ("accuracy", "label")
    assert 'column "text"' in found.text_description


def test_squad(read_real: Read) -> None:
    found = read_real("squad")
    assert (found.task.kind, found.task.metric, found.task.asks) == ("qa", "answer_f1", "answer")
    assert found.group_col == "title"
    assert found.task.longest == 160
    assert found.y[0].text == "Denver Broncos"
    assert all(a.context.startswith(a.text, a.start) for a in found.y)
    assert found.train_pairs[0].question.startswith("Which NFL team represented the AFC")


def test_a_real_competition_with_six_targets(read_real: Read) -> None:
    found = read_real("ell")
    names = ("cohesion", "syntax", "vocabulary", "phraseology", "grammar", "conventions")
    assert (found.task.kind, found.task.metric, found.task.outputs) == (
        "multi-target", "mcrmse", names,
    )  # fmt: skip
    assert found.y.shape == (len(found.train_ids), 6)
    assert (found.y.min(), found.y.max()) == (1.0, 5.0)


def test_a_real_competition_of_pairs(read_real: Read) -> None:
    found = read_real("mrpc")
    assert (found.task.kind, found.task.metric) == ("binary", "f1")
    first, second = found.train_pairs[0]
    assert first.startswith("Amrozi accused")
    assert second.startswith("Referring to him")
    assert found.train_texts[0] == f"{first} || {second}"
    assert any('sentence pair, columns "sentence1" and "sentence2"' in note for note in found.notes)


def test_a_sentence_pair_can_be_joined(read_real: Read) -> None:
    found = read_real("mrpc", text_template="{sentence1} ### {sentence2}")
    assert found.task.kind == "binary"
    assert '"the witness"' in found.train_texts[0]
    assert "### Referring to him" in found.train_texts[0]


def test_rows_ids_hash_and_notes(read: Read, write: Write, paths: Paths) -> None:
    write()
    found = read()
    assert found.train_ids.tolist() == [str(i) for i in range(40)]
    assert found.test_ids.tolist() == ["1000", "1001", "1002"]
    assert found.train_sha256 == sha256_of(paths.input / "train.csv")
    assert any("40 training rows, 3 test rows" in note for note in found.notes)
    assert any("task: binary" in note and "metric f1" in note for note in found.notes)


def test_ids_are_text_and_the_order_of_test_may_differ_from_the_sample(
    read: Read, write: Write
) -> None:
    write(
        test={"id": ["007", "08", "900"]},
        sample={"id": ["900", "007", "08"], "target": [0, 0, 0]},
    )
    found = read()
    assert found.test_ids.tolist() == ["007", "08", "900"]
    assert found.sample["id"].tolist() == ["900", "007", "08"]


@pytest.mark.parametrize(
    ("tables", "message"),
    [
        ({"train": {"id": [0, *range(39)]}}, "train: 1 ids stand more than once .* example 0"),
        ({"test": {"id": [1000, 1000, 1001]}}, "test: 1 ids stand more than once"),
        (
            {"sample": {"id": [1000, 1001, 1002, 1002], "target": [0] * 4}},
            "sample_submission: 1 ids stand more than once",
        ),
        (
            {"test": {"id": [5, 6, 1000]}, "sample": {"id": [5, 6, 1000], "target": [0] * 3}},
            "test: 2 ids stand in train as well .* example 5, 6",
        ),
        (
            {"sample": {"id": [1000, 1001], "target": [0] * 2}},
            "test: 1 ids are missing from sample_submission .* example 1002",
        ),
        (
            {"sample": {"id": [1000, 1001, 1002, 77], "target": [0] * 4}},
            "sample_submission: 1 ids are missing from test .* example 77",
        ),
        ({"test": {"id": [1000, 1001, None]}}, 'test: "id" is empty in row 3'),
        ({"sample": {"row": [1000, 1001, 1002], "target": [0] * 3}}, 'id column "row"'),
    ],
)
def test_bad_ids(read: Read, write: Write, tables: dict, message: str) -> None:
    write(**tables)
    with pytest.raises(DataError, match=message):
        read()


def test_a_set_column_that_is_missing_names_the_nearest(read: Read, write: Write) -> None:
    write(train={"author": ["a", "b"] * 20})
    for field, value, near in (
        ("id_col", "idd", "id"), ("text_col", "txt", "text"), ("group_col", "auther", "author"),
        ("time_col", "autor", "author"), ("text_template", "{id} {texts}", "text"),
    ):  # fmt: skip
        with pytest.raises(ConfigError, match=f'{field}: column .*did you mean "{near}"'):
            read(**{field: value})


def test_a_missing_folder_lists_what_is_there(write: Write, paths: Paths) -> None:
    write()
    with pytest.raises(DataError, match=r"nope does not exist.*there now: toy"):
        read_competition(CFG(comp="nope"), replace(paths, comp="nope"))
    with pytest.raises(ConfigError, match="comp is not set"):
        read_competition(CFG(), replace(paths, comp=""))


def test_a_missing_file(read: Read, write: Write, paths: Paths) -> None:
    write()
    (paths.input / "test.csv").unlink()
    with pytest.raises(DataError, match=r"none of test\.csv"):
        read()


def test_the_same_from_parquet(read: Read, write: Write, paths: Paths) -> None:
    write()
    expected = read()
    for stem in ("train", "test", "sample_submission"):
        pd.read_csv(paths.input / f"{stem}.csv").to_parquet(paths.input / f"{stem}.parquet")
        (paths.input / f"{stem}.csv").unlink()
    found = read()
    assert found.task == expected.task
    assert (found.train_ids == expected.train_ids).all()
    assert found.train_texts == expected.train_texts


def test_empty_texts_are_counted(read: Read, write: Write) -> None:
    write(train={"text": ["", " "] + [f"some words here {i}" for i in range(38)]})
    assert "empty texts: 2 in train, 0 in test" in read().notes


def test_all_texts_empty(read: Read, write: Write) -> None:
    write(train={"text": [" "] * 40})
    with pytest.raises(DataError, match="every text of train is empty"):
        read(text_col="text")
