"""``oofline kernel``: everything a Kaggle code competition needs, in one folder with a manifest."""

import dataclasses
import datetime
import shutil
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

from packaging.requirements import Requirement
from packaging.utils import parse_wheel_filename

from oofline.config import CFG
from oofline.data.competition import read_competition
from oofline.errors import ConfigError, DataError
from oofline.kaggle import bundle, notebook, wheels
from oofline.kaggle.half import measure_rounding, write_half
from oofline.kaggle.image import Image, limits, load_image
from oofline.kaggle.manifest import NAME, git_commit, hash_tree
from oofline.kaggle.secrets import check_secrets
from oofline.models.kept import BACKBONES
from oofline.models.text_model import WEIGHTS_FILE
from oofline.progress import bar, say
from oofline.storage import Paths, sha256_of, write_json, write_text

Entry = tuple[str, Path]
MARGIN_HOURS = 0.5
"""MODE=train stops this long before the session's end, to install, save and be collected."""


def kernel_folder(paths: Paths) -> Path:
    """Where the kernel of a competition is built."""
    return paths.output / "kernel"


def run_kernel(options: Any, paths: Paths) -> None:
    """``oofline kernel``."""
    cfg: CFG = options.cfg
    image = load_image(options.image, options.python)
    title = notebook.kernel_title(
        options.title, cfg.kaggle_slug or paths.comp, cfg.exp, options.mode
    )
    say(f"image {image.name}: Python {image.python}, torch {image.packages.get('torch', '(none)')}")
    with tempfile.TemporaryDirectory() as temporary:
        staging = Path(temporary)
        weights = _weights(options, paths, staging)
        extras = _extra_requirements(options, paths, weights)
        code = _code(image, extras, staging, paths.cache / "wheels")
        scanned = check_secrets([*weights, *code])
        rounding = _rounding(options, paths)
        about = {
            "part": "kernel", "comp": paths.comp, "exp": cfg.exp, "mode": options.mode,
            "title": title, "slug": notebook.slug_of(title),
            "kaggle_slug": cfg.kaggle_slug or paths.comp, "python": image.python,
            "image": image.name, "image_option": options.image, "image_source": image.source,
            "torch": str(image.packages.get("torch", "")), "weights_dtype": options.weights_dtype,
            "rounding": rounding, "extra_requirements": [extra.name for extra in extras],
            "git_commit": git_commit(),
            "created": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        }  # fmt: skip
        folder = _write(options, paths, about, code, weights)
    say(f"{scanned} files scanned for secrets: none")
    _say_sizes(folder)
    say(
        f"built {folder} from {cfg.exp} (manifest {sha256_of(folder / NAME)[:12]}); next: "
        f'make kernel-rehearse COMP={paths.comp} EXP="{cfg.exp}"'
    )


def _weights(options: Any, paths: Paths, staging: Path) -> list[Entry]:
    """What the weights dataset holds."""
    if options.mode == "infer":
        return list(bundle.trained_files(paths, options.cfg.exp))
    if not paths.folds.exists():
        raise DataError(f"{paths.folds} does not exist: make folds COMP={paths.comp} first")
    if options.weights_dtype != "fp32":
        raise ConfigError("weights_dtype is for MODE=infer: training needs the encoder as it is")
    write_text(staging / bundle.SETTINGS, bundle.settings_toml(options.cfg))
    return [
        *bundle.training_files(options.cfg, paths),
        (bundle.SETTINGS, staging / bundle.SETTINGS),
    ]


def _code(image: Image, extras: list[Requirement], staging: Path, cache: Path) -> list[Entry]:
    """What the code dataset holds: oofline's wheel and what the image lacks."""
    own = wheels.build_own_wheel(staging)
    roots = [*wheels.read_requirements(own), *extras]
    shipped = wheels.missing_wheels(roots, image, cache)
    say(f"wheels that the image lacks: {', '.join(path.name for path in shipped) or 'none'}")
    return [(f"wheels/{path.name}", path) for path in [own, *shipped]]


def _extra_requirements(options: Any, paths: Paths, weights: list[Entry]) -> list[Requirement]:
    """What Japanese words need, where a tokenizer or a baseline finds them with MeCab."""
    dictionaries = bundle.mecab_dictionaries(weights)
    if options.mode == "train":
        dictionaries |= bundle.dictionary_to_train_with(options.cfg, paths)
    texts = [wheels.DICTIONARIES.get(name, name) for name in sorted(dictionaries)]
    return [Requirement(text) for text in ([wheels.MECAB] if texts else []) + texts]


