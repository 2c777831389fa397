"""A kernel is built and rehearsed end to end, and each deliberate fault is named."""

import pytest

from oofline.kaggle.build import run_kernel
from oofline.kaggle.rehearsal.isolation import namespaces_work
from oofline.kaggle.rehearsal.run import run_kernel_rehearse
from oofline.storage import read_json, sha256_of

namespaces = pytest.mark.skipif(
    not namespaces_work(), reason="this system does not permit user namespaces"
)


@namespaces
def test_passes(trained, kernel_options, rehearse_options):
    paths, cfg = trained()
    run_kernel(kernel_options(cfg), paths)
    run_kernel_rehearse(rehearse_options(cfg, isolation="namespaces"), paths)
    folder = paths.output / "kernel"
    print((folder / "rehearsal.md").read_text())
    found = read_json(folder / "rehearsal.json")
    assert found["passed"]
    assert found["manifest_sha256"] == sha256_of(folder / "manifest.json")
