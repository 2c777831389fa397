"""Wheels for a Kaggle dataset: oofline's own, and every dependency that the image lacks.

What the image holds in a version that satisfies a requirement stays; what is missing or too old is
shipped, with whatever of its own requirements is missing or too old in turn. pip chooses the files
(`pip download` for the stated Python and platform); the versions of the running environment, which
the models were trained with, are tried first.
"""

import os
import shutil
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Iterable
from importlib import metadata
from pathlib import Path

from packaging.markers import Marker
from packaging.metadata import Metadata
from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet
from packaging.tags import Tag, compatible_tags, cpython_tags
from packaging.utils import InvalidWheelFilename, canonicalize_name, parse_wheel_filename
from packaging.version import Version

from oofline.errors import DataError, OoflineError
from oofline.kaggle.image import Image, never_shipped
from oofline.kaggle.manifest import SOURCE_ROOT
from oofline.progress import bar, say

MECAB = ("fugashi>=1.3", "ipadic>=1.0")
"""What tokenizers with MeCab (BertJapaneseTokenizer) need."""


def build_own_wheel(folder: Path) -> Path:
    """Build oofline's wheel from its source checkout.

    Args:
        folder: receives the wheel.

    Raises:
        OoflineError: this oofline does not run from a checkout, or the build fails.
    """
    root = SOURCE_ROOT
    if not (root / "pyproject.toml").is_file():
        raise OoflineError(
            f"the wheel for Kaggle is built from a source checkout, and {root} has no "
            "pyproject.toml: run this command from a clone (make kernel)"
        )
    with tempfile.TemporaryDirectory() as temporary:
        copy = Path(temporary) / "source"
        copy.mkdir()
        for name in ("pyproject.toml", "README.md", "LICENSE"):
            shutil.copyfile(root / name, copy / name)
        skip = shutil.ignore_patterns("__pycache__", "*.egg-info")
        shutil.copytree(root / "src", copy / "src", ignore=skip)
        isolation = ["--no-build-isolation"] if _has_setuptools() else []
        _pip("build oofline's wheel", ["wheel", "--no-deps", *isolation, "--wheel-dir", str(folder),
                                       str(copy)])  # fmt: skip
    return next(folder.glob("oofline-*.whl"))


def _has_setuptools() -> bool:
    try:
        return Version(metadata.version("setuptools")) >= Version("77")
    except metadata.PackageNotFoundError:
        return False


def read_requirements(wheel: Path) -> list[Requirement]:
    """Requirements that a wheel's metadata states."""
    with zipfile.ZipFile(wheel) as archive:
        name = next(n for n in archive.namelist() if n.endswith(".dist-info/METADATA"))
        found = Metadata.from_email(archive.read(name), validate=False).requires_dist
    return list(found or [])


def missing_wheels(roots: Iterable[Requirement], image: Image, cache: Path) -> list[Path]:
    """Fetch every wheel that the image lacks for some requirements.

    Args:
        roots: requirements of oofline's own wheel and of the experiment.
        image: where they will be installed.
        cache: folder of wheels, read first and added to.

    Returns:
        Wheels to ship, in alphabetical order, oofline's own not among them.

    Raises:
        DataError: the image's torch does not fit, or a package has no wheel for that Python and
            platform.
    """
    roots, chosen = list(roots), dict[str, Path]()
    while True:
        wanted = _wanted(roots, chosen, image)
        todo = {
            name: specifiers
            for name, specifiers in wanted.items()
            if not _fits(image.packages.get(name), specifiers)
            and not (name in chosen and _fits(_version(chosen[name]), specifiers))
        }
        if not todo:
            return sorted(path for name, path in chosen.items() if name in wanted)
        with bar(f"wheels for Python {image.python}", len(todo)) as progress:
            for name, specifiers in todo.items():
                chosen[name] = _fetch(name, specifiers, image, cache)
                progress.advance()


def _fits(version: Version | None, specifiers: SpecifierSet) -> bool:
    return version is not None and specifiers.contains(version, prereleases=True)


def _version(wheel: Path) -> Version:
    return parse_wheel_filename(wheel.name)[1]


