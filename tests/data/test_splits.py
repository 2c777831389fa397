from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from iterstrat.ml_stratifiers import MultilabelStratifiedKFold

from oofline.config import CFG
from oofline.data.competition import Competition
from oofline.data.duplicates import duplicate_groups
from oofline.data.folds import ensure_folds
from oofline.data.splits import Folds, indicators, make_folds
from oofline.errors import ConfigError, DataError
from oofline.storage import Paths

Read = Callable[..., Competition]
Write = Callable[..., None]
Split = Callable[..., Folds]


@pytest.fixture
def split(read: Read) -> Split:
    def make(duplicates: list[int] | None = None, **settings: Any) -> Folds:
        competition = read(**settings)
        n = len(competition.train_ids)
        groups = np.arange(n) if duplicates is None else np.array(duplicates, dtype=np.int64)
        return make_folds(CFG(comp="toy", **settings), competition, groups)

    return make


def check_partition(folds: Folds, n_folds: int) -> None:
    valid = np.concatenate([folds.valid_rows(k) for k in range(n_folds)])
    assert sorted(valid) == list(range(len(folds.ids)))
    for k in range(n_folds):
        together = np.sort(np.concatenate([folds.train_rows(k), folds.valid_rows(k)]))
        assert together.tolist() == list(range(len(folds.ids)))


def crossing(fold: np.ndarray, groups: Any) -> int:
    return sum(len(set(fold[np.asarray(groups) == g])) > 1 for g in set(groups))


def test_auto_on_classes_is_stratified(write: Write, split: Split) -> None:
    write(target=[0, 0, 0, 1] * 25)
    folds = split()
    assert folds.scheme == "stratified"
    assert "binary" in folds.reason
    check_partition(folds, 5)
    target = np.array([0, 0, 0, 1] * 25)
    assert [target[folds.valid_rows(k)].sum() for k in range(5)] == [5] * 5


def test_auto_on_regression_is_binned(write: Write, split: Split) -> None:
    values = np.random.default_rng(0).exponential(size=200)
    write(target=values.tolist())
    folds = split()
    assert folds.scheme == "binned"
    check_partition(folds, 5)
    top = np.argsort(values)[-20:]
    assert np.bincount(folds.fold[top], minlength=5).tolist() == [4] * 5


def test_auto_with_groups(write: Write, split: Split) -> None:
    authors = [f"author {i // 4}" for i in range(80)]
    write(target=[0, 1] * 40, train={"author": authors})
    folds = split(group_col="author")
    assert folds.scheme == "stratified-group"
    assert crossing(folds.fold, authors) == 0
    write(target=[i / 7 for i in range(80)], train={"author": authors})
    folds = split(group_col="author")
    assert folds.scheme == "group"
    assert "author" in folds.reason
    assert crossing(folds.fold, authors) == 0
    check_partition(folds, 5)


@pytest.mark.parametrize("scheme", ["kfold", "stratified"])
def test_same_seed_same_folds_other_seed_other_folds(
    write: Write, split: Split, scheme: str
) -> None:
    write()
    first = split(fold_scheme=scheme).fold
    assert (split(fold_scheme=scheme).fold == first).all()
    assert (split(fold_scheme=scheme, fold_seed=7).fold != first).any()


@pytest.mark.parametrize(
    ("scheme", "with_group"),
    [(scheme, False) for scheme in ("auto", "kfold", "stratified")]
    + [(scheme, True) for scheme in ("auto", "kfold", "stratified", "group", "stratified-group")],
)
def test_duplicates_and_groups_never_cross_a_fold(
    write: Write, split: Split, scheme: str, with_group: bool
) -> None:
    rng = np.random.default_rng(1)
    duplicates = rng.integers(0, 60, size=200)
    authors = [f"a{i}" for i in rng.integers(0, 80, size=200)]
    write(target=[0, 1] * 100, train={"author": authors})
    # few duplicates beside group_col: all of them would merge everything into one group
    if with_group:
        duplicates = np.where(rng.random(200) < 0.1, duplicates, 1000 + np.arange(200))
    settings = {"group_col": "author"} if with_group else {}
    folds = split(duplicates.tolist(), fold_scheme=scheme, n_folds=3, **settings)
    check_partition(folds, 3)
    assert crossing(folds.fold, duplicates.tolist()) == 0
    assert crossing(folds.fold, folds.groups.tolist()) == 0
    if with_group:
        assert crossing(folds.fold, authors) == 0


