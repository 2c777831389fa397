"""Extractive question answering is recognised by what the columns hold."""

import numpy as np
import pandas as pd
import pytest

from oofline.data.competition import read_competition
from oofline.data.folds import ensure_folds
from oofline.errors import ConfigError, DataError


def change(paths, stem, **columns):
    """Replace or drop (None) columns of a file."""
    path = paths.input / f"{stem}.csv"
    frame = pd.read_csv(path, dtype=str, na_filter=False)
    for name, values in columns.items():
        frame = frame.drop(columns=name) if values is None else frame.assign(**{name: values})
    frame.to_csv(path, index=False)
    return frame


def test_read_by_content(write_competition, load_settings):
    paths = write_competition("qa", 40, 8)
    found = read_competition(load_settings(paths), paths)
    assert found.task.kind == "qa"
    assert (found.task.metric, found.task.asks) == ("answer_f1", "answer")
    assert found.task.targets == ("answer_text",)
    assert found.group_col == "title"
    question, context = found.train_pairs[0]
    assert question.startswith("what is good")
    for row in found.y:
        assert row.context[row.start : row.end] == row.text
    assert found.task.longest == max(len(row.text) for row in found.y)
    assert context == found.y[0].context
    assert any("start in answer_start" in note for note in found.notes)
    contexts = [context for _, context in found.test_pairs]
    assert list(found.test_contexts.items()) == list(zip(found.test_ids, contexts, strict=True))


def test_without_questions_and_with_the_answers_own_column(write_competition, load_settings):
    """As in a competition that asks for the part of a text that bears its feeling."""
    paths = write_competition("qa", 90, 8)
    change(paths, "train", question=None, answer_start=None, title=None)
    change(paths, "test", question=None, title=None)
    change(paths, "sample_submission", PredictionString=None, answer_text="")
    found = read_competition(load_settings(paths), paths)
    assert found.task.targets == ("answer_text",)
    assert found.train_pairs[0] == ("", found.y[0].context)
    assert not any("empty texts" in note for note in found.notes)


def test_without_starts_the_first_occurrence_counts(write_competition, load_settings):
    paths = write_competition("qa", 40, 8)
    change(paths, "train", answer_start=None)
    found = read_competition(load_settings(paths, task="qa"), paths)
    assert all(row.start == row.context.index(row.text) for row in found.y)


def test_the_occurrence_nearest_to_the_start_is_taken(write_competition, load_settings):
    paths = write_competition("qa", 90, 8)
    frame = change(paths, "train")
    contexts = frame["context"].tolist()
    contexts[3] = "red 1 and red 1 and red 1"
    answers, starts = frame["answer_text"].tolist(), frame["answer_start"].tolist()
    answers[3], starts[3] = "red 1", "11"  # it stands at 0, 10 and 20
    change(paths, "train", context=contexts, answer_text=answers, answer_start=starts)
    found = read_competition(load_settings(paths, task="qa"), paths)
    assert found.y[3].start == 10
    assert any("taken nearby: 1" in note for note in found.notes)


def test_answers_that_stand_nowhere_are_named(write_competition, load_settings):
    paths = write_competition("qa", 90, 8)
    frame = change(paths, "train")
    frame.loc[4, "answer_text"] = "green"
    frame.to_csv(paths.input / "train.csv", index=False)
    with pytest.raises(DataError, match=r"1 answers of answer_text .* ids r0004"):
        read_competition(load_settings(paths), paths)


def test_questions_without_an_answer_are_refused(write_competition, load_settings):
    paths = write_competition("qa", 60, 8)
    frame = change(paths, "train")
    frame.loc[::3, ["answer_text", "answer_start"]] = ""
    frame.to_csv(paths.input / "train.csv", index=False)
    with pytest.raises(DataError, match=r"20 answers .*questions without an answer are not"):
        read_competition(load_settings(paths), paths)


def test_other_tasks_are_not_taken_for_it(write_competition, load_settings):
    paths = write_competition("binary", 40, 8)
    assert read_competition(load_settings(paths), paths).task.kind == "binary"
    with pytest.raises(ConfigError, match='task = "qa", but no column'):
        read_competition(load_settings(paths, task="qa"), paths)


def test_a_class_that_stands_in_its_text_is_a_class(write_competition, load_settings):
    paths = write_competition("multiclass", 60, 8)
    train = change(paths, "train")
    labels = np.where(train["target"] == "low", "bad", "good")
    change(paths, "train", target=labels, text=train["text"] + " good bad")
    found = read_competition(load_settings(paths), paths)
    assert found.task.kind == "binary"


@pytest.mark.parametrize(
    "settings",
    [{"windows": 3}, {"pair_swap": "train"}, {"truncation": "head+tail"}, {"pooling": "cls"},
     {"text_template": "{context}"}],
)  # fmt: skip
def test_settings_that_cannot_act_are_refused(write_competition, load_settings, settings):
    paths = write_competition("qa", 40, 8)
    settings = {"max_len": 200} | settings
    with pytest.raises(ConfigError, match="does not fit question answering"):
        read_competition(load_settings(paths, **settings), paths)


def test_questions_about_one_context_share_a_fold(write_competition, load_settings):
    paths = write_competition("qa", 60, 8)
    frame = change(paths, "train")
    contexts = [frame["context"][i - i % 3] for i in range(len(frame))]
    answers = [frame["answer_text"][i - i % 3] for i in range(len(frame))]
    starts = [frame["answer_start"][i - i % 3] for i in range(len(frame))]
    change(paths, "train", context=contexts, answer_text=answers, answer_start=starts, title=None)
    cfg = load_settings(paths)
    found = read_competition(cfg, paths)
    folds, _ = ensure_folds(cfg, paths, found)
    assert folds.scheme == "kfold"
    assert pd.Series(folds.fold).groupby(contexts).nunique().max() == 1


def test_titles_keep_their_rows_together(write_competition, load_settings):
    paths = write_competition("qa", 60, 8)
    cfg = load_settings(paths)
    found = read_competition(cfg, paths)
    folds, _ = ensure_folds(cfg, paths, found)
    assert folds.scheme == "group"
    assert pd.Series(folds.fold).groupby(found.train["title"].to_numpy()).nunique().max() == 1
    assert any("Kolmogorov-Smirnov" in line for line in folds.summary)
