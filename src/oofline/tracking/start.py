"""Starting the run of a fold or an experiment, online where that works, else offline."""

import contextlib
import dataclasses
import os
import uuid
from pathlib import Path
from typing import Any, Literal

from oofline.config import CFG
from oofline.progress import say
from oofline.storage import Paths, read_json, write_json
from oofline.tracking.credentials import has_key, prepare
from oofline.tracking.tracker import RUNNING, Tracker, last_line

INIT_SECONDS = 10.0
"""An online start that takes longer falls back to offline."""
FINISH_SECONDS = 5.0
"""The end of an online run waits at most this long for the upload."""
RUN_ID_FILE = "wandb.json"
"""In a fold's or an experiment's folder: the id under which it is tracked."""
SERVICE = "WANDB_SERVICE"
"""Names wandb's background process; child processes inherit it, and it may end before they do."""

Mode = Literal["online", "offline", "disabled"]


def fold_tracker(cfg: CFG, paths: Paths, seed: int, fold: int) -> Tracker:
    """Track the training of one fold.

    The run's id is kept in the fold's folder: a resumed fold continues its run, a fold whose
    folder was deleted starts a new one.

    Args:
        cfg: settings; all of them become the run's config, with ``seed`` and ``fold``.
        paths: of the competition.
        seed: training seed.
        fold: fold index, from 0.
    """
    return _tracker(
        cfg,
        paths,
        folder=paths.fold(cfg.exp, seed, fold),
        name=f"{cfg.exp}-s{seed}-f{fold}",
        job_type="train",
        unit={"seed": seed, "fold": fold},
    )


def oof_tracker(cfg: CFG, paths: Paths) -> Tracker:
    """Track the out-of-fold result of an experiment; scoring it again updates the same run."""
    return _tracker(
        cfg,
        paths,
        folder=paths.experiment(cfg.exp),
        name=f"{cfg.exp}-oof",
        job_type="oof",
        unit={},
    )


def tracking_mode(cfg: CFG) -> Mode:
    """How runs are tracked: the setting, and for "auto" WANDB_MODE and whether a key exists."""
    wanted: str = cfg.wandb
    if wanted == "auto":
        wanted = os.environ.get("WANDB_MODE", "").lower() or "auto"
    if wanted == "disabled":
        return "disabled"
    if wanted in ("offline", "dryrun") or Tracker.server_failed:
        return "offline"
    if has_key():
        return "online"
    if cfg.wandb == "online":
        _fall_back("no key (set WANDB_API_KEY or run `wandb login`)")
    return "offline"


def _tracker(
    cfg: CFG, paths: Paths, folder: Path, name: str, job_type: str, unit: dict[str, int]
) -> Tracker:
    if cfg.wandb == "disabled":
        return Tracker()
    try:
        prepare(paths)
        mode = tracking_mode(cfg)
        if mode == "disabled":
            return Tracker()
        settings = {
            "project": cfg.comp,
            "group": Tracker.group or cfg.exp,
            "job_type": job_type,
            "name": name,
            "id": _run_id(folder, name),
            "config": {**dataclasses.asdict(cfg), **unit},
        }
        return Tracker(_start(paths, mode, settings), FINISH_SECONDS)
    except Exception as error:
        say(f"wandb: {last_line(error)}; {name} is not tracked")
        return Tracker()


def _start(paths: Paths, mode: Mode, settings: dict[str, Any]) -> Any:
    inherited = os.environ.get(SERVICE)
    try:
        run = _init(paths, mode, settings)
    except Exception as error:
        import wandb

        with contextlib.suppress(Exception):
            wandb.teardown()  # the failed start would keep the run's id in use
        if inherited and os.environ.get(SERVICE) == inherited:  # it is not this process's own
            del os.environ[SERVICE]
            return _start(paths, mode, settings)
        if mode == "online":
            _fall_back(f"no online start ({last_line(error)})")
        run = _init(paths, "offline", settings)
    run.define_metric("step", hidden=True)
    run.define_metric("*", step_metric="step")
    return run


def _init(paths: Paths, mode: Mode, settings: dict[str, Any]) -> Any:
    import wandb

    quiet = wandb.Settings(
        init_timeout=INIT_SECONDS,
        finish_timeout=FINISH_SECONDS,
        finish_timeout_raises=True,
        console="off",
        silent=True,
        host="",
        save_code=False,
        label_disable=True,
        disable_git=True,
        disable_code=True,
        x_disable_meta=True,
        x_disable_stats=True,
        x_disable_machine_info=True,
        x_save_requirements=False,
    )
    run = wandb.init(
        dir=str(paths.output),
        mode=mode,
        resume="allow",
        reinit="create_new",
        allow_val_change=True,
        settings=quiet,
        **settings,
    )
    (Path(run.settings.sync_dir) / RUNNING).touch()
    return run


def _fall_back(reason: str) -> None:
    Tracker.server_failed = True
    say(f"wandb: {reason}; tracking offline, `make sync` uploads later")


def _run_id(folder: Path, name: str) -> str:
    path = folder / RUN_ID_FILE
    if not path.exists():
        write_json(path, {"id": f"{_slug(name)}-{uuid.uuid4().hex[:8]}"})
    return read_json(path)["id"]


def _slug(name: str) -> str:
    """``name`` in the characters wandb allows in an id."""
    return "".join(c if c.isascii() and (c.isalnum() or c in "-_") else "-" for c in name)[:64]
