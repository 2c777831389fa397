"""A kernel of every kind of task is built, and those that differ most in what goes in and comes out
are rehearsed."""

import pytest

from oofline.kaggle.build import run_kernel
from oofline.kaggle.rehearsal.run import run_kernel_rehearse
from oofline.storage import read_json

CASES = {
    "pair": {"pair_swap": "train+test"},
    "multi-target": {"windows": 2, "max_len": 12, "window_stride": 2},
    "multilabel": {"metric": "f1_macro"},
    "ordinal": {"ordinal": "ordinal"},
}


REHEARSED = ("pair", "multi-target")


@pytest.mark.parametrize("kind", CASES)
def test_passes(trained, kernel_options, rehearse_options, kind):
    paths, cfg = trained(kind, n_test=9, **CASES[kind])
    run_kernel(kernel_options(cfg, weights_dtype="fp16"), paths)
    rounding = read_json(paths.output / "kernel" / "manifest.json")["rounding"]
    assert rounding["rows"] == 40
    assert 0 < rounding["max_difference"] < 1e-2
    if kind in REHEARSED:
        run_kernel_rehearse(rehearse_options(cfg, isolation="guard", multiply=2), paths)
        found = read_json(paths.output / "kernel" / "rehearsal.json")
        assert found["passed"]
        assert found["hidden_rows"] == 2 * 9 + 1
        assert len(found["differences"]) == 2 * 2 + 1
