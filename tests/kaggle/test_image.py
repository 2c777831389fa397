"""Kaggle's image: the data file, a pip freeze of one's own, and what is never shipped."""

import pytest
from packaging.version import Version

from oofline.errors import ConfigError, DataError
from oofline.kaggle.image import facts, limits, load_image, never_shipped, read_freeze


def test_every_image_of_the_data_file_is_complete():
    known = facts()
    assert known["default"] in known["images"]
    for name in known["images"]:
        image = load_image(name)
        assert image.python in ("3.12", "3.13")
        assert image.packages["torch"] >= Version("2.6")
        assert {"numpy", "transformers", "huggingface-hub", "pyarrow"} <= set(image.packages)
        assert "20" in image.source
    assert {"dataset_gb", "output_gb", "submission_hours", "memory_gb"} <= set(limits())


def test_another_python_takes_the_image_that_has_it():
    assert load_image(python="3.13").name == "py313"
    assert load_image("v170", "3.13").packages == load_image("v170").packages
    assert load_image(python="3.11").python == "3.11"


def test_a_pip_freeze_is_an_image(tmp_path):
    path = tmp_path / "mine.txt"
    path.write_text("Numpy==2.1.0\ntorch==2.11.0+cu128\npkg @ file:///x.whl\n# a comment\n")
    image = load_image(str(path), "3.13")
    assert (image.name, image.python) == ("mine", "3.13")
    assert image.packages == {"numpy": Version("2.1.0"), "torch": Version("2.11.0+cu128")}


def test_what_is_refused(tmp_path):
    with pytest.raises(ConfigError, match="neither one of v170, py313 nor a file"):
        load_image("v1")
    with pytest.raises(ConfigError, match=r"write it as in 3\.12"):
        load_image(python="3")
    (tmp_path / "empty").write_text("nothing\n")
    with pytest.raises(DataError, match="has no line such as"):
        load_image(str(tmp_path / "empty"))


def test_names_are_canonical():
    assert set(read_freeze("Foo_Bar==1.0\nbad==x.y.z!\n")) == {"foo-bar"}


@pytest.mark.parametrize("name", ["torch", "triton", "nvidia-cublas-cu12", "cuda-bindings"])
def test_only_the_image_brings_the_gpu(name):
    assert never_shipped(name)


def test_others_may_be_shipped():
    assert not never_shipped("torchmetrics")
    assert not never_shipped("cudf")
