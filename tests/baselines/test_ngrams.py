import numpy as np
import pytest
from sklearn.feature_extraction.text import TfidfVectorizer

from oofline.baselines.ngrams import count_ngrams, fit_tfidf, parse_range
from oofline.errors import ConfigError

TEXTS = ["the fire is hot hot", "a fire", "cold ice is cold", "the ice", "hot ice", "new words"]


@pytest.mark.parametrize(("text", "expected"), [
    ("1", (1, 1)), ("1-3", (1, 3)), (" 2-2 ", (2, 2)), ("", None), (" ", None),
])  # fmt: skip
def test_ranges(text, expected):
    assert parse_range("tfidf_words", text) == expected


@pytest.mark.parametrize("text", ["0", "3-1", "a", "1,2", "1-", "-2", "0-2"])
def test_what_is_no_range(text):
    with pytest.raises(ConfigError, match=r"tfidf_chars = .* is no range of lengths"):
        parse_range("tfidf_chars", text)


@pytest.mark.parametrize("min_rows", [1, 2])
@pytest.mark.parametrize("sort", ["word", "char"])
def test_equals_a_vectorizer_that_was_fitted_on_the_training_rows_alone(sort, min_rows):
    rows, others = np.array([0, 1, 2, 3]), np.array([4, 5])
    options = {"analyzer": "char"} if sort == "char" else {"token_pattern": r"\S+"}
    reference = TfidfVectorizer(
        sublinear_tf=True, ngram_range=(1, 2), min_df=min_rows, lowercase=False, **options
    ).fit([TEXTS[i] for i in rows])
    documents = TEXTS if sort == "char" else [text.split() for text in TEXTS]
    ngrams = count_ngrams(sort, documents, (1, 2), min_rows)
    tfidf = fit_tfidf(ngrams, rows, min_rows)
    assert list(tfidf.names) == list(reference.get_feature_names_out())
    for part in (rows, others):
        mine = tfidf.transform(ngrams.counts[part]).toarray()
        assert mine == pytest.approx(
            reference.transform([TEXTS[i] for i in part]).toarray(), abs=1e-6
        )


def test_rows_that_are_not_fitted_on_change_nothing():
    rows = np.array([0, 1, 2, 3])
    ngrams = count_ngrams("char", TEXTS, (1, 3), 1)
    other = count_ngrams("char", [*TEXTS[:4], "the the the fire", "zzz"], (1, 3), 1)
    one, two = fit_tfidf(ngrams, rows, 1), fit_tfidf(other, rows, 1)
    assert list(one.names) == list(two.names)
    assert np.array_equal(one.idf, two.idf)


def test_the_most_frequent_are_kept():
    ngrams = count_ngrams("word", [text.split() for text in TEXTS], (1, 1), 1)
    names = fit_tfidf(ngrams, np.arange(6), 1, most=2).names
    assert list(names) == ["hot", "ice"]
    assert list(fit_tfidf(ngrams, np.array([2]), 1, most=1).names) == ["cold"]


def test_texts_without_a_frequent_n_gram_have_none():
    assert count_ngrams("word", [["a"], ["b"]], (1, 1), 2) is None
    assert count_ngrams("word", [[], []], (1, 2), 1) is None
