"""What is submitted: the validated file, or the output of the kernel that was pushed."""

from dataclasses import dataclass, replace
from pathlib import Path

from oofline.errors import ConfigError, DataError
from oofline.kaggle.client import Client
from oofline.kaggle.manifest import git_commit
from oofline.kaggle.pushed import Pushed, open_kernel
from oofline.kaggle.runs import GOOD, newest_version
from oofline.scoring.stored import stored_folder
from oofline.storage import Paths, read_json, sha256_of

OUTPUT = "submission.csv"
"""What the notebook leaves for Kaggle."""


@dataclass(frozen=True)
class Parcel:
    """What is submitted.

    Attributes:
        name: experiment or ensemble.
        message: stands beside the submission on Kaggle.
        file: the file, or the pushed kernel's copy of it; None before that was fetched.
        kernel: ``owner/slug`` whose output is submitted; "" for a file.
        version: of the kernel; 0 for a file.
        commit: git commit that the predictions come from.
        manifest: SHA-256 of the kernel's manifest; "" for a file.
    """

    name: str
    message: str
    file: Path | None
    kernel: str = ""
    version: int = 0
    commit: str = ""
    manifest: str = ""


def make_parcel(paths: Paths, name: str, message: str, way: str) -> Parcel:
    """What is to be submitted, checked.

    Args:
        paths: of the competition.
        name: experiment or ensemble.
        message: for Kaggle and the ledger.
        way: "file" or "kernel".

    Raises:
        DataError: there is no file or no kernel, or it was changed or is older than its source.
        ConfigError: it was made from something else than ``name``.
    """
    if way == "kernel":
        return _kernel_parcel(paths, name, message)
    path = paths.submission
    again = f"make submission COMP={paths.comp} EXP={name}"
    if not path.is_file() or not path.with_suffix(".json").is_file():
        raise DataError(f"{path} is not there: {again}")
    about = read_json(path.with_suffix(".json"))
    if about.get("sha256") != sha256_of(path):
        raise DataError(f"{path} was changed since it was made and checked: {again}")
    if about.get("source") != name:
        raise ConfigError(f"{path} was made from {about.get('source')!r}, not {name!r}: {again}")
    predictions = stored_folder(paths, name) / "test.parquet"
    if about.get("predictions_sha256") != sha256_of(predictions):
        raise DataError(f"{path} is older than the predictions of {name}: {again}")
    return Parcel(name, message, path, commit=git_commit())


def _kernel_parcel(paths: Paths, name: str, message: str) -> Parcel:
    kernel = open_kernel(paths)
    pushed = Pushed(kernel)
    again = f"make kernel kernel-rehearse kernel-push COMP={paths.comp} EXP={name}"
    if pushed.version is None or pushed.status != GOOD:
        raise ConfigError(f"the kernel in {kernel.path} has not run on Kaggle: {again}")
    if kernel.manifest.get("exp") != name:
        raise ConfigError(
            f"the kernel in {kernel.path} predicts {kernel.manifest.get('exp')!r}, not {name!r}: "
            f"{again}"
        )
    commit = str(kernel.manifest.get("git_commit", ""))
    return Parcel(name, message, None, kernel.ref, pushed.version, commit, kernel.manifest_sha256)


def fetch_output(client: Client, paths: Paths, parcel: Parcel) -> Parcel:
    """Fetch the submission.csv that the kernel's version wrote, to output/<comp>/kernel-output/.

    Raises:
        DataError: it wrote none, or Kaggle has a newer version of the kernel.
    """
    newest = newest_version(client, parcel.kernel)
    if newest != parcel.version:
        raise DataError(
            f"{parcel.kernel} has version {newest} on Kaggle, pushed was version {parcel.version}: "
            f"make kernel-push COMP={paths.comp} again"
        )
    folder = paths.output / "kernel-output"
    (folder / OUTPUT).unlink(missing_ok=True)
    client.ask(
        f"output of {parcel.kernel}", "kernels_output", f"{parcel.kernel}/{parcel.version}",
        str(folder), file_pattern=f"^{OUTPUT.replace('.', '[.]')}$", force=True, page_size=100,
    )  # fmt: skip
    if not (folder / OUTPUT).is_file():
        raise DataError(
            f"{parcel.kernel} version {parcel.version} wrote no {OUTPUT}: see "
            f"https://www.kaggle.com/code/{parcel.kernel}"
        )
    return replace(parcel, file=folder / OUTPUT)
