"""Every text once, from all text columns of train and test, and no label."""

import pandas as pd
import pytest

from oofline.data.competition import read_competition
from oofline.errors import DataError
from oofline.pretraining.corpus import read_corpus


def corpus_of(paths, load_settings, **settings):
    cfg = load_settings(paths, **settings)
    return read_corpus(cfg, read_competition(cfg, paths))


def test_texts_of_train_and_test_are_there_once(write_competition, load_settings):
    paths = write_competition(n=60, n_test=21)
    train, test = (pd.read_csv(paths.input / f"{n}.csv", dtype=str) for n in ("train", "test"))
    test.loc[0, "text"] = train.loc[0, "text"]
    test.to_csv(paths.input / "test.csv", index=False)
    corpus = corpus_of(paths, load_settings, pretrain_holdout=0.1)
    assert sorted(corpus.texts) == sorted({*train["text"], *test["text"]})
    assert (len(corpus.texts), corpus.n_held_out) == (80, 8)
    assert corpus.texts == corpus_of(paths, load_settings).texts  # the order does not change
    assert not corpus.is_japanese


def test_both_sides_of_pairs_and_other_text_columns_count(write_competition, load_settings):
    paths = write_competition("pair", n=40, n_test=21)
    train = pd.read_csv(paths.input / "train.csv", dtype=str)
    assert {*train["left"], *train["right"]} <= set(corpus_of(paths, load_settings).texts)
    single = corpus_of(paths, load_settings, text_col="left", pair_col="none")
    assert {*train["left"], *train["right"]} <= set(single.texts)


def test_a_template_says_what_is_read(write_competition, load_settings):
    paths = write_competition(n=40, n_test=21)
    corpus = corpus_of(paths, load_settings, text_template="Text: {text}")
    assert all(text.startswith("Text: ") for text in corpus.texts)


def test_too_few_texts_are_refused(write_competition, load_settings):
    paths = write_competition(n=60, n_test=21)
    for name in ("train", "test"):
        frame = pd.read_csv(paths.input / f"{name}.csv", dtype=str)
        frame["text"] = [f"text {number % 7}" for number in range(len(frame))]
        frame.to_csv(paths.input / f"{name}.csv", index=False)
    with pytest.raises(DataError, match="7 different texts"):
        corpus_of(paths, load_settings)
