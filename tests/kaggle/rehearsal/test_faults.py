"""A fault built into a kernel makes its rehearsal fail with the cause named."""

import importlib.util
import re
from pathlib import Path

import pytest

from oofline.errors import DataError
from oofline.kaggle.build import run_kernel
from oofline.kaggle.rehearsal.run import run_kernel_rehearse

_SPEC = importlib.util.spec_from_file_location(
    "kernel_faults", Path(__file__).parents[1] / "faults.py"
)
faults = importlib.util.module_from_spec(_SPEC)
_SPEC.loader.exec_module(faults)


@pytest.mark.parametrize("fault", faults.FAULTS, ids=lambda fault: fault.__name__)
def test_each_is_named(fault, trained, kernel_options, rehearse_options):
    paths, cfg = trained(lr=1e-2)
    run_kernel(kernel_options(cfg), paths)
    kernel = paths.output / "kernel"
    fault(kernel)
    faults.seal(kernel)
    with pytest.raises(DataError) as error:
        run_kernel_rehearse(rehearse_options(cfg), paths)
    assert re.search(faults.FAULTS[fault], str(error.value))
    assert "FAILED" in (kernel / "rehearsal.md").read_text()
    assert not (kernel / "rehearsal.json").exists()
