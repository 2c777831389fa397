"""A fresh environment that holds what the image holds, as far as oofline's dependencies reach."""

import hashlib
import os
import shutil
import subprocess
import sys
from dataclasses import dataclass, field
from importlib import metadata
from pathlib import Path

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name, parse_wheel_filename
from packaging.version import Version

from oofline.errors import ConfigError, OoflineError
from oofline.kaggle.image import Image
from oofline.kaggle.wheels import read_requirements, supported_tags
from oofline.progress import bar
from oofline.storage import write_text

INSIDE = "/image/site-packages"
"""Where the image's packages are seen from inside the namespace.

The last part matters: dill, which hashes functions for `datasets`, takes a module outside of a
folder of that name for the user's own, and copies it with all that it holds.
"""


@dataclass
class Environment:
    """Where the notebook's Python is, and how far it is from Kaggle's.

    Attributes:
        folder: a fresh virtual environment that the notebook may install into.
        packages: folder with what stands for the image's packages.
        python: "3.12", the version that runs.
        remarks: differences from the image, for the report.
        exchanged: wheels of the kernel that this Python cannot install; the same packages of the
            running environment stand for them.
    """

    folder: Path
    packages: Path
    python: str
    remarks: list[str] = field(default_factory=list)
    exchanged: list[str] = field(default_factory=list)

    @property
    def interpreter(self) -> Path:
        """The environment's python, relative to its folder."""
        return Path("bin/python")


def running_python() -> str:
    """Version of the Python that runs this, as in 3.11."""
    return f"{sys.version_info.major}.{sys.version_info.minor}"


def find_python(version: str) -> Path | None:
    """An interpreter of that version: this one, on the PATH, or one of pyenv's."""
    if version == running_python():
        return Path(sys.executable)
    on_path = shutil.which(f"python{version}")
    root = Path(os.environ.get("PYENV_ROOT") or Path.home() / ".pyenv")
    candidates = [Path(on_path)] if on_path else []
    candidates += sorted(root.glob(f"versions/{version}.*/bin/python"), reverse=True)
    for candidate in candidates:
        code = "import sys, venv, ensurepip; print('%d.%d' % sys.version_info[:2])"
        done = subprocess.run([candidate, "-c", code], capture_output=True, text=True, check=False)
        if done.returncode == 0 and done.stdout.strip() == version:
            return candidate
    return None


def fresh_environment(
    image: Image, wheels: Path, work: Path, cache: Path, install: bool
) -> Environment:
    """Make the environment of one rehearsal.

    Args:
        image: what Kaggle has.
        wheels: folder of the wheels that the notebook installs.
        work: empty folder of this rehearsal.
        cache: folder where an installed image is kept for the next rehearsal.
        install: install the image's own versions under its own Python (gigabytes, once); else the
            running environment's packages are linked, and remarks say which versions differ.

    Raises:
        ConfigError: the image's Python is not here, or its packages cannot be installed.
    """
    shipped = {str(parse_wheel_filename(w.name)[0]): w for w in sorted(wheels.glob("*.whl"))}
    if not install:
        return _linked(image, shipped, work)
    interpreter = find_python(image.python)
    if interpreter is None:
        raise ConfigError(
            f"environment = image needs Python {image.python}, and there is none on the PATH or in "
            "~/.pyenv: install it, or use --environment running"
        )
    installed = _installed_image(image, interpreter, shipped, cache)
    environment = Environment(work / "env", installed, image.python)
    _make_venv(interpreter, environment)
    return environment


def _make_venv(interpreter: Path, environment: Environment) -> None:
    """A virtual environment without pip of its own, which sees the image's packages."""
    subprocess.run(
        [interpreter, "-m", "venv", "--without-pip", environment.folder], check=True
    )  # fmt: skip
    site = next(environment.folder.glob("lib/python*/site-packages"))
    write_text(site / "image.pth", f"{INSIDE}\n{environment.packages.absolute()}\n")


def _installed_image(
    image: Image, interpreter: Path, shipped: dict[str, Path], cache: Path
) -> Path:
    """site-packages with the image's versions of what oofline needs, installed once."""
    pins = {n: v for n, v in image.packages.items() if n not in shipped}
    roots = [r for wheel in shipped.values() for r in read_requirements(wheel)]
    names = {str(canonicalize_name(r.name)) for r in roots if r.marker is None} & set(pins)
    key = hashlib.sha256(repr((image.python, sorted(names), sorted(pins.items()))).encode())
    folder = cache / f"image-{image.name}-{key.hexdigest()[:12]}"
    if not (folder / "complete").exists():
        shutil.rmtree(folder, ignore_errors=True)
        with bar(f"install image {image.name} (once)", 2) as progress:
            reason = _install(interpreter, folder, names, pins)
            progress.advance(2)
        if reason:
            raise ConfigError(
                f"the packages of image {image.name} cannot be installed ({reason}): check the "
                "network, or use --environment running"
            )
        write_text(folder / "complete", image.source + "\n")
    return next(folder.glob("venv/lib/python*/site-packages"))


