"""Kaggle's unmodified client before a service on the loopback address; kernels, real and made up.

A trained toy experiment, and an image that holds what this environment holds.
"""

import importlib.util
import json
import os
import re
import sys
import tempfile
import zipfile
from importlib import metadata
from pathlib import Path
from types import SimpleNamespace

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

# Read by the client when it is imported: set before any test can do that.
os.environ["KAGGLE_API_ENVIRONMENT"] = "LOCALHOST"
os.environ["KAGGLE_CONFIG_DIR"] = tempfile.mkdtemp(prefix="kaggle-config-")

from oofline import cli
from oofline.kaggle.manifest import hash_tree
from oofline.storage import Paths, sha256_of, write_json, write_text

PYTHON = f"{sys.version_info.major}.{sys.version_info.minor}"
SHIPPED = "tyro"
"""A dependency that the toy image lacks."""


def installed_closure():
    """Canonical names -> versions of what oofline needs, as installed here."""
    found, queue = {}, [Requirement(text) for text in metadata.requires("oofline")]
    queue += [Requirement(name) for name in ("nbformat", "packaging")]
    while queue:
        requirement = queue.pop()
        name = canonicalize_name(requirement.name)
        if requirement.marker and not requirement.marker.evaluate({"extra": ""}):
            continue
        try:
            version = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
        if name not in found:
            found[name] = version
            queue += map(Requirement, metadata.requires(name) or [])
    return found


def repack(name, folder):
    """An installed package of pure Python as a wheel."""
    distribution = metadata.distribution(name)
    plain = re.sub(r"[-_.]+", "_", name)
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{plain}-{distribution.version}-py3-none-any.whl"
    with zipfile.ZipFile(path, "w") as archive:
        for file in distribution.files:
            if file.parts[0] != ".." and file.suffix != ".pyc" and file.name != "RECORD":
                archive.write(distribution.locate_file(file), str(file))
        record = next(f for f in distribution.files if f.name == "RECORD")
        names = [*archive.namelist(), str(record)]
        archive.writestr(str(record), "".join(f"{n},,\n" for n in names))
    return path


@pytest.fixture(scope="session")
def own_image(tmp_path_factory):
    """A pip freeze of this environment without one package, as ``--image`` takes it."""
    path = tmp_path_factory.mktemp("image") / "toy-image.txt"
    lines = [f"{n}=={v}\n" for n, v in installed_closure().items() if n != SHIPPED]
    path.write_text("".join(lines))
    return path


@pytest.fixture
def kernel_options(own_image):
    """kernel_options(cfg, **changes) -> options of ``oofline kernel``."""

    def options(cfg, **changes):
        values = {
            "mode": "infer", "image": str(own_image), "python": PYTHON, "title": "",
            "weights_dtype": "fp32", "fold": "all", "seed": "42",
        } | changes  # fmt: skip
        return SimpleNamespace(cfg=cfg, **values)

    return options


@pytest.fixture
def rehearse_options():
    """rehearse_options(cfg, **changes) -> options of ``oofline kernel-rehearse``."""

    def options(cfg, **changes):
        values = {
            "multiply": 3, "hidden_rows": 1000, "speedup": 1.0, "minutes": 10.0, "memory_gb": 0.0,
            "isolation": "auto", "layout": "new", "environment": "running",
        } | changes  # fmt: skip
        return SimpleNamespace(cfg=cfg, **values)

    return options


@pytest.fixture
def trained(write_competition, load_settings):
    """trained(kind, **settings) -> (paths, cfg) of a toy experiment with two folds."""
    from oofline import pipeline

    def make(kind="regression", n_test=21, **settings):
        paths = write_competition(kind, 40, n_test, n_folds=2, epochs=1, **settings)
        cfg = load_settings(paths)
        options = SimpleNamespace(cfg=cfg, fold="all", seed="42", state="")
        pipeline.run_train(options, paths)
        repack(SHIPPED, paths.cache / "wheels")
        return paths, cfg

    return make


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
        about = {"exp": "base", "mode": "infer", "git_commit": "c0ffee"}
        manifest = about | {"files": hash_tree(folder)}
        write_json(folder / "manifest.json", manifest)
        if rehearsed:
            digest = sha256_of(folder / "manifest.json")
            write_json(folder / "rehearsal.json", {"manifest_sha256": digest, "passed": True})
        return folder

    return build
