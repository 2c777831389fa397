"""Kaggle's notebook image: its Python, its packages, its limits, from a dated data file."""

import tomllib
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path
from typing import Any

from packaging.utils import canonicalize_name
from packaging.version import InvalidVersion, Version

from oofline.errors import ConfigError, DataError

NEVER_SHIPPED = ("torch", "triton", "nvidia-", "cuda-")
"""Packages (or prefixes of them) that only the image may bring."""


@dataclass(frozen=True)
class Image:
    """What a notebook finds installed.

    Attributes:
        name: of the image, or of the file that lists its packages.
        python: "3.12".
        glibc: minor version of its C library: wheels up to manylinux_2_<glibc> run there.
        packages: canonical name -> version.
        source: where the list comes from, with its date.
    """

    name: str
    python: str
    glibc: int
    packages: dict[str, Version]
    source: str

    @property
    def platforms(self) -> list[str]:
        """Platform tags that pip may choose from, best first."""
        newest = [f"manylinux_2_{minor}_x86_64" for minor in range(self.glibc, 16, -1)]
        return [*newest, "manylinux2014_x86_64", "manylinux_2_12_x86_64", "manylinux2010_x86_64",
                "manylinux_2_5_x86_64", "manylinux1_x86_64", "linux_x86_64"]  # fmt: skip

    @property
    def marker_environment(self) -> dict[str, str]:
        """Values that requirement markers are evaluated with."""
        return {
            "python_version": self.python, "python_full_version": f"{self.python}.0",
            "implementation_name": "cpython", "implementation_version": f"{self.python}.0",
            "platform_python_implementation": "CPython", "os_name": "posix",
            "sys_platform": "linux", "platform_system": "Linux", "platform_machine": "x86_64",
            "platform_release": "", "platform_version": "", "extra": "",
        }  # fmt: skip


def facts() -> dict[str, Any]:
    """The data file: default, limits, images."""
    return tomllib.loads((files("oofline.kaggle") / "images.toml").read_text(encoding="utf-8"))


def limits() -> dict[str, Any]:
    """Kaggle's limits: gigabytes, hours, files."""
    return facts()["limits"]


def load_image(name: str = "", python: str = "") -> Image:
    """An image of the data file, or one described by a pip freeze.

    Args:
        name: name in the data file, or path of a file with ``name==version`` lines; "" = the
            default.
        python: "3.13"; "" = the image's. Another Python than the named image's takes the first
            image with that Python, or the same packages under it where there is none.

    Raises:
        ConfigError: unknown name, or no Python version such as 3.12.
        DataError: the file has no ``name==version`` line.
    """
    known = facts()
    if python and not _is_version(python):
        raise ConfigError(f"python = {python!r} is no version: write it as in 3.12")
    if name and name not in known["images"]:
        return _from_freeze(name, python, known)
    chosen = name or known["default"]
    if python and not name and known["images"][chosen]["python"] != python:
        same = [key for key, entry in known["images"].items() if entry["python"] == python]
        chosen = same[0] if same else chosen
    entry = known["images"][chosen]
    source = f"{entry['source']}; image of {entry['released']}"
    return Image(
        chosen, python or entry["python"], entry["glibc"], read_freeze(entry["packages"]), source
    )


def _is_version(text: str) -> bool:
    parts = text.split(".")
    return len(parts) == 2 and all(part.isdecimal() for part in parts)


def _from_freeze(name: str, python: str, known: dict[str, Any]) -> Image:
    path = Path(name)
    if not path.is_file():
        there = ", ".join(known["images"])
        raise ConfigError(
            f"image = {name!r} is neither one of {there} nor a file: give one of these, or the "
            "output of `pip freeze` in a Kaggle notebook"
        )
    packages = read_freeze(path.read_text(encoding="utf-8"))
    if not packages:
        raise DataError(f"{path} has no line such as numpy==2.0.2: it must be a pip freeze")
    entry = known["images"][known["default"]]
    return Image(path.stem, python or entry["python"], entry["glibc"], packages, str(path))


def read_freeze(text: str) -> dict[str, Version]:
    """Canonical name -> version of every ``name==version`` line; other lines are passed over."""
    packages = {}
    for line in text.splitlines():
        name, _, version = line.partition("==")
        try:
            packages[str(canonicalize_name(name.strip()))] = Version(version.strip())
        except InvalidVersion:
            continue
    return packages


def never_shipped(name: str) -> bool:
    """Whether only the image may bring this package: torch and what belongs to the GPU."""
    prefixes = tuple(part for part in NEVER_SHIPPED if part.endswith("-"))
    return name in NEVER_SHIPPED or name.startswith(prefixes)
