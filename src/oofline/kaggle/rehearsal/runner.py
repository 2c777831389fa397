"""Runs a notebook's cells in order in one fresh process; alone in a file, on the standard library.

Usage: ``python runner.py NOTEBOOK``. Kaggle runs notebooks through Jupyter, whose kernel talks over
ports; the cells of this one are plain Python, so a process of their own sees the same.
"""

import json
import os
import sys
import traceback
from pathlib import Path

FAILED = "rehearsal: cell failed: "
"""Starts the line that names the failed cell and its error."""


def main(path: str) -> int:
    """Execute every code cell; returns 0, or 1 after the first that fails."""
    notebook = json.loads(Path(path).read_text(encoding="utf-8"))
    cells = [cell for cell in notebook["cells"] if cell["cell_type"] == "code"]
    scope = {"__name__": "__main__"}
    for number, cell in enumerate(cells, start=1):
        source = cell["source"] if isinstance(cell["source"], str) else "".join(cell["source"])
        try:
            exec(compile(source, f"cell {number}", "exec"), scope)
        except BaseException as error:
            traceback.print_exc()
            text = " ".join(str(error).split())
            print(f"{FAILED}cell {number} of {len(cells)}: {type(error).__name__}: {text}")
            return 1
        sys.stdout.flush()
    return 0


if __name__ == "__main__":
    status = main(sys.argv[1])
    sys.stdout.flush()
    os._exit(status)
