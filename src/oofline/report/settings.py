"""The settings, as text and as the README's table, from CFG's own docstrings."""

import ast
import dataclasses
import inspect
import sys
from typing import Any

from oofline.config import CFG


def field_docs() -> dict[str, tuple[str, str]]:
    """Field -> (section, docstring), read from the source of CFG, then of the classes it extends.

    Section titles are the ``# ---- title`` comments between the fields.
    """
    kinds = [kind for kind in CFG.__mro__ if dataclasses.is_dataclass(kind)]
    return {name: found for kind in kinds for name, found in _docs_of(kind).items()}


def _docs_of(kind: type) -> dict[str, tuple[str, str]]:
    source = inspect.getsource(sys.modules[kind.__module__])
    titles = {
        number: line.split("----")[1].strip()
        for number, line in enumerate(source.splitlines(), start=1)
        if line.strip().startswith("# ----")
    }
    tree = ast.parse(source)
    cls = next(n for n in tree.body if isinstance(n, ast.ClassDef) and n.name == kind.__name__)
    docs: dict[str, tuple[str, str]] = {}
    for node, following in zip(cls.body, cls.body[1:], strict=False):
        if not isinstance(node, ast.AnnAssign) or not isinstance(node.target, ast.Name):
            continue
        section = titles[max(line for line in titles if line < node.lineno)]
        text = following.value if isinstance(following, ast.Expr) else None
        value = text.value if isinstance(text, ast.Constant) else ""
        docs[node.target.id] = section, str(value)
    return docs


def _shown(value: Any) -> str:
    return f'"{value}"' if isinstance(value, str) else str(value)


def settings_text(cfg: CFG) -> str:
    """Every field with its value and meaning; a star marks what differs from the default."""
    default, docs = CFG(), field_docs()
    lines, section = [], ""
    for name, (title, meaning) in docs.items():
        if title != section:
            section = title
            lines += ["", f"# {section}"]
        value = getattr(cfg, name)
        mark = " " if value == getattr(default, name) else "*"
        lines.append(f"{mark} {name} = {_shown(value)}")
        lines.append(f"      {meaning}")
    return "\n".join(lines).strip()


def settings_markdown(cfg: CFG) -> str:
    """A Markdown table of every field: default and meaning, one table a section."""
    docs = field_docs()
    lines, section = [], ""
    for name, (title, text) in docs.items():
        if title != section:
            section = title
            head = f"**{section[0].upper()}{section[1:]}**"
            lines += ["", head, "", "| field | default | meaning |", "|---|---|---|"]
        meaning = text.replace("|", "\\|")
        lines.append(f"| `{name}` | `{_shown(getattr(cfg, name))}` | {meaning} |")
    return "\n".join(lines).strip()
