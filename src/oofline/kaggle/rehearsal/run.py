"""``oofline kernel-rehearse``: from the built kernel to a verdict."""

import datetime
import os
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

from oofline.config import CFG
from oofline.data.competition import Competition, read_competition
from oofline.errors import ConfigError, DataError
from oofline.kaggle.build import kernel_folder
from oofline.kaggle.bundle import units_of
from oofline.kaggle.image import limits, load_image
from oofline.kaggle.manifest import METADATA, NAME, check_tree
from oofline.kaggle.notebook import PARTS, slug_of
from oofline.kaggle.rehearsal import verdict
from oofline.kaggle.rehearsal.environment import check_environment, fresh_environment
from oofline.kaggle.rehearsal.hidden import write_hidden
from oofline.kaggle.rehearsal.isolation import Cell, Finished, choose_isolation, read_predict
from oofline.kaggle.rehearsal.report import Rehearsal, as_json, as_markdown, projected
from oofline.progress import say
from oofline.sources import load_cfg
from oofline.storage import Paths, read_json, sha256_of, write_json, write_text

OWNER = "you"
"""Account in the mount points of a rehearsal."""


def run_kernel_rehearse(options: Any, paths: Paths) -> None:
    """``oofline kernel-rehearse``.

    Raises:
        DataError: the kernel is not what its manifest says, or the rehearsal failed (with the
            cause).
        ConfigError: there is no kernel, or the isolation that was asked for is not permitted.
    """
    folder = kernel_folder(paths)
    manifest = _manifest(folder, options.cfg, paths)
    for name in ("rehearsal.json", "rehearsal.md"):
        (folder / name).unlink(missing_ok=True)
    cfg = _settings(manifest, options.cfg, paths)
    competition = read_competition(cfg, paths)
    work = paths.cache / "rehearsal" / paths.comp
    shutil.rmtree(work, ignore_errors=True)
    rows = _lay_out(options, manifest, folder, work, cfg, paths, competition)
    say(f"hidden test: {rows} rows, the public one has {len(competition.test_ids)}")
    image = load_image(manifest["image_option"], manifest["python"])
    wheels, install = folder / "code" / "wheels", options.environment == "image"
    environment = fresh_environment(image, wheels, work, paths.cache, install)
    check_environment(environment)
    hidden = (paths.root / "input", paths.root / "output")
    cell = Cell(work, environment, hidden, choose_isolation(options.isolation))
    cell.prepare()
    say(f"Python {environment.python}; {cell.described}")
    finished = _run(cell, options, folder / "notebook" / f"{manifest['slug']}.ipynb")
    predict = read_predict(work / "kaggle" / "working", paths.comp)
    found = Rehearsal(
        manifest, sha256_of(folder / NAME), cell.described, environment, finished,
        (rows, len(competition.test_ids)), predict, [], [],
    )  # fmt: skip
    found = _judge(found, cfg, paths, competition, work)
    _report(found, options, paths, folder)
    if found.problems:
        raise DataError(
            f"the rehearsal failed: {'; '.join(found.problems)}; open {folder / 'rehearsal.md'}"
        )
    shutil.rmtree(work)
    say(
        f"rehearsal passed in {finished.seconds:.0f} s; open {folder / 'rehearsal.md'}, then: make "
        f'kernel-push COMP={paths.comp} EXP="{manifest["exp"]}"'
    )


def _manifest(folder: Path, cfg: CFG, paths: Paths) -> dict[str, Any]:
    """The kernel's manifest, every file compared with it and with the parts' own."""
    if not (folder / NAME).exists():
        raise ConfigError(
            f"there is no kernel in {folder}: make kernel COMP={paths.comp} EXP={cfg.exp}"
        )
    manifest = check_tree(folder)
    for part in PARTS:
        check_tree(folder / part)
    if manifest["exp"] != cfg.exp:
        raise ConfigError(
            f"{folder} was built from {manifest['exp']}, not from {cfg.exp}: build it again, or "
            f'rehearse it with EXP="{manifest["exp"]}"'
        )
    return manifest


def _settings(manifest: dict[str, Any], cfg: CFG, paths: Paths) -> CFG:
    """The settings that the competition is read with: those of the first fold's experiment."""
    if manifest["mode"] == "train":
        return cfg
    return replace(load_cfg(paths, units_of(paths, manifest["exp"])[0].exp), device="auto")


