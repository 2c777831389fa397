"""make readme: write the tables of tasks and settings into README.md from the code."""

import sys
from pathlib import Path

from oofline.config import CFG
from oofline.report.settings import settings_markdown
from oofline.report.tasks import tasks_markdown

README = Path(__file__).parents[1] / "README.md"


def with_table(text: str) -> str:
    """The README's text with the current tables between their marks."""
    for name, table in (("tasks", tasks_markdown()), ("settings", settings_markdown(CFG()))):
        begin, end = f"<!-- {name}: made by `make readme` -->", f"<!-- /{name} -->"
        before, rest = text.split(begin)
        _, after = rest.split(end)
        text = f"{before}{begin}\n\n{table}\n\n{end}{after}"
    return text


if __name__ == "__main__":
    README.write_text(with_table(README.read_text(encoding="utf-8")), encoding="utf-8")
    sys.stdout.write(f"wrote the tables into {README.name}\n")
