"""Question answering is learnt: windows, labels, characters and spans fit together."""

import pytest

from oofline.crossval import train_units
from oofline.storage import read_json


@pytest.mark.parametrize(("family", "max_len"), [("bert", 64), ("bert", 26), ("modernbert", 80)])
def test_a_rule_is_learnt(write_competition, load_settings, tiny_model, family, max_len):
    """The answer is what stands behind one word; far away it is in a later window."""
    paths = write_competition("qa", n=150, n_test=6, n_folds=2)
    model = str(tiny_model(family))
    cfg = load_settings(
        paths, model=model, max_len=max_len, doc_stride=6, epochs=8, lr=5e-3, warmup_fraction=0.2
    )
    train_units(cfg, paths, [0], [1])
    scores = read_json(paths.fold("base", 1, 0) / "scores.json")
    assert scores["score"] > 0.8
