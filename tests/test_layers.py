"""The house rules that keep the code habitable, checked on the source."""

import ast
import statistics
from pathlib import Path

import pytest

SOURCE = Path(__file__).parents[1] / "src" / "oofline"
LAYERS = {
    "config": 0, "baseline_settings": 0, "stage_settings": 0, "engine_settings": 0,
    "limits": 0, "conflicts": 0, "tasks": 0, "blocks": 0, "results": 0, "errors": 0, "storage": 0,
    "progress": 0, "sources": 0, "board": 0, "unit_row": 0,
    "data": 1, "models": 1, "scoring": 1, "tracking": 1,
    "techniques": 2, "baselines": 2, "training": 3, "claim": 3, "engines": 4, "takeup": 5,
    "crossval": 5, "sharing": 6, "inference": 6, "kaggle": 6, "report": 6, "pipeline": 7,
    "lr_find": 7, "planning": 7, "delivery": 7, "pretraining": 7, "pseudo_labels": 7, "demo": 8,
    "ablation": 8, "verbs": 8, "tuning": 9, "cli": 10, "__main__": 11, "sagemaker": 11,
}  # fmt: skip
FILES = sorted(SOURCE.rglob("*.py"))
TREES = {path: ast.parse(path.read_text(encoding="utf-8")) for path in FILES}


def layer_name(module):
    return module.split(".")[1] if "." in module else module


def imports(path):
    """(module, line) of every import of our own package, lazy ones included."""
    for node in ast.walk(TREES[path]):
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("oofline"):
            names = [node.module] if node.module != "oofline" else [
                f"oofline.{alias.name}" for alias in node.names
            ]  # fmt: skip
            yield from ((name, node.lineno) for name in names)
        elif isinstance(node, ast.Import):
            yield from ((a.name, node.lineno) for a in node.names if a.name.startswith("oofline"))


def violations(path, found):
    own = path.relative_to(SOURCE).parts[0].removesuffix(".py")
    for module, line in found:
        name = layer_name(module)
        same = name == own and len(path.relative_to(SOURCE).parts) > 1
        if not same and LAYERS[name] >= LAYERS[own] and not (LAYERS[name] == LAYERS[own] == 0):
            yield f"{path.relative_to(SOURCE)}:{line} ({own}) imports {module} upwards or sideways"


@pytest.mark.parametrize("path", FILES, ids=lambda p: str(p.relative_to(SOURCE)))
def test_imports_go_only_downwards(path):
    if path.parent == SOURCE and path.name == "__init__.py":
        assert list(imports(path)) == []
        return
    assert list(violations(path, imports(path))) == []


def test_an_upward_import_would_be_found():
    path = SOURCE / "scoring" / "metrics.py"
    assert list(violations(path, [("oofline.training.fold", 3)]))
    assert list(violations(path, [("oofline.data.folds", 3)]))
    assert not list(violations(path, [("oofline.results", 3), ("oofline.scoring.oof", 4)]))


def test_no_cycles_within_a_package():
    graph = {}
    for path in FILES:
        name = "oofline." + ".".join(path.relative_to(SOURCE).with_suffix("").parts)
        graph[name.removesuffix(".__init__")] = {module for module, _ in imports(path)}

    def reach(start, seen):
        for module in graph.get(start, ()):
            if module not in seen:
                seen.add(module)
                reach(module, seen)
        return seen

    assert [name for name in graph if name in reach(name, set())] == []


def functions():
    for path, tree in TREES.items():
        for node in ast.walk(tree):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                body = node.body[1:] if ast.get_docstring(node) else node.body
                size = body[-1].end_lineno - body[0].lineno + 1 if body else 0
                yield path.relative_to(SOURCE), node, size


def test_sizes():
    sizes = [(str(path), node.name, size) for path, node, size in functions()]
    assert [entry for entry in sizes if entry[2] > 50] == []
    assert statistics.median(size for *_, size in sizes) <= 10
    lines = {str(p.relative_to(SOURCE)): p.read_text().count("\n") for p in FILES}
    assert {name: n for name, n in lines.items() if n > 250} == {}
    assert lines["training/trainer.py"] <= 120


def public(body):
    """Functions of a module and methods of its public classes; nested functions are not public."""
    for node in body:
        if isinstance(node, ast.ClassDef) and not node.name.startswith("_"):
            yield from public(node.body)
        elif isinstance(node, ast.FunctionDef) and not node.name.startswith("_"):
            yield node


def test_public_functions_have_docstrings():
    bare = [
        f"{path.relative_to(SOURCE)}:{node.lineno} {node.name}"
        for path, tree in TREES.items()
        for node in public(tree.body)
        if not ast.get_docstring(node)
    ]
    assert bare == []


def test_no_catch_all_names():
    banned = {"utils", "misc", "helpers", "common"}
    assert [p for p in FILES if p.stem in banned] == []


def test_the_loop_names_no_technique():
    text = (SOURCE / "training" / "trainer.py").read_text().lower()
    for name in ("awp", "fgm", "sift", "mixout", "rdrop", "ema"):
        assert f"{name}_" not in text
        assert f" {name} " not in text


def test_nothing_is_unpickled():
    for path, tree in TREES.items():
        for node in ast.walk(tree):
            if isinstance(node, ast.Attribute) and node.attr == "load":
                owner = getattr(node.value, "id", "")
                assert owner not in ("torch", "pickle", "joblib", "np"), f"{path}:{node.lineno}"
