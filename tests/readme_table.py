"""make readme: write the table of settings into README.md from the code."""

import sys
from pathlib import Path

from oofline.config import CFG
from oofline.report.settings import settings_markdown

README = Path(__file__).parents[1] / "README.md"
BEGIN, END = "<!-- settings: made by `make readme` -->", "<!-- /settings -->"


def with_table(text: str) -> str:
    """The README's text with the current table between the two marks."""
    before, rest = text.split(BEGIN)
    _, after = rest.split(END)
    return f"{before}{BEGIN}\n\n{settings_markdown(CFG())}\n\n{END}{after}"


if __name__ == "__main__":
    README.write_text(with_table(README.read_text(encoding="utf-8")), encoding="utf-8")
    sys.stdout.write(f"wrote the settings into {README.name}\n")
