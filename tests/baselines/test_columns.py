import numpy as np
import pytest

from oofline.baselines.columns import (
    STATISTICS,
    fit_categories,
    fit_scale,
    read_tables,
    text_statistics,
)
from oofline.errors import ConfigError


def statistic(name, text, words=()):
    return text_statistics([text], [list(words)])[0, list(STATISTICS).index(name)]


@pytest.mark.parametrize(("name", "text", "value"), [
    ("characters", "abcd", 4), ("sentences", "A b. C d! e", 3), ("lines", "a\nb", 2),
    ("share of digits", "a1b2", 0.5), ("share of capitals", "AbCd", 0.5),
    ("share of marks", "a!b?", 0.5), ("share of kanji", "漢字かな", 0.5),
    ("share of katakana", "カナかな", 0.5), ("exclamation marks", "a!！", 2),
    ("question marks", "?？?", 3), ("addresses", "see http://x https://y", 2),
])  # fmt: skip
def test_statistics_of_texts(name, text, value):
    assert statistic(name, text) == value


def test_statistics_of_words():
    words = ["the", "elephants", "the", "run"]
    assert statistic("words", "x", words) == 4
    assert statistic("mean word length", "x", words) == pytest.approx(18 / 4)
    assert statistic("distinct words", "x", words) == 0.75
    assert statistic("words of 7 characters or more", "x", words) == 0.25


def test_an_empty_text_has_finite_statistics():
    assert np.isfinite(text_statistics([""], [[]])).all()


def test_numbers_and_categories_are_found_and_said(setting, with_column):
    cfg, _, competition, _ = setting()
    n, m = len(competition.train), len(competition.test)
    table = with_column(competition, "year", ["2000", "2001"] * (n // 2), ["", *["1999"] * (m - 1)])
    table = with_column(table, "place", ["a", "b", ""] * (n // 3), ["c"] * m)
    table = with_column(table, "url", [f"u{i}" for i in range(n)], ["x"] * m)
    table = with_column(table, "same", ["1"] * n, ["1"] * m)
    tables = read_tables(cfg, table)
    assert (tables.number_names, tables.category_names) == (("year",), ("place",))
    assert tables.numbers[:2, 0].tolist() == [2000, 2001]
    assert np.isnan(tables.numbers[n, 0])
    assert tables.categories[n, 0] == "c"
    assert tables.note == "extra columns: numbers year; categories place; not used url, same"


def test_id_target_and_text_are_never_extra_columns(setting):
    cfg, _, competition, _ = setting()
    tables = read_tables(cfg, competition)
    assert (tables.number_names, tables.category_names, tables.note) == ((), (), "")


def test_named_columns(setting, with_column, load_settings):
    _cfg, paths, competition, _ = setting()
    n, m = len(competition.train), len(competition.test)
    table = with_column(competition, "place", [f"p{i}" for i in range(n)], ["x"] * m)
    assert read_tables(load_settings(paths, extra_cols=""), table).category_names == ()
    named = read_tables(load_settings(paths, extra_cols="place"), table)
    assert named.category_names == ("place",)
    with pytest.raises(ConfigError, match='extra_cols: column "plaec" is not in train; did you'):
        read_tables(load_settings(paths, extra_cols="plaec"), table)


def test_categories_are_those_of_the_rows_fitted_on(setting, with_column):
    cfg, _, competition, _ = setting()
    n, m = len(competition.train), len(competition.test)
    values = ["a", "b", ""] * (n // 3)
    values[0] = "rare"
    tables = read_tables(cfg, with_column(competition, "place", values, ["c"] * m))
    fitted = fit_categories(tables, np.arange(0, 30), 2)
    assert fitted.names == ["place = (empty)", "place = a", "place = b"]
    rows = fitted.transform(np.array([["a"], ["rare"], [""], ["c"]])).toarray()
    assert rows.tolist() == [[0, 1, 0], [0, 0, 0], [1, 0, 0], [0, 0, 0]]
    only = fit_categories(tables, np.array([1, 4, 7]), 2)
    assert only.names == ["place = b"]


def test_scales_are_those_of_the_rows_fitted_on():
    scale = fit_scale(np.array([[1.0, 5.0], [3.0, 5.0], [np.nan, 5.0]]))
    assert scale.mean.tolist() == [2.0, 5.0]
    out = scale.transform(np.array([[3.0, 5.0], [np.nan, 6.0]]))
    assert out.tolist() == [[1.0, 0.0], [0.0, 1.0]]
    assert out.dtype == np.float32