def test_binned_keeps_duplicates_together(write: Write, split: Split) -> None:
    write(target=[i / 7 for i in range(100)])
    duplicates = [i % 40 for i in range(100)]
    folds = split(duplicates)
    assert folds.scheme == "binned"
    assert crossing(folds.fold, duplicates) == 0


def test_groups_that_share_a_duplicate_merge(write: Write, split: Split) -> None:
    authors = [f"a{i // 4}" for i in range(40)]
    write(train={"author": authors})
    duplicates = list(range(40))
    duplicates[39] = 0  # the last author repeats a text of the first
    folds = split(duplicates, group_col="author")
    assert folds.fold[0] == folds.fold[39] == folds.fold[36]
    assert folds.groups[0] == folds.groups[36] != folds.groups[4]


def test_empty_group_cells_are_groups_of_their_own(write: Write, split: Split) -> None:
    write(train={"author": [""] * 40})
    folds = split(group_col="author")
    assert len(set(folds.groups)) == 40
    check_partition(folds, 5)


def test_heavily_tied_values_can_be_binned(write: Write, split: Split) -> None:
    write(target=[0.0] * 90 + [0.25, 0.5, 0.75, 1.5, 2.5, 3.5, 4.5, 5.5, 6.5, 7.5])
    check_partition(split(), 5)


def test_time_trains_on_the_past_only(write: Write, split: Split) -> None:
    days = [f"2024-01-{1 + i % 28:02d}" for i in range(56)]
    write(target=[0, 1] * 28, train={"day": days})
    folds = split(fold_scheme="time", time_col="day", n_folds=3)
    assert set(folds.fold) == {-1, 0, 1, 2}
    assert folds.n_folds == 3
    when = np.array(days)
    for k in range(3):
        assert max(when[folds.train_rows(k)]) < min(when[folds.valid_rows(k)])
        assert len(folds.train_rows(k)) >= 10
    assert crossing(folds.fold, days) == 0


def test_time_by_numbers_is_not_alphabetical(write: Write, split: Split) -> None:
    write(train={"step": list(range(40))})
    folds = split(fold_scheme="time", time_col="step", n_folds=3)
    assert (np.diff(folds.fold) >= 0).all()


def test_time_that_cannot_be_read(write: Write, split: Split) -> None:
    write(train={"day": ["last week"] + ["2024-01-01"] * 39})
    with pytest.raises(DataError, match=r"1 value.*'last week'"):
        split(fold_scheme="time", time_col="day")
    write(train={"day": ["2024-01-02"] + ["2024-01-01"] * 39})
    with pytest.raises(DataError, match="too few distinct times"):
        split(fold_scheme="time", time_col="day")


def test_a_class_with_fewer_rows_than_folds(write: Write, split: Split) -> None:
    write(target=["a", "b"] * 20 + ["rare"] * 3)
    with pytest.raises(DataError, match=r'class "rare" has 3 .*n_folds = 5.*"kfold"'):
        split()
    assert split(n_folds=3).n_folds == 3
    assert split(fold_scheme="kfold").n_folds == 5


def test_duplicates_of_a_rare_class_count_once(write: Write, split: Split) -> None:
    write(target=["a", "b"] * 20 + ["rare"] * 8)
    with pytest.raises(DataError, match='class "rare" has 2 independent'):
        split([*range(40), 40, 40, 40, 40, 41, 41, 41, 41])


def test_fewer_rows_or_groups_than_folds(write: Write, split: Split) -> None:
    write(target=[0.5, 1.5, 2.25])
    with pytest.raises(DataError, match=r"3 rows .*n_folds = 5: lower n_folds"):
        split()
    write(train={"author": ["x", "y"] * 20})
    with pytest.raises(DataError, match=r'2 groups .*"author".*n_folds = 5'):
        split(group_col="author")


def test_schemes_that_do_not_fit_the_task(write: Write, split: Split) -> None:
    write(train={"day": list(range(40))})
    with pytest.raises(ConfigError, match='"binned" is for regression'):
        split(fold_scheme="binned")
    with pytest.raises(ConfigError, match="cannot keep group_col together"):
        split(fold_scheme="time", time_col="day", group_col="day")
    write(target=[i / 7 for i in range(40)], train={"author": list(range(40))})
    with pytest.raises(ConfigError, match=r'"stratified" needs classes.*use "binned"'):
        split(fold_scheme="stratified")
    with pytest.raises(ConfigError, match='use "group"'):
        split(fold_scheme="stratified-group", group_col="author")


