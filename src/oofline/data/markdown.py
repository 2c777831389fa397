"""A Markdown report in the making, with the lines of it that are worth printing."""

from collections.abc import Iterable
from dataclasses import dataclass, field

LONGEST = 140
"""Characters of an example text that are shown."""


@dataclass
class Report:
    """Blocks of Markdown, and one line per finding.

    Attributes:
        markdown: lines of the report so far.
        summary: the findings, to print.
    """

    markdown: list[str] = field(default_factory=list)
    summary: list[str] = field(default_factory=list)

    def add(self, *lines: str) -> None:
        """Append one block (a heading, a paragraph, a table)."""
        self.markdown.extend([*lines, ""])

    def finding(self, line: str) -> None:
        """Append a sentence to the report and to the summary."""
        self.summary.append(line)
        self.add(line[0].upper() + line[1:] + ".")


def table(header: tuple[str, ...], body: Iterable[tuple[object, ...]]) -> list[str]:
    """Lines of a table; bars and line breaks inside cells are made harmless."""
    rows = [header, tuple("---" for _ in header), *body]
    return ["| " + " | ".join(_cell(value) for value in row) + " |" for row in rows]


def shorten(text: str) -> str:
    """The text on one line, cut to `LONGEST` characters."""
    line = " ".join(text.split())
    return line if len(line) <= LONGEST else line[: LONGEST - 3] + "..."


def _cell(value: object) -> str:
    return " ".join(str(value).split()).replace("|", "\\|")
