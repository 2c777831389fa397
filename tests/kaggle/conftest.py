"""A trained toy experiment, and an image that holds what this environment holds."""

import re
import sys
import zipfile
from importlib import metadata
from types import SimpleNamespace

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

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