@pytest.mark.parametrize("comp", ["disaster", "commonlit", "sentiment-ja"])
def test_real_folds_are_even_and_tight(read_real: Read, comp: str) -> None:
    competition = read_real(comp)
    groups = duplicate_groups(competition.train_texts, 0.8)
    folds = make_folds(CFG(comp=comp), competition, groups)
    check_partition(folds, 5)
    assert crossing(folds.fold, groups.tolist()) == 0
    sizes = np.bincount(folds.fold)
    assert sizes.max() < 1.1 * sizes.min()
    means = [competition.y[folds.valid_rows(k)].mean() for k in range(5)]
    assert max(means) - min(means) < 0.05


SKEWED = np.random.default_rng(0).exponential(size=(200, 2))


def two_targets(write: Write) -> None:
    sample = {"id": [1000, 1001, 1002], "target": [0.5] * 3, "other": [0.5] * 3}
    write(target=SKEWED[:, 0].tolist(), train={"other": SKEWED[:, 1].tolist()}, sample=sample)


def top_rows_by_fold(fold: np.ndarray) -> list[int]:
    """How many of the 40 highest rows of each target stand in each fold, the widest difference."""
    counts = [np.bincount(fold[np.argsort(y)[-40:]], minlength=5) for y in SKEWED.T]
    return [int(count.max() - count.min()) for count in counts]


def test_several_targets_are_balanced_by_one_hot_bins(write: Write, split: Split) -> None:
    two_targets(write)
    folds = split()
    assert folds.scheme == "multilabel-stratified"
    assert "10 bins of every target" in folds.reason
    check_partition(folds, 5)
    sizes = np.bincount(folds.fold)
    assert sizes.max() - sizes.min() <= 4
    assert max(top_rows_by_fold(folds.fold)) <= 3


def test_raw_scores_would_be_cast_to_bool_and_balance_nothing() -> None:
    """What the library makes of scores above 0: one label that every row has."""
    splitter = MultilabelStratifiedKFold(n_splits=5, shuffle=True, random_state=42)
    raw = [valid for _, valid in splitter.split(SKEWED, SKEWED)]
    ones = [valid for _, valid in splitter.split(SKEWED, np.ones_like(SKEWED, dtype=bool))]
    assert all((a == b).all() for a, b in zip(raw, ones, strict=True))
    fold = np.empty(200, dtype=np.int64)
    for k, rows in enumerate(raw):
        fold[rows] = k
    assert max(top_rows_by_fold(fold)) > 3


def test_indicators_are_labels_or_one_bin_of_each_target() -> None:
    labels = np.array([[0, 1], [1, 1]])
    assert indicators(labels, 10, 10).tolist() == [[False, True], [True, True]]
    bins = indicators(SKEWED, 4, 99)
    assert bins.shape == (200, 8)
    assert (bins.sum(axis=1) == 2).all()
    assert bins.sum(axis=0).tolist() == [50] * 8
    assert indicators(SKEWED, 10, 2).shape == (200, 4)


def test_labels_are_balanced_and_rare_ones_that_miss_are_told(
    write: Write, read: Read, paths: Paths
) -> None:
    rare = [int(i in (3, 57)) for i in range(100)]
    sample = {"id": [1000, 1001, 1002], "target": [0.5] * 3, "other": [0.5] * 3}
    write(target=[0, 0, 0, 1] * 25, train={"other": rare}, sample=sample)
    folds, _ = ensure_folds(CFG(comp="toy"), paths, read())
    assert folds.scheme == "multilabel-stratified"
    target = np.array([0, 0, 0, 1] * 25)
    assert [target[folds.valid_rows(k)].sum() for k in range(5)] == [5] * 5
    missing = [line for line in folds.summary if "one value only of label other" in line]
    assert len(missing) == 3


def test_the_scheme_of_several_targets_refused(write: Write, split: Split) -> None:
    write()
    with pytest.raises(ConfigError, match='is for several targets: use "stratified"'):
        split(fold_scheme="multilabel-stratified")
    two_targets(write)
    with pytest.raises(ConfigError, match=r'"stratified" needs classes.*"multilabel-stratified"'):
        split(fold_scheme="stratified")
    with pytest.raises(ConfigError, match=r'"binned" is for regression.*"multilabel-stratified"'):
        split(fold_scheme="binned")