def _wanted(
    roots: list[Requirement], chosen: dict[str, Path], image: Image
) -> dict[str, SpecifierSet]:
    """All specifiers by name, over the roots and the wheels chosen so far that are reached."""
    wanted: dict[str, SpecifierSet] = {}
    queue, seen = [(requirement, frozenset[str]()) for requirement in roots], set()
    while queue:
        requirement, extras = queue.pop()
        if not _applies(requirement.marker, extras, image):
            continue
        name = str(canonicalize_name(requirement.name))
        wanted[name] = wanted.get(name, SpecifierSet()) & requirement.specifier
        inner = frozenset(requirement.extras)
        if name in chosen and (name, inner) not in seen:
            seen.add((name, inner))
            queue += [(each, inner) for each in read_requirements(chosen[name])]
    return wanted


def _applies(marker: Marker | None, extras: frozenset[str], image: Image) -> bool:
    environment = image.marker_environment
    return marker is None or any(
        marker.evaluate(environment | {"extra": extra}) for extra in ("", *extras)
    )


def _fetch(name: str, specifiers: SpecifierSet, image: Image, cache: Path) -> Path:
    if never_shipped(name):
        there = image.packages.get(name)
        raise DataError(
            f"image {image.name} has {name} {there or '(none)'}, and {name}{specifiers} is needed: "
            f"{name} is never shipped; choose another --image"
        )
    cache.mkdir(parents=True, exist_ok=True)
    exact = _running_version(name, specifiers)
    attempts = [f"{name}=={exact}"] * (exact is not None) + [f"{name}{specifiers}"]
    for attempt in attempts:
        found = _cached(Requirement(attempt), image, cache)
        if found:
            return found
    for attempt in attempts:
        reason = _download(attempt, image, cache)
        found = _cached(Requirement(attempt), image, cache)
        if found:
            return found
    raise DataError(
        f"no wheel of {name}{specifiers} for Python {image.python} on Linux x86-64 ({reason}): "
        "check the network, or choose another --python or --image"
    )


def _running_version(name: str, specifiers: SpecifierSet) -> Version | None:
    try:
        version = Version(metadata.version(name))
    except metadata.PackageNotFoundError:
        return None
    return version if _fits(version, specifiers) else None


def _cached(wanted: Requirement, image: Image, cache: Path) -> Path | None:
    """The newest wheel in the cache that fits and that the image's Python can install."""
    tags, found = supported_tags(image), []
    for path in cache.glob("*.whl"):
        try:
            name, version, _, own = parse_wheel_filename(path.name)
        except InvalidWheelFilename:
            continue
        if name == canonicalize_name(wanted.name) and _fits(version, wanted.specifier):
            rank = min((tags[tag] for tag in own if tag in tags), default=None)
            if rank is not None:
                found.append((version, -rank, path))
    return max(found)[2] if found else None


def supported_tags(image: Image) -> dict[Tag, int]:
    """Wheel tags that the image can install -> rank, 0 = best."""
    version = tuple(int(part) for part in image.python.split("."))
    interpreter = f"cp{version[0]}{version[1]}"
    tags = [
        *cpython_tags(version, [interpreter], image.platforms),
        *compatible_tags(version, interpreter, image.platforms),
    ]
    return {tag: rank for rank, tag in reversed(list(enumerate(tags)))}


def _download(requirement: str, image: Image, cache: Path) -> str:
    """Let pip fetch one file, or build a wheel where there is only a source; "" or why not."""
    platforms = [word for name in image.platforms for word in ("--platform", name)]
    command = ["download", "--no-deps", "--only-binary=:all:", "--python-version", image.python,
               "--implementation", "cp", *platforms, "--dest", str(cache), requirement]  # fmt: skip
    try:
        _pip(f"fetch {requirement}", command)
        return ""
    except OoflineError as error:
        reason = str(error)
    try:  # a source package of pure data (ipadic) gives a wheel that runs everywhere
        _pip(f"build {requirement}", ["wheel", "--no-deps", "--wheel-dir", str(cache), requirement])
        say(f"{requirement}: only its source is published, the wheel was built here")
        return ""
    except OoflineError:
        return reason


def _pip(what: str, arguments: list[str]) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "pip", arguments[0], "--quiet", "--disable-pip-version-check",
         *arguments[1:]],
        capture_output=True, text=True, check=False,
        env=os.environ | {"SOURCE_DATE_EPOCH": "315532800"},  # equal sources give equal wheels
    )  # fmt: skip
    if done.returncode:
        lines = [line for line in done.stderr.splitlines() if line.startswith("ERROR")]
        raise OoflineError(f"cannot {what}: {lines[-1] if lines else f'pip: {done.returncode}'}")
