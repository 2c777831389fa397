"""What the README and the Makefile promise exists, and the table of settings is the code's."""

import os
import re
import runpy
import shutil
import subprocess
from pathlib import Path

import pytest

from oofline import cli
from oofline.sources import field_names

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")
MAKEFILE = (ROOT / "Makefile").read_text(encoding="utf-8")


def test_the_tables_are_made_from_the_code():
    module = runpy.run_path(str(ROOT / "tests" / "readme_table.py"))
    assert module["with_table"](README) == README, "run `make readme`"


def test_every_make_target_named_in_the_readme_exists():
    named = set(re.findall(r"\bmake ([a-z-]+)", README))
    targets = set(re.findall(r"^([a-z-]+):", MAKEFILE, flags=re.MULTILINE))
    assert named - targets == set()
    assert {"demo", "test", "train", "compare"} <= named


def test_every_setting_named_in_the_readme_exists():
    known = {name.replace("_", "-") for name in field_names()} | {
        "comp", "exp", "fold", "seed", "from", "exps", "name", "method", "base", "help", "markdown",
        "arms", "file", "state", "weights", "check", "image", "python", "hidden-rows",
        "weights-dtype", "dry-run", "msg", "way", "wait", "again", "overwrite", "poll-seconds",
        "public-rows", "environment", "table", "versions", "minutes", "from-scratch", "vocab",
        "teacher", "space", "trials", "parallel", "sampler", "prune", "prune-p", "confirm", "apply",
        "storage", "keep-models", "sampler-seed", "samplers", "repeats", "cases",
        "rows", "gpus", "set",
    }  # fmt: skip
    text = README.replace("--no-", "--")
    assert set(re.findall(r"--([a-z][a-z0-9-]+)", text)) - known == set()


def test_every_picture_and_link_is_there():
    links = re.findall(r"\]\((?!http)([^)#]+)", README)
    assert [link for link in links if not (ROOT / link).exists()] == []
    assert len([link for link in links if link.endswith(".png")]) >= 3


def test_every_pipeline_target_is_one_call_of_a_verb():
    for target, verb in re.findall(
        r"^([a-z-]+): setup.*\n\t@\$\(BIN\)/oofline ([a-z-]+)", MAKEFILE, flags=re.MULTILINE
    ):
        assert target == verb
        assert verb in cli.verbs()


@pytest.mark.skipif(shutil.which("make") is None, reason="make is not installed")
def test_make_passes_fold_seed_and_args_on():
    def dry(*argv):
        done = subprocess.run(
            ["make", "-n", "--no-print-directory", "-o", ".venv/.installed", *argv],
            cwd=ROOT, capture_output=True, text=True, check=True,
            env={k: v for k, v in os.environ.items() if k not in ("MAKEFLAGS", "MAKELEVEL")},
        )  # fmt: skip
        return done.stdout.splitlines()[-1]

    line = dry("train", "COMP=disaster", "EXP=awp", "FOLD=0,2", "SEED=42,43", "ARGS=--lr 3e-5")
    for part in ('--fold "0,2"', '--seed "42,43"', '--comp "disaster"', '--exp "awp"', "--lr 3e-5"):
        assert part in line
    assert '--exps "base,awp"' in dry("ensemble", "COMP=c", "EXPS=base,awp")


def test_constraints_pin_what_pyproject_asks_for():
    text = (ROOT / "pyproject.toml").read_text(encoding="utf-8")
    wanted = {
        name.lower() for name in re.findall(r'^  "([A-Za-z0-9-]+)>=', text, flags=re.MULTILINE)
    }
    pinned = {
        line.split("==")[0].lower().replace("_", "-")
        for line in (ROOT / "constraints.txt").read_text().splitlines()
        if "==" in line
    }
    assert wanted - pinned == set()
    assert len(wanted) > 20


JAPANESE = (ROOT / "README.ja.md").read_text(encoding="utf-8")


def without_generated_tables(text):
    return re.sub(r"<!-- (\w+): made by.*?<!-- /\1 -->", "", text, flags=re.DOTALL)


FACTS = {
    "targets": r"\bmake ([a-z]+(?:-[a-z]+)*)",
    "verbs": r"oofline ([a-z]+(?:-[a-z]+)*)(?= --|`)",
    "options": r"--([a-z][a-z-]+)",
    "settings": r"`([a-z]+(?:_[a-z]+)+)(?: =|`)",
    "rows of tables": r"(?m)^\|.*$",
    "links": r"\]\((?!README)([^)]+)\)",
}
"""What both READMEs must name alike."""


def facts(name, text):
    found = set(re.findall(FACTS[name], without_generated_tables(text)))
    return found if name != "rows of tables" else set(re.findall(r"\d\.\d{4,}", str(found)))


@pytest.mark.parametrize("name", FACTS)
def test_the_japanese_readme_says_what_the_english_one_says(name):
    english, japanese = facts(name, README), facts(name, JAPANESE)
    assert english - japanese == set(), "say it in README.ja.md too"
    assert japanese - english == set(), "say it in README.md too"
    assert english


def test_every_command_of_the_japanese_readme_can_be_typed():
    known = {name.replace("_", "-") for name in field_names()}
    commands = re.findall(r"^make train .*ARGS=\"(.*)\"$", JAPANESE, flags=re.MULTILINE)
    assert len(commands) > 5
    options = set(re.findall(r"--([a-z][a-z-]+)", " ".join(commands)))
    assert options - known == {"from"}
    links = re.findall(r"\]\((?!http)([^)#]+)", JAPANESE)
    assert [link for link in links if not (ROOT / link).exists()] == []