def _rounding(options: Any, paths: Paths) -> dict[str, Any] | None:
    """Measure what fp16 weights change, and say it; None where nothing is rounded."""
    if options.weights_dtype == "fp32":
        return None
    cfg: CFG = options.cfg
    competition = read_competition(cfg, paths)
    units = bundle.units_of(paths, cfg.exp)
    found = measure_rounding(paths, competition, units, cfg.device)
    say(
        f"fp16 weights: OOF {competition.task.metric} {found.score_half:.5f} instead of "
        f"{found.score:.5f} ({found.score_half - found.score:+.6f}) over {found.rows} rows, a "
        f"prediction differs by {found.max_difference:.2g} at most, computed in {found.precision}"
    )
    return dataclasses.asdict(found)


def _write(
    options: Any, paths: Paths, about: dict[str, Any], code: list[Entry], weights: list[Entry]
) -> Path:
    """Write everything beside the old kernel, then take its place."""
    folder = kernel_folder(paths)
    new, owner = folder.with_name(".kernel.tmp"), notebook.kaggle_owner()
    pushed = folder / "pushed.json"
    shutil.rmtree(new, ignore_errors=True)
    try:
        half = options.weights_dtype == "fp16"
        _write_part(new / "code", "code", code, bundle.place)
        _write_part(new / "weights", "weights", weights, _place_half if half else bundle.place)
        again = options.mode == "train" and pushed.exists()
        _write_notebook(options, new, about, owner, again)
        for part in notebook.PARTS:
            metadata = notebook.dataset_metadata(about["title"], part, owner)
            write_json(new / part / "dataset-metadata.json", metadata)
        files = hash_tree(new)
        sizes = {
            part: sum(entry["bytes"] for name, entry in files.items() if name.startswith(part))
            for part in notebook.PARTS
        }
        _check_sizes(sizes)
        write_json(new / NAME, about | {"bytes": sizes, "files": files})
        if pushed.exists():
            bundle.place(pushed, new / pushed.name)
        shutil.rmtree(folder, ignore_errors=True)
        new.replace(folder)
    finally:
        shutil.rmtree(new, ignore_errors=True)
    return folder


def _write_part(
    folder: Path, part: str, entries: list[Entry], place: Callable[[Path, Path], None]
) -> None:
    with bar(f"write {part}", len(entries)) as progress:
        for target, source in entries:
            place(source, folder / target)
            progress.advance()
    write_json(folder / NAME, {"part": part, "files": hash_tree(folder)})


def _place_half(source: Path, target: Path) -> None:
    trained = target.name == WEIGHTS_FILE and BACKBONES not in target.parts
    (write_half if trained else bundle.place)(source, target)


def _write_notebook(
    options: Any, new: Path, about: dict[str, Any], owner: str, again: bool
) -> None:
    """The notebook, which names both datasets' manifests, and kernel-metadata.json."""
    title, slug, cfg = about["title"], about["slug"], options.cfg
    limit = limits()["submission_hours"]
    kernel = {
        "comp": about["comp"], "exp": about["exp"], "mode": about["mode"],
        "competition": about["kaggle_slug"], "python": about["python"],
        "requirements": [f"oofline=={_own_version(new)}", *about["extra_requirements"]],
        "datasets": {
            part: (notebook.slug_of(f"{title} {part}"), sha256_of(new / part / NAME))
            for part in notebook.PARTS
        },
        "fold": options.fold, "seed": options.seed,
        "hours": cfg.time_limit_hours or limit - MARGIN_HOURS,
    }  # fmt: skip
    path = new / "notebook" / f"{slug}.ipynb"
    write_text(path, notebook.fill_template(title, kernel))
    check_secrets([(path.name, path)])
    metadata = notebook.kernel_metadata(title, owner, about["kaggle_slug"], again)
    write_json(new / "notebook" / "kernel-metadata.json", metadata)


def _own_version(new: Path) -> str:
    """Version of oofline's wheel in the code dataset."""
    wheel = next((new / "code" / "wheels").glob("oofline-*.whl"))
    return str(parse_wheel_filename(wheel.name)[1])


def _check_sizes(sizes: dict[str, int]) -> None:
    most = limits()["dataset_gb"]
    for part, size in sizes.items():
        if size > most * 1e9:
            raise DataError(
                f"the {part} dataset has {size / 1e9:.1f} GB, Kaggle takes {most}: leave members "
                "out, or use --weights-dtype fp16"
            )


def _say_sizes(folder: Path) -> None:
    most = limits()["dataset_gb"]
    for part in notebook.PARTS:
        files = hash_tree(folder / part)
        size = sum(entry["bytes"] for entry in files.values())
        share = f"{size / (most * 1e9):.2%} of the {most} GB that Kaggle allows"
        say(f"dataset {part}: {len(files)} files, {size / 1e6:,.1f} MB, {share}")