def _install(interpreter: Path, folder: Path, names: set[str], pins: dict) -> str:
    """Install the image's packages into a virtual environment; "" or why not."""
    subprocess.run([interpreter, "-m", "venv", folder / "venv"], check=True)
    constraints = folder / "constraints.txt"
    write_text(constraints, "".join(f"{n}=={v.public}\n" for n, v in sorted(pins.items())))
    torch = [f"torch=={pins['torch'].public}"] if "torch" in names else []
    for wanted in (torch, sorted(names - {"torch"})):
        done = subprocess.run(
            [folder / "venv" / "bin" / "python", "-m", "pip", "install", "--quiet",
             "--disable-pip-version-check", "--only-binary=:all:", "-c", constraints, *wanted],
            capture_output=True, text=True, check=False,
        )  # fmt: skip
        if done.returncode:
            lines = [line for line in done.stderr.splitlines() if line.startswith("ERROR")]
            return lines[-1] if lines else f"pip ended with {done.returncode}"
    return ""


def _linked(image: Image, shipped: dict[str, Path], work: Path) -> Environment:
    """The running environment's packages, linked: those that the image has and the kernel lacks."""
    environment = Environment(work / "env", work / "site-packages", running_python())
    environment.packages.mkdir(parents=True)
    tags = supported_tags(Image("", running_python(), 40, {}, ""))
    for wheel in shipped.values():
        if not any(tag in tags for tag in parse_wheel_filename(wheel.name)[3]):
            environment.exchanged.append(wheel.name)
    exchanged = {str(parse_wheel_filename(name)[0]) for name in environment.exchanged}
    wanted = [r for wheel in shipped.values() for r in read_requirements(wheel)]
    others = []
    for name in sorted({"pip", *_closure(wanted)}):
        if name in shipped and name not in exchanged:
            continue
        if name not in image.packages and name not in exchanged and name != "pip":
            others.append(name)
        distribution = metadata.distribution(name)
        if _link(distribution, environment.packages):
            version = image.packages.get(name)
            if version is not None and version.public != Version(distribution.version).public:
                environment.remarks.append(f"{name} {distribution.version} (image: {version})")
    if others:
        names = ", ".join(others)
        environment.remarks.append(f"not in the image, but asked for by these versions: {names}")
    if environment.python != image.python:
        environment.remarks.insert(0, f"Python {environment.python} (image: {image.python})")
    _make_venv(Path(sys.executable), environment)
    return environment


def _closure(wanted: list[Requirement]) -> set[str]:
    """Names of installed distributions that some requirements reach."""
    found: set[str] = set()
    queue = list(wanted)
    while queue:
        requirement = queue.pop()
        name = str(canonicalize_name(requirement.name))
        marker = requirement.marker
        if name in found or (marker is not None and not marker.evaluate({"extra": ""})):
            continue
        try:
            queue += map(Requirement, metadata.requires(name) or [])
        except metadata.PackageNotFoundError:
            continue  # not here, so shipped: pip says if it is not
        found.add(name)
    return found


def _link(distribution: metadata.Distribution, folder: Path) -> bool:
    """Link what a distribution installed; False where it has no list of files (editable)."""
    tops: dict[str, list[Path]] = {}
    for file in distribution.files or []:
        if file.parts[0] not in ("..", "__pycache__") and file.suffix != ".pth":
            tops.setdefault(file.parts[0], []).append(Path(file))
    root = Path(str(distribution.locate_file("")))
    for top, files in tops.items():
        alone = (root / top / "__init__.py").exists() or top.endswith((".dist-info", ".libs"))
        for path in [Path(top)] if alone or not (root / top).is_dir() else files:
            target = folder / path
            target.parent.mkdir(parents=True, exist_ok=True)
            if not target.exists() and (root / path).exists():
                target.symlink_to(root / path)
    return bool(tops)


def check_environment(environment: Environment) -> None:
    """The fresh interpreter must run at all (OoflineError)."""
    command = [str(environment.folder / environment.interpreter), "-c", "import pip"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise OoflineError(
            f"the fresh environment {environment.folder} does not run: {done.stderr.strip()[-200:]}"
        )
