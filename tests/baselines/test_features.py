import numpy as np
import pytest

from oofline.baselines.features import fit_features
from oofline.baselines.rows import make_source
from oofline.errors import ConfigError


@pytest.fixture
def source(setting):
    """source(**settings) -> (cfg, source, folds)."""

    def make(**settings):
        cfg, paths, competition, folds = setting(**settings)
        return cfg, make_source(cfg, paths, competition), folds

    return make


def test_rows_are_those_of_train_then_test(source):
    _, made, _ = source()
    assert made.n_train == 90
    assert [block.sort for block in made.ngrams] == ["word", "char"]
    assert {block.counts.shape[0] for block in made.ngrams} == {111}
    assert made.dense.shape == (111, len(made.dense_names))
    assert made.notes[0].startswith("words by spaces and marks")


def test_columns_and_their_names_belong_together(source):
    cfg, made, folds = source(tfidf_words="1", tfidf_chars="")
    features = fit_features(cfg, made, folds.train_rows(0), 1)
    x = features.transform(made, np.arange(111))
    assert x.shape == (111, len(features.names))
    assert x.dtype == np.float32
    column = features.names.index(("word", "good"))
    block = made.ngrams[0]
    has = np.asarray(block.counts[:, list(block.names).index("good")].todense()).ravel() > 0
    assert np.array_equal(x[:, [column]].toarray().ravel() > 0, has)


@pytest.mark.parametrize("settings", [
    {}, {"svd_dims": 4}, {"svd_dims": 3, "svd_beside": False}, {"tfidf_max": 20},
    {"kind": "lightgbm"},
])  # fmt: skip
def test_a_folds_columns_do_not_depend_on_its_validation_rows(
    setting, settings, with_column, load_settings
):
    """Other texts and other cells in the validation rows: bit for bit the same training columns."""
    cfg, paths, competition, folds = setting(**settings)
    n, m = len(competition.train), len(competition.test)
    rows, valid = folds.train_rows(1), folds.valid_rows(1)
    places, years = np.array(["a", "b", "c"] * (n // 3)), np.arange(n).astype(str)
    sides = []
    for changed in (False, True):
        texts = list(competition.train_texts)
        place, year = places.copy(), years.copy()
        if changed:
            for row in valid:
                texts[row] = f"good good fire zebra {row % 3}"
            place[valid], year[valid] = "zebra", "9999"
        table = with_column(competition, "place", place, ["a"] * m)
        table = with_column(table, "year", year, ["1"] * m)
        table.train_texts[:] = texts
        made = make_source(cfg, paths, table)
        features = fit_features(cfg, made, rows, 1)
        sides.append((features.names, features.transform(made, rows).toarray()))
    assert not any("zebra" in name for _, name in sides[1][0])
    assert sides[0][0] == sides[1][0]
    assert np.array_equal(sides[0][1], sides[1][1])


def test_components_stand_beside_or_instead_of_n_grams(source, load_settings):
    cfg, made, folds = source(svd_dims=5)
    rows = folds.train_rows(0)
    beside = fit_features(cfg, made, rows, 1)
    sorts = [sort for sort, _ in beside.names]
    assert (sorts.count("svd"), "word" in sorts) == (5, True)
    grams = beside.transform(made, rows)[:, [s in ("word", "char") for s in sorts]]
    cfg, made, _ = source(svd_dims=5, svd_beside=False, text_stats=False)
    alone = fit_features(cfg, made, rows, 1)
    assert [sort for sort, _ in alone.names] == ["svd"] * 5
    expected = np.linalg.svd(grams.toarray(), compute_uv=False)[:5]
    found = np.sqrt((alone.transform(made, rows).toarray() ** 2).sum(axis=0))
    assert found == pytest.approx(expected, rel=0.02)


def test_lightgbm_gets_no_column_that_no_leaf_could_use(source):
    cfg, made, folds = source(kind="lightgbm", lgbm_min_rows=8)
    rows = folds.train_rows(0)
    features = fit_features(cfg, made, rows, 1)
    x = features.transform(made, rows)
    grams = [i for i, (sort, _) in enumerate(features.names) if sort in ("word", "char")]
    assert (x[:, grams] > 0).sum(axis=0).min() >= 8


def test_normalisation_comes_before_counting(source):
    _, upper, _ = source(tfidf_normalize="")
    _, digits, _ = source(tfidf_normalize="digits")
    assert "0" in digits.ngrams[1].names
    assert "1" not in digits.ngrams[1].names
    assert "1" in upper.ngrams[1].names


def test_no_n_gram_in_enough_rows(source):
    with pytest.raises(ConfigError, match="no n-gram stands in tfidf_min_rows = 112 texts"):
        source(tfidf_min_rows=112)
    cfg, made, folds = source(kind="lightgbm", lgbm_min_rows=90, tfidf_chars="")
    with pytest.raises(ConfigError, match="no n-gram stands in 90 training rows"):
        fit_features(cfg, made, folds.train_rows(0), 1)
