"""The notebook is valid, names that Kaggle accepts are made, and its cells find what is mounted."""

import json
import re

import nbformat
import pytest

from oofline.errors import ConfigError
from oofline.kaggle.manifest import hash_tree
from oofline.kaggle.notebook import (
    dataset_metadata,
    fill_template,
    kaggle_owner,
    kernel_metadata,
    kernel_title,
    slug_of,
)
from oofline.storage import sha256_of, write_json


@pytest.mark.parametrize(
    ("title", "slug"),
    [("Oofline Demo base", "oofline-demo-base"), ("a+b  C_d!", "a-b-c-d"), ("Füße", "fue")],
)
def test_slugs(title, slug):
    assert slug_of(title) == slug


def test_titles_give_addresses_that_fit():
    for exp in ("base", "base+long", "x" * 80, "日本語"):
        title = kernel_title("", "some-competition", exp, "infer")
        assert 6 <= len(f"{title} weights") <= 50
        assert re.fullmatch(r"[a-z0-9-]{6,50}", slug_of(f"{title} weights"))
    assert kernel_title("", "demo", "base", "train") == "oofline demo base train"
    assert kernel_title("My own kernel", "demo", "base", "infer") == "My own kernel"


@pytest.mark.parametrize("title", ["abc", "日本語のカーネル", "x" * 60])
def test_titles_that_kaggle_refuses(title):
    with pytest.raises(ConfigError, match="is no title for Kaggle"):
        kernel_title(title, "demo", "base", "infer")


def test_metadata_is_private_offline_and_consistent(monkeypatch):
    monkeypatch.setenv("KAGGLE_USERNAME", "someone")
    owner = kaggle_owner()
    kernel = kernel_metadata("oofline demo base", owner, "nlp-getting-started", again=True)
    assert kernel["enable_internet"] is False
    assert kernel["enable_gpu"] is True
    assert kernel["is_private"] is True
    assert kernel["competition_sources"] == ["nlp-getting-started"]
    assert kernel["kernel_sources"] == [kernel["id"]] == ["someone/oofline-demo-base"]
    assert kernel["id"].split("/")[1] == slug_of(kernel["title"])
    ids = [dataset_metadata("oofline demo base", p, owner)["id"] for p in ("code", "weights")]
    assert kernel["dataset_sources"] == ids


def test_the_username_alone_is_read(tmp_path, monkeypatch):
    monkeypatch.delenv("KAGGLE_USERNAME", raising=False)
    monkeypatch.setenv("KAGGLE_CONFIG_DIR", str(tmp_path))
    assert kaggle_owner() == "INSERT_USERNAME_HERE"
    (tmp_path / "kaggle.json").write_text('{"username": "me", "key": "secret"}')
    assert kaggle_owner() == "me"


def cells(parameters):
    notebook = nbformat.reads(fill_template("A title", parameters), as_version=4)
    nbformat.validate(notebook)
    assert "A title" in notebook.cells[0].source
    return [cell.source for cell in notebook.cells if cell.cell_type == "code"]


LAYOUTS = ["{slug}", "datasets/you/{slug}", "datasets/you/{slug}/versions/3"]


@pytest.mark.parametrize("layout", LAYOUTS)
def test_datasets_are_found_wherever_they_are_mounted(layout, tmp_path, monkeypatch):
    monkeypatch.setenv("OOFLINE_KAGGLE", str(tmp_path))
    scope, root = _mounted(tmp_path, layout)
    tree = scope["dataset"]("weights")
    assert (tree / "output" / "model.safetensors").read_text() == "weights"
    (root / "output" / "model.safetensors").rename(root / "renamed on the way")
    assert (scope["dataset"]("weights") / "output" / "model.safetensors").read_text() == "weights"


def _mounted(tmp_path, layout):
    root = tmp_path / "input" / layout.format(slug="t-weights")
    (root / "output").mkdir(parents=True)
    (root / "output" / "model.safetensors").write_text("weights")
    write_json(root / "manifest.json", {"part": "weights", "files": hash_tree(root)})
    digest = sha256_of(root / "manifest.json")
    scope = {}
    for source in cells({"datasets": {"weights": ("t-weights", digest)}})[:2]:
        exec(compile(source, "cell", "exec"), scope)
    return scope, root


def test_a_damaged_or_missing_file_is_named(tmp_path, monkeypatch):
    monkeypatch.setenv("OOFLINE_KAGGLE", str(tmp_path))
    scope, root = _mounted(tmp_path, "{slug}")
    (root / "output" / "model.safetensors").write_text("WEIGHTS")
    with pytest.raises(RuntimeError, match=r"output/model\.safetensors is damaged"):
        scope["dataset"]("weights")
    (root / "output" / "model.safetensors").unlink()
    with pytest.raises(RuntimeError, match=r"output/model\.safetensors is missing"):
        scope["dataset"]("weights")


def test_another_version_of_a_dataset_is_refused(tmp_path, monkeypatch):
    monkeypatch.setenv("OOFLINE_KAGGLE", str(tmp_path))
    scope, root = _mounted(tmp_path, "{slug}")
    manifest = json.loads((root / "manifest.json").read_text())
    write_json(root / "manifest.json", manifest | {"other": True})
    with pytest.raises(RuntimeError, match="in the version that this notebook was made with"):
        scope["dataset"]("weights")
