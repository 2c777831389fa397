"""What the image lacks is shipped, and nothing else; pip works on a folder of small wheels."""

import zipfile

import pytest
from packaging.requirements import Requirement
from packaging.version import Version

from oofline.errors import DataError
from oofline.kaggle.image import Image
from oofline.kaggle.wheels import build_own_wheel, missing_wheels, read_requirements


def wheel(folder, name, version, requires=(), tag="py3-none-any"):
    """A tiny valid wheel."""
    info = f"{name}-{version}.dist-info"
    lines = ["Metadata-Version: 2.1", f"Name: {name}", f"Version: {version}"]
    lines += [f"Requires-Dist: {text}" for text in requires]
    path = folder / f"{name}-{version}-{tag}.whl"
    folder.mkdir(exist_ok=True)
    files = {
        f"{name}.py": "",
        f"{info}/METADATA": "\n".join(lines) + "\n",
        f"{info}/WHEEL": f"Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: {tag}\n",
        f"{info}/RECORD": "",
    }
    with zipfile.ZipFile(path, "w") as archive:
        for file, text in files.items():
            archive.writestr(file, text)
    return path


def image(**packages):
    versions = {name.replace("_", "-"): Version(v) for name, v in packages.items()}
    return Image("toy", "3.12", 35, versions, "a test")


@pytest.fixture
def index(tmp_path, monkeypatch):
    """A folder that is all pip knows."""
    folder = tmp_path / "index"
    folder.mkdir()
    for name in ("PIP_INDEX_URL", "PIP_EXTRA_INDEX_URL", "PIP_CONFIG_FILE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(folder))
    return folder


def ship(roots, an_image, tmp_path):
    found = missing_wheels([Requirement(text) for text in roots], an_image, tmp_path / "cache")
    return [path.name for path in found]


def test_missing_and_too_old_ones_with_what_they_need(index, tmp_path):
    wheel(index, "newone", "1.0", ["kept>=1", "deeper>=2", "marked; python_version < '3'"])
    wheel(index, "deeper", "2.5", ["raised>=3"])
    wheel(index, "raised", "3.1")
    wheel(index, "kept", "9.0")
    found = ship(["newone", "kept"], image(kept="1.5", raised="2.0"), tmp_path)
    assert found == [
        "deeper-2.5-py3-none-any.whl", "newone-1.0-py3-none-any.whl", "raised-3.1-py3-none-any.whl",
    ]  # fmt: skip


def test_nothing_where_the_image_has_all(index, tmp_path):
    assert ship(["kept>=1", "torch>=2"], image(kept="1.5", torch="2.10.0+cu128"), tmp_path) == []


def test_the_wheel_of_the_stated_python_and_platform_is_taken(index, tmp_path):
    for tag in ("cp311-cp311-manylinux_2_17_x86_64", "cp312-cp312-manylinux_2_28_x86_64",
                "cp312-cp312-macosx_11_0_arm64", "cp312-cp312-manylinux_2_39_x86_64"):  # fmt: skip
        wheel(index, "native", "1.0", tag=tag)
    assert ship(["native"], image(), tmp_path) == [
        "native-1.0-cp312-cp312-manylinux_2_28_x86_64.whl"
    ]


def test_a_second_run_needs_no_index(index, tmp_path, monkeypatch):
    wheel(index, "newone", "1.0")
    first = ship(["newone"], image(), tmp_path)
    monkeypatch.setenv("PIP_FIND_LINKS", str(tmp_path / "nothing"))
    assert ship(["newone"], image(), tmp_path) == first


def test_specifiers_of_all_who_ask_are_joined(index, tmp_path):
    wheel(index, "a", "1.0", ["shared<3"])
    wheel(index, "shared", "2.0")
    wheel(index, "shared", "3.0")
    assert ship(["shared>=1", "a"], image(), tmp_path) == [
        "a-1.0-py3-none-any.whl", "shared-2.0-py3-none-any.whl",
    ]  # fmt: skip


def test_torch_is_never_shipped(index, tmp_path):
    wheel(index, "torch", "9.0")
    with pytest.raises(DataError, match=r"image toy has torch 2.1.0, and torch>=2.6 is needed"):
        ship(["torch>=2.6"], image(torch="2.1.0"), tmp_path)


def test_a_package_without_a_wheel_is_named(index, tmp_path):
    wheel(index, "native", "1.0", tag="cp311-cp311-win_amd64")
    with pytest.raises(DataError, match=r"no wheel of native>=1 for Python 3\.12"):
        ship(["native>=1"], image(), tmp_path)


def test_own_wheel_holds_template_and_image_data(tmp_path):
    path = build_own_wheel(tmp_path)
    with zipfile.ZipFile(path) as archive:
        names = archive.namelist()
    assert "oofline/kaggle/kernel_template.ipynb" in names
    assert "oofline/kaggle/images.toml" in names
    assert "torch" in {requirement.name for requirement in read_requirements(path)}
    again = build_own_wheel(tmp_path / "again")
    assert path.read_bytes() == again.read_bytes()
