"""A fresh environment of linked packages: what is shipped is not in it, differences are said."""

import subprocess

import pytest
from packaging.version import Version

from oofline.errors import ConfigError
from oofline.kaggle.image import Image, load_image
from oofline.kaggle.rehearsal import environment as module
from oofline.kaggle.rehearsal.environment import (
    check_environment,
    find_python,
    fresh_environment,
    running_python,
)
from oofline.kaggle.wheels import build_own_wheel


def run(made, code):
    """Output of a line of Python in the environment, which sees its packages by their own path."""
    command = [made.folder / made.interpreter, "-E", "-c", code]
    return subprocess.run(command, capture_output=True, text=True, check=False)


def test_shipped_packages_are_not_there_and_the_rest_is(own_image, tmp_path):
    wheels = tmp_path / "wheels"
    wheels.mkdir()
    build_own_wheel(wheels)
    (tmp_path / "work").mkdir()
    image = load_image(str(own_image), running_python())
    made = fresh_environment(image, wheels, tmp_path / "work", tmp_path / "cache", install=False)
    check_environment(made)
    code = "import importlib.util as u; print([n for n in {} if u.find_spec(n)])"
    there = run(made, code.format(["numpy", "pip", "google.protobuf", "oofline", "pytest"])).stdout
    assert there.strip() == "['numpy', 'pip', 'google.protobuf']"
    assert not any(remark.startswith("numpy") for remark in made.remarks)


def test_other_versions_are_said(tmp_path):
    wheels = tmp_path / "wheels"
    wheels.mkdir()
    build_own_wheel(wheels)
    (tmp_path / "work").mkdir()
    image = Image("toy", "3.99", 35, {"numpy": Version("1.0")}, "a test")
    made = fresh_environment(image, wheels, tmp_path / "work", tmp_path / "cache", install=False)
    assert made.remarks[0] == f"Python {running_python()} (image: 3.99)"
    assert any(remark.startswith("numpy ") and "image: 1.0" in remark for remark in made.remarks)


def test_a_python_that_is_not_here(tmp_path, monkeypatch):
    assert find_python("3.99") is None
    monkeypatch.setattr(module, "find_python", lambda version: None)
    image = Image("toy", "3.99", 35, {}, "a test")
    with pytest.raises(ConfigError, match=r"needs Python 3\.99"):
        fresh_environment(image, tmp_path, tmp_path, tmp_path, install=True)
