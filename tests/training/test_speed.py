import subprocess
import sys

import pytest

CODE = """
import psutil, torch
from oofline.training.speed import keep_freed_memory, return_freed_memory

assert keep_freed_memory()
process = psutil.Process()
blocks = [torch.ones(250_000 + 1000 * i) for i in range(200)]
held = [torch.ones(100) for _ in range(200)]
del blocks
before = process.memory_info().rss
assert return_freed_memory()
print((before - process.memory_info().rss) / 1e6)
"""


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="glibc's allocator")
def test_freed_memory_is_kept_until_it_is_given_back():
    done = subprocess.run([sys.executable, "-c", CODE], capture_output=True, text=True, check=True)
    assert float(done.stdout) > 150  # of 280 MB
