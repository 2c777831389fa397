import numpy as np
import pytest
from scipy import sparse

from oofline.baselines.features import fit_features
from oofline.baselines.pairs import (
    LIKENESS,
    both_statistics,
    likeness,
    view,
    views_of,
)
from oofline.baselines.rows import make_source, source_of_rows

FIRST = sparse.csr_matrix(np.array([[2.0, 0.0, 1.0]]))
SECOND = sparse.csr_matrix(np.array([[1.0, 3.0, 1.0]]))


@pytest.mark.parametrize(("name", "counts"), [
    ("first", [2, 0, 1]), ("second", [1, 3, 1]), ("both", [1, 0, 1]), ("one", [1, 3, 0]),
])  # fmt: skip
def test_views_of_a_pairs_counts(name, counts):
    seen = view(name, [FIRST, SECOND])
    assert seen.toarray().tolist() == [counts]
    assert seen.nnz == np.count_nonzero(counts)  # a stored zero would count as an occurrence


def test_single_texts_have_one_view():
    assert views_of(1, False) == ("",)
    assert view("", [FIRST]).toarray().tolist() == FIRST.toarray().tolist()


def test_views_and_statistics_of_symmetric_pairs_do_not_tell_the_order():
    for name in views_of(2, True):
        there, back = view(name, [FIRST, SECOND]), view(name, [SECOND, FIRST])
        assert (there != back).nnz == 0
    a, b = np.array([[1.0, 5.0]]), np.array([[3.0, 2.0]])
    assert np.array_equal(
        both_statistics("xy", a, b, True)[0], both_statistics("xy", b, a, True)[0]
    )
    assert both_statistics("xy", a, b, True)[1][0] == "smaller: x"
    assert both_statistics("xy", a, b, False)[0].tolist() == [[1.0, 5.0, 3.0, 2.0]]


def test_likeness_is_symmetric_and_knows_equal_texts():
    texts = (["a cat sat", "a cat sat", "", "42 men"], ["a cat sat", "no dog ran", "", "43 men"])
    words = tuple([text.split() for text in side] for side in texts)
    found = likeness(texts, words)
    back = likeness(texts[::-1], words[::-1])
    assert np.array_equal(found, back)
    assert ((found >= 0) & (found <= 1)).all()
    names = list(LIKENESS)
    assert found[0].tolist() == [1.0] * len(names)
    assert found[1, names.index("alike: words")] == 0.0
    assert found[3, names.index("alike: figures")] == 0.0


@pytest.mark.parametrize("swap", ["off", "train+test"])
def test_the_order_counts_only_where_it_means_something(setting, swap):
    cfg, paths, competition, folds = setting("pair", pair_swap=swap)
    source = make_source(cfg, paths, competition)
    rows = folds.train_rows(0)
    features = fit_features(cfg, source, rows, 3)
    views = {block.view for block in source.ngrams}
    assert views == ({"first", "second", "both"} if swap == "off" else {"one", "both"})
    assert any(name.endswith("(both)") for _, name in features.names)
    # as a stored model sees them: its own n-grams, in its own order
    stored = tuple(
        type(t)(t.sort, t.names, np.arange(len(t.names)), t.idf, t.view) for t in features.tfidfs
    )
    later = type(features)(stored, *(getattr(features, n) for n in (
        "svd", "beside", "scale", "categories", "names", "recipe")))  # fmt: skip

    def columns(pairs):
        made = source_of_rows(
            cfg, paths, features.recipe, stored, pairs, competition.train.iloc[: len(pairs)]
        )
        return later.transform(made, np.arange(len(pairs))).toarray()

    some = competition.train_pairs[:20]
    there, back = columns(some), columns([pair[::-1] for pair in some])
    assert np.array_equal(there, features.transform(source, np.arange(20)).toarray())
    assert np.array_equal(there, back) == (swap != "off")
