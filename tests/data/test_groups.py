"""Group columns by content: unseen in test or shared, and what is no group at all."""

import numpy as np
import pandas as pd
import pytest

from oofline.config import CFG
from oofline.data.folds import ensure_folds
from oofline.errors import ConfigError


def prompts(write, seen, n=60):
    train = {"prompt": [f"prompt {i % 12}" for i in range(n)]}
    test = {"prompt": ["prompt 1" if seen else f"unseen {i}" for i in range(3)]}
    write(target=[0, 1, 1] * (n // 3), train=train, test=test)


def test_values_that_test_does_not_share_are_groups(write, read, paths):
    prompts(write, seen=False)
    found = read()
    assert found.group_col == "prompt"
    assert any("prompt: 12 values in train, 100% of test's are unseen" in n for n in found.notes)
    assert any('group_col = "none" if not' in note for note in found.notes)
    folds, _ = ensure_folds(CFG(comp="toy", n_folds=3), paths, read(n_folds=3))
    assert folds.scheme == "stratified-group"
    of_prompt = pd.Series(folds.fold).groupby(found.train["prompt"].to_numpy()).nunique()
    assert of_prompt.max() == 1


def test_values_that_test_shares_are_said_to_need_no_groups(write, read):
    prompts(write, seen=True)
    found = read()
    assert found.group_col == ""
    expected = "prompt: 12 values in train, which has 100% of test's: folds need not keep them"
    assert any(expected in note for note in found.notes)


def test_it_can_be_switched_off_or_set(write, read):
    prompts(write, seen=False)
    assert read(group_col="none").group_col == ""
    prompts(write, seen=True)
    assert read(group_col="prompt").group_col == "prompt"
    with pytest.raises(ConfigError, match='did you mean "prompt"'):
        read(group_col="promt")


@pytest.mark.parametrize(
    "column",
    [
        [f"author {i}" for i in range(60)],  # each value once: an id
        [0.25 * (i % 6) for i in range(60)],  # fractions
        ["", ""] + [f"author {i % 6}" for i in range(40)] + [""] * 18,  # mostly empty
        ["one", "two"] * 30,  # fewer groups than folds
    ],
)
def test_what_is_no_group(write, read, column):
    write(target=[0, 1, 1] * 20, train={"author": column}, test={"author": ["x", "y", "z"]})
    assert read().group_col == ""


def test_the_coarsest_of_several(write, read):
    train = {"author": [f"a{i % 20}" for i in range(60)], "title": [f"t{i % 6}" for i in range(60)]}
    test = {"author": ["x", "y", "z"], "title": ["u", "v", "w"]}
    write(target=[0, 1, 1] * 20, train=train, test=test)
    assert read().group_col == "title"


def test_real_keywords_are_shared_and_make_no_groups(read_real):
    found = read_real("disaster")
    assert found.group_col == ""
    assert any(note.startswith("keyword: ") for note in found.notes)
    assert np.all([not note.startswith("groups:") for note in found.notes])


def test_a_class_of_few_groups_leaves_groups_without_strata(write, read, paths):
    train = {"prompt": [f"prompt {i // 5}" for i in range(60)]}
    test = {"prompt": ["new", "newer", "newest"]}
    write(target=["rare"] * 10 + ["a", "b"] * 25, train=train, test=test)
    folds, _ = ensure_folds(CFG(comp="toy", n_folds=3), paths, read(n_folds=3))
    assert folds.scheme == "group"
    assert "fewer of them than folds have class rare" in folds.reason
