"""Kaggle's unmodified client before a service on the loopback address."""

import importlib.util
import json
import os
import tempfile
from pathlib import Path

import pytest

# Read by the client when it is imported: set before any test can do that.
os.environ["KAGGLE_API_ENVIRONMENT"] = "LOCALHOST"
os.environ["KAGGLE_CONFIG_DIR"] = tempfile.mkdtemp(prefix="kaggle-config-")

from oofline import cli
from oofline.storage import Paths, sha256_of, write_json, write_text

_SPEC = importlib.util.spec_from_file_location(
    "kaggle_service", Path(__file__).with_name("service.py")
)
_MODULE = importlib.util.module_from_spec(_SPEC)


@pytest.fixture
def service(monkeypatch, tmp_path):
    """The service; every request of the client goes there, none elsewhere."""
    if not hasattr(_MODULE, "Service"):
        _SPEC.loader.exec_module(_MODULE)
    server = _MODULE.Service()
    for name in list(os.environ):
        if name.startswith("KAGGLE_API_TOKEN") or name.lower() in ("no_proxy", "all_proxy"):
            monkeypatch.delenv(name)
    for name in ("http_proxy", "https_proxy", "HTTP_PROXY", "HTTPS_PROXY"):
        monkeypatch.setenv(name, server.url)
    monkeypatch.setenv("KAGGLE_USERNAME", "me")
    monkeypatch.setenv("KAGGLE_KEY", "secret")
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    (tmp_path / "tmp").mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "tmp"))
    yield server
    server.stop()


@pytest.fixture
def oofline(tmp_path, capsys, monkeypatch):
    """oofline("submit", ...) -> (exit code, stdout, stderr), run below tmp_path, without pauses."""
    monkeypatch.setenv("COLUMNS", "200")

    def run(verb, *argv, comp="toy"):
        code = cli.run([verb, "--comp", comp, *map(str, argv)], tmp_path)
        captured = capsys.readouterr()
        return code, captured.out, captured.err

    return run


@pytest.fixture
def paths(tmp_path):
    return Paths("toy", tmp_path)


@pytest.fixture
def kernel(paths):
    """kernel(title, content) -> output/toy/kernel as `make kernel kernel-rehearse` leaves it."""

    def build(title="Toy base", content=b"weights", rehearsed=True):
        folder, slug = paths.output / "kernel", title.lower().replace(" ", "-")
        files = {
            "code/wheels/oofline-0.1.0-py3-none-any.whl": b"wheel" * 100,
            "code/manifest.json": b"{}",
            "weights/output/toy/base/seed42/fold0/model.safetensors": content * 100,
            "weights/output/toy/base/cfg.json": b"{}",
            "weights/manifest.json": b"{}",
        }
        for name, data in files.items():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            (folder / name).write_bytes(data)
        for part in ("code", "weights"):
            meta = {
                "id": f"me/{slug}-{part}", "title": f"{title} {part}",
                "licenses": [{"name": "CC0-1.0"}],
            }  # fmt: skip
            write_json(folder / part / "dataset-metadata.json", meta)
        cell = {"cell_type": "code", "source": ["print(1)"], "outputs": [], "metadata": {}}
        notebook = {"cells": [cell | {"execution_count": None}], "metadata": {}, "nbformat": 4}
        write_text(folder / "notebook" / f"{slug}.ipynb", json.dumps(notebook))
        meta = {
            "id": f"me/{slug}", "title": title, "code_file": f"{slug}.ipynb", "language": "python",
            "kernel_type": "notebook", "is_private": True, "enable_gpu": True,
            "enable_internet": False, "competition_sources": ["toy"],
            "dataset_sources": [f"me/{slug}-code", f"me/{slug}-weights"],
        }  # fmt: skip
        write_json(folder / "notebook" / "kernel-metadata.json", meta)
        hashes = {name: {"sha256": sha256_of(folder / name)} for name in files}
        manifest = {"exp": "base", "mode": "infer", "git_commit": "c0ffee", "files": hashes}
        write_json(folder / "manifest.json", manifest)
        if rehearsed:
            digest = sha256_of(folder / "manifest.json")
            write_json(folder / "rehearsal.json", {"manifest_sha256": digest, "passed": True})
        return folder

    return build
