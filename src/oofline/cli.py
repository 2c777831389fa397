"""The command line: parse, call, print, and the exit code (0 done, 2 your input, 1 a bug)."""

import contextlib
import importlib
import io
import os
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import tyro

from oofline.config import CFG
from oofline.errors import ConfigError, OoflineError, Stopped
from oofline.progress import log_line, log_to, say
from oofline.sources import field_names, load_cfg, nearest
from oofline.storage import Paths, read_json
from oofline.verbs import (
    Compare,
    Config,
    Demo,
    Ensemble,
    LrFind,
    Metrics,
    Oof,
    Plan,
    Predict,
    Pseudo,
    Submission,
    Tune,
    verbs,
)  # fmt: skip

_MODULES = {
    "demo": "oofline.demo.run", "ablation": "oofline.ablation.run", "lr-find": "oofline.lr_find",
    "pretrain": "oofline.pretraining.run", "pseudo": "oofline.pseudo_labels",
    "kernel": "oofline.kaggle.build", "kernel-rehearse": "oofline.kaggle.rehearsal.run",
    "predict": "oofline.inference.run",
    "kernel-push": "oofline.kaggle.push", "submit": "oofline.kaggle.submit",
    "ledger": "oofline.delivery", "download": "oofline.kaggle.download",
    "tune": "oofline.tuning.run", "plan": "oofline.planning.run",
}  # fmt: skip
"""Where ``run_<verb>`` is, if not in `oofline.pipeline`."""


def usage() -> str:
    """The verbs, a line each."""
    width = max(map(len, verbs()))
    lines = [f"  {name:<{width}} {(kind.__doc__ or '').strip()}" for name, kind in verbs().items()]
    return "\n".join(
        ["usage: oofline <verb> [--comp NAME] [--exp NAME] [--<setting> VALUE ...]", "", *lines, "",
         "oofline <verb> --help lists every setting; settings also stand in input/<comp>/cfg.toml."]
    )  # fmt: skip


def parse(argv: Sequence[str], root: Path) -> tuple[Callable[[Any, Paths], None], Any, Paths]:
    """What to call, with what, where.

    Raises:
        ConfigError: unknown verb or setting, wrong type, contradiction.
        SystemExit: after --help.
    """
    table = verbs()
    if not argv or argv[0] in ("-h", "--help"):
        print(usage())
        raise SystemExit(0)
    if argv[0] not in table:
        raise ConfigError(
            f"unknown verb {argv[0]}{nearest(argv[0], list(table))}: see oofline --help"
        )
    kind = table[argv[0]]
    comp, asks_help = _option(argv, "comp"), bool({"-h", "--help"} & set(argv))
    if kind is Demo and not asks_help:
        from oofline.demo.fetch import fetch_demo

        comp = "demo"
        fetch_demo(root)  # before parsing: it brings the demo's cfg.toml
    if not comp and kind not in (Config, Metrics) and not asks_help:
        raise ConfigError("which competition? add --comp NAME (make: COMP=NAME)")
    paths = Paths(comp, root)
    options = _parse_options(kind, argv, _starting_settings(kind, argv, paths, asks_help))
    module = _MODULES.get(argv[0], "oofline.pipeline")
    return (
        getattr(importlib.import_module(module), f"run_{argv[0].replace('-', '_')}"),
        options,
        paths,
    )


def _starting_settings(kind: type, argv: Sequence[str], paths: Paths, asks_help: bool) -> CFG:
    """Settings before the command line has its say."""
    if kind is not Predict or asks_help:
        return load_cfg(paths, _starting_point(kind, argv, paths))
    from oofline.inference.needs import starting_settings

    weights, name = _option(argv, "weights"), _option(argv, "exp") or load_cfg(paths).exp
    stored = Paths(paths.comp, Path(weights)) if weights else paths
    return replace(starting_settings(stored, name), exp=name)


