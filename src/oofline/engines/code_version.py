"""Which code a process runs: folds of one experiment must not be trained by several."""

import functools
import hashlib
import sys
from pathlib import Path

import torch


@functools.cache
def code_version() -> str:
    """Version of this package and of torch, with a digest of the package's source."""
    root, digest = Path(__file__).parents[1], hashlib.sha256()
    for path in sorted(root.rglob("*.py")):
        digest.update(path.relative_to(root).as_posix().encode() + path.read_bytes())
    torch_version = torch.__version__.split("+")[0]
    return f"{sys.modules['oofline'].__version__} ({digest.hexdigest()[:8]}, torch {torch_version})"
