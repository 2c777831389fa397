"""Training in a SageMaker-style container: ``python -m oofline.sagemaker --exp awp --lr 3e-5``.

Hyperparameters come as ``--key value`` and are those of ``oofline train``, with underscores or
hyphens; ``--comp`` may be left out. Where things are is read from the environment, and where it
says nothing, the usual folders below ``/opt/ml`` are taken if they exist:

    SM_CHANNEL_TRAINING   the competition's files: train, test, sample_submission, cfg.toml if any
    SM_MODEL_DIR          receives the fold models, laid out for ``oofline predict --weights``
    SM_OUTPUT_DATA_DIR    receives scores.json, oof.parquet, test.parquet and the pictures
    SM_CHECKPOINT_DIR     holds all that training writes, so that a restarted job goes on from there

The last line is the score, as in ``oof_f1=0.79900;``: ``oof_f1=([-+0-9.eE]+);`` reads it.
"""

import itertools
import os
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import get_type_hints

from oofline import cli
from oofline.config import CFG
from oofline.errors import ConfigError, OoflineError
from oofline.models.kept import kept_files
from oofline.progress import say
from oofline.sources import load_cfg
from oofline.storage import Paths, copy_file, read_json

HOME = Path("/opt/ml")
"""Where such containers keep everything."""
COMP = "competition"
"""Name of the competition, if none is given."""

_TRUE, _FALSE = ("true", "1", "yes"), ("false", "0", "no")


def main() -> None:
    """Train, deliver, and exit as ``oofline train`` does: 0 done, 2 wrong input, 1 a bug."""
    sys.exit(run(sys.argv[1:], os.environ))


def run(argv: Sequence[str], environ: Mapping[str, str]) -> int:
    """Train with these hyperparameters and deliver the results; returns the exit code.

    Args:
        argv: hyperparameters.
        environ: the SM_* variables, and OOFLINE_ROOT for a work folder other than the current one.
    """
    try:
        words = train_options(argv)
        given = dict(itertools.pairwise([*words, ""]))
        paths = Paths(given.get("--comp") or COMP, Path(environ.get("OOFLINE_ROOT", ".")))
        _lay_out(paths, environ)
        exp = given.get("--exp") or load_cfg(paths).exp
    except OoflineError as error:
        print(f"oofline: {error}", file=sys.stderr)
        return 2
    code = cli.run(["train", "--comp", paths.comp, *words], paths.root)
    if code == 0:
        _deliver(paths, exp, environ)
    return code


def train_options(argv: Sequence[str]) -> list[str]:
    """Hyperparameters as ``oofline train`` takes them.

    ``--early_stop true`` style switches become ``--x`` or ``--no-x``, underscores hyphens, and
    quotation marks around a value, which some launchers leave there, go away.

    Raises:
        ConfigError: a switch is neither true nor false.
    """
    kinds, words = get_type_hints(CFG), [word for pair in argv for word in _split(pair)]
    options: list[str] = []
    while words:
        word = words.pop(0)
        name = word.removeprefix("--").replace("-", "_")
        if not word.startswith("--"):
            if word != "train":  # what SageMaker itself says to a container
                options.append(word)
        elif kinds.get(name) is bool and words and not words[0].startswith("--"):
            options.append(_switch(name, words.pop(0)))
        else:
            options.append("--" + name.replace("_", "-"))
            if words:
                options.append(_unquoted(words.pop(0)))
    return options


def _split(word: str) -> list[str]:
    """``--key=value`` as two words."""
    return word.split("=", 1) if word.startswith("--") and "=" in word else [word]


def _unquoted(value: str) -> str:
    return value[1:-1] if len(value) > 1 and value[0] == value[-1] == '"' else value


def _switch(name: str, value: str) -> str:
    text = _unquoted(value).lower()
    if text not in _TRUE + _FALSE:
        raise ConfigError(f"{name} = {value!r} is neither true nor false")
    return ("--" if text in _TRUE else "--no-") + name.replace("_", "-")


def _folder(environ: Mapping[str, str], *names: str, usual: str) -> Path | None:
    """The folder that the first variable which is set names, or the usual one if it exists."""
    for name in names:
        if environ.get(name):
            return Path(environ[name])
    return HOME / usual if (HOME / usual).is_dir() else None


def _lay_out(paths: Paths, environ: Mapping[str, str]) -> None:
    """Make the container look like a project: input/<comp> and output are links to its folders."""
    names = ("SM_CHANNEL_TRAINING", "SM_CHANNEL_TRAIN")
    channel = _folder(environ, *names, usual="input/data/training")
    if channel is not None:
        _link(paths.input, channel)
    elif not paths.input.is_dir():
        raise ConfigError(
            "SM_CHANNEL_TRAINING is not set: start the job with a channel named training that "
            "holds train.csv, test.csv and sample_submission.csv"
        )
    checkpoints = _folder(environ, "SM_CHECKPOINT_DIR", usual="checkpoints")
    if checkpoints is not None:
        (checkpoints / "output").mkdir(parents=True, exist_ok=True)
        _link(paths.root / "output", checkpoints / "output")


def _link(link: Path, folder: Path) -> None:
    """Make ``link`` stand for a folder that exists; an own folder of that name stays (an error)."""
    if not folder.is_dir():
        raise ConfigError(f"{folder} does not exist: check the job's channels")
    if link.is_symlink():
        link.unlink()
    if link.exists():
        if any(link.iterdir()):
            raise ConfigError(f"{link} is there already: move it away, or set OOFLINE_ROOT")
        link.rmdir()
    link.parent.mkdir(parents=True, exist_ok=True)
    link.symlink_to(folder.resolve(), target_is_directory=True)


def _deliver(paths: Paths, exp: str, environ: Mapping[str, str]) -> None:
    """Copy the results to where the platform collects them, and print the score."""
    models = _folder(environ, "SM_MODEL_DIR", usual="model")
    results = _folder(environ, "SM_OUTPUT_DATA_DIR", usual="output/data")
    folder = paths.experiment(exp)
    if models is not None:
        done = [path.parent for path in folder.glob("seed*/fold*/scores.json")]
        files = [*paths.output.glob("folds*"), *folder.glob("*.json"), folder / "oof.parquet"]
        files += [path for fold in done for path in (*fold.iterdir(), *kept_files(fold))]
        _copy(list(dict.fromkeys(files)), paths.root, models)
    if results is not None:
        _copy([*folder.glob("*.json"), *folder.glob("*.parquet")], folder, results)
        _copy([*folder.glob("pictures/*")], folder, results)
    for name, place in (("models", models), ("scores and pictures", results)):
        if place is not None:
            say(f"{name} are in {place}")
    scores = read_json(folder / "scores.json") if (folder / "scores.json").is_file() else {}
    if scores.get("score") is None:
        say(f"{exp} has no out-of-fold score yet: not every fold is trained")
    else:
        print(f"oof_{scores['metric']}={scores['score']:.5f};", flush=True)


def _copy(files: Sequence[Path], base: Path, target: Path) -> None:
    """Copy files (hidden ones left out) to where they stand below ``base``."""
    for file in files:
        if file.is_file() and not file.name.startswith("."):
            copy_file(file, target / file.relative_to(base))


if __name__ == "__main__":
    main()