def _starting_point(kind: type, argv: Sequence[str], paths: Paths) -> str:
    """Experiment whose stored settings come before the command line ("" = none).

    What looks at results reads the competition as the experiment did when it was trained.
    """
    given = _option(argv, "from")
    if kind not in (Oof, Submission, Compare, Ensemble, Pseudo) and (
        given or kind not in (LrFind, Plan, Tune)
    ):
        return given
    first = (_option(argv, "exps") or _option(argv, "teacher")).split(",")[0]
    name = first or _option(argv, "base") or _option(argv, "exp") or load_cfg(paths).exp
    if kind is Compare and not (paths.experiment(name) / "cfg.json").exists():
        name = next((p.parent.name for p in sorted(paths.output.glob("*/cfg.json"))), name)
    names = _experiments_behind(paths, name)
    return next((n for n in names if (paths.experiment(n) / "cfg.json").exists()), "")


def _experiments_behind(paths: Paths, name: str) -> Iterator[str]:
    """The experiment of that name, or those in the ensemble of that name."""
    name = name.partition("@")[0].strip().removeprefix("ensembles/")
    blend = paths.ensemble(name) / "scores.json"
    if not blend.exists():
        yield name
        return
    for member in read_json(blend)["members"]:
        yield from _experiments_behind(paths, member)


def _parse_options(kind: type, argv: Sequence[str], base: CFG) -> Any:
    own = [f.name.rstrip("_") for f in fields(kind) if f.name != "cfg"]
    _refuse_unknown(argv[1:], field_names() + own)
    printed = io.StringIO()
    try:
        with contextlib.redirect_stderr(printed):
            return tyro.cli(
                kind, args=list(argv[1:]), default=kind(cfg=base), prog=f"oofline {argv[0]}"
            )
    except SystemExit as stop:
        if not stop.code:
            raise
        raise ConfigError(_one_line(printed.getvalue())) from None


def _refuse_unknown(argv: Sequence[str], known: list[str]) -> None:
    for word in argv:
        if not word.startswith("--") or word == "--help":
            continue
        name = word[2:].split("=")[0].replace("-", "_")
        if name not in known and name.removeprefix("no_") not in known:
            hint = nearest(name, known).replace("_", "-").replace("mean ", "mean --")
            raise ConfigError(f"unknown setting {word.split('=')[0]}{hint}")


def _one_line(text: str) -> str:
    """Tyro's boxed message as one line, without its title and its help."""
    words = " ".join(line.strip("│╭╮╰╯─━ ") for line in text.splitlines()[1:]).split()
    message = " ".join(word for word in words if set(word) - set("─━"))
    return message.split("Argument helptext")[0].split("For full helptext")[0].strip() or text


def _option(argv: Sequence[str], name: str) -> str:
    """Value of an option, the last where it is repeated; "" when it is not there."""
    found = ""
    for index, word in enumerate(argv):
        if word == f"--{name}" and index + 1 < len(argv):
            found = argv[index + 1]
        elif word.startswith(f"--{name}="):
            found = word.split("=", 1)[1]
    return found


def main(argv: Sequence[str] | None = None) -> None:
    """Run one verb and exit: 0 done, 2 the input is wrong, 1 a bug, 130 interrupted."""
    sys.exit(run(sys.argv[1:] if argv is None else argv, Path(os.environ.get("OOFLINE_ROOT", "."))))


def run(argv: Sequence[str], root: Path) -> int:
    """Run one verb below a project folder; returns the exit code."""
    try:
        function, options, paths = parse(argv, root)
        log_to(paths.output / "oofline.log" if paths.comp else None)
        function(options, paths)
    except OoflineError as error:
        print(f"oofline: {error}", file=sys.stderr)
        log_line(f"error: {error}")
        return 2
    except Stopped as stop:
        say(str(stop))
        return stop.exit_code
    except (PermissionError, NotADirectoryError, FileExistsError) as error:
        print(f"oofline: {error.filename}: {error.strerror}; fix that folder", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("oofline: interrupted", file=sys.stderr)
        return 130
    return 0