def _lay_out(
    options: Any, manifest: dict[str, Any], folder: Path, work: Path, cfg: CFG, paths: Paths,
    competition: Competition,
) -> int:  # fmt: skip
    """Make /kaggle/input as Kaggle mounts it; returns the rows of the hidden test."""
    inputs, new = work / "kaggle" / "input", options.layout == "new"
    for part in PARTS:
        slug = slug_of(f"{manifest['title']} {part}")
        mounted = inputs / "datasets" / OWNER / slug if new else inputs / slug
        for path in sorted((folder / part).rglob("*")):
            name = path.relative_to(folder / part)
            hidden = any(piece.startswith(".") for piece in name.parts)
            if path.is_file() and path.name not in METADATA and not hidden:
                _link(path, mounted / name)
    home = inputs / "competitions" if new else inputs
    rows = write_hidden(cfg, paths, competition, home / manifest["kaggle_slug"], options.multiply)
    root = work / "project" / "input"
    root.mkdir(parents=True)
    (root / paths.comp).symlink_to((home / manifest["kaggle_slug"]).absolute())
    return rows


def _link(source: Path, target: Path) -> None:
    """The same file under another name, or a copy where the file system has no links."""
    target.parent.mkdir(parents=True, exist_ok=True)
    try:
        os.link(source, target)
    except OSError:
        shutil.copyfile(source, target)


def _run(cell: Cell, options: Any, notebook: Path) -> Finished:
    seconds = options.minutes * 60 or limits()["submission_hours"] * 3600
    hours = options.minutes / 60 / 2 if options.minutes else 0.0  # the other half is for the rest
    memory = options.memory_gb or limits()["memory_gb"]
    return cell.run(notebook, seconds, memory, hours)


def _judge(
    found: Rehearsal, cfg: CFG, paths: Paths, competition: Competition, work: Path
) -> Rehearsal:
    """The same with differences and problems filled in."""
    cause = verdict.cause_of(found.finished)
    if cause:
        return replace(found, problems=[cause])
    working, name = work / "kaggle" / "working", found.manifest["exp"]
    if found.manifest["mode"] == "train" and not (working / "submission.csv").exists():
        states = [*working.glob(f"output/{paths.comp}/{name}/seed*/fold*/s*e*.*")]
        missing = [] if states else ["state: the notebook left neither a submission nor a state"]
        return replace(found, problems=missing)
    problem = verdict.check_submission_file(working, cfg, Paths(paths.comp, work / "project"))
    if problem or found.manifest["mode"] == "train":
        return replace(found, problems=[problem] if problem else [])
    differences = verdict.compare_with_stored(
        paths, working, name, competition, found.predict, found.manifest["rounding"]
    )
    bad = [each for each in differences if not each.holds]
    problems = [
        f"predictions: {each.what} differ from the stored ones by {each.largest:.2g} (bound "
        f"{each.bound:.2g}): weights, tokenizer or settings are not those of the training"
        for each in sorted(bad, key=lambda each: -each.largest / each.bound)[:1]
    ]
    return replace(found, differences=differences, problems=problems)


def _report(found: Rehearsal, options: Any, paths: Paths, folder: Path) -> None:
    rows = options.hidden_rows or found.rows[0]
    times = projected(found, rows, options.speedup)
    stored = set()
    if found.manifest["mode"] == "infer":
        units = units_of(paths, found.manifest["exp"])
        scores = [read_json(unit.folder / "scores.json") for unit in units]
        stored = {entry.get("precision", "fp32") for entry in scores}
    created = datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")
    write_text(folder / "rehearsal.md", as_markdown(found, times, options.speedup, stored))
    if found.predict and not found.problems:
        for row in times.itertuples():
            gpus = "1 GPU" if row.gpus == 1 else f"{row.gpus} GPUs"
            say(
                f"{gpus}: start-up {row.startup_s:.0f} s, "
                f"{row.s_per_1000_rows:.2f} s per 1,000 rows, {row.rows:,} rows in {row.hours:.3f} "
                f"of {row.limit_h:g} h (at this machine's speed x {options.speedup:g})"
            )
    if found.differences:
        worst = max(found.differences, key=lambda each: each.largest / each.bound)
        figures = f"{worst.largest:.2g}, bound {worst.bound:.2g}"
        say(f"largest difference from stored predictions: {figures} ({worst.what})")
    if not found.problems:
        write_json(folder / "rehearsal.json", as_json(found, times, created))
