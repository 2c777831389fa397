"""Print what Kaggle is asked for during a push and a submission.

    python tests/kaggle/record_calls.py

The service is the one of the tests, on the loopback address; the client is the installed one.
"""

import subprocess
import sys
from pathlib import Path

if __name__ == "__main__":
    sys.exit(
        subprocess.run(
            [sys.executable, "-m", "pytest", "-rP", "-q", "-p", "no:cacheprovider",
             str(Path(__file__).with_name("test_sequence.py"))],
            check=False,
        ).returncode
    )  # fmt: skip
