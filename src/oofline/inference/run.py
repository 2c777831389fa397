"""``oofline predict``: the present test file, by models that are stored."""

import functools
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

from oofline.config import CFG
from oofline.crossval import is_done
from oofline.data.competition import Competition, read_competition
from oofline.data.reading import find_table
from oofline.engines.devices import device_list, labels
from oofline.engines.workers import share
from oofline.errors import DataError
from oofline.inference.deliver import TEST_FILE, Delivery
from oofline.inference.fold import Order, Outcome, fold_predictor, warm_up
from oofline.inference.needs import Needs, Unit, needs_of, settings_of, unit_name
from oofline.progress import bar, say
from oofline.storage import Paths, read_json, sha256_of, write_json
from oofline.training.guard import Guard
from oofline.training.precision import choose_device


def run_predict(options: Any, paths: Paths) -> None:
    """``oofline predict``.

    Models are read from ``--weights`` and predictions written here, with what a submission needs
    besides. Without ``--weights`` the models are those trained here, and their stored predictions
    are replaced only where the test file is not the one that they were trained with.

    Raises:
        ConfigError: settings that only training has, or a device that is absent.
        DataError: models are missing, damaged, of other classes, or would replace what was trained
            here.
    """
    started, cfg = time.monotonic(), options.cfg
    stored = _stored(paths, options.weights)
    needs = needs_of(stored, cfg.exp)
    cfgs = settings_of(stored, needs, cfg)
    competition = read_competition(next(iter(cfgs.values())), paths)
    test_sha256 = sha256_of(find_table(paths.input, "test"))
    delivery = Delivery(needs, stored, paths)
    if delivery.apart:
        delivery.refuse_trained()
    else:
        needs = delivery.needs = _everything(needs, paths)
    predicts = delivery.apart or not _is_current(needs, paths, test_sha256)
    order = Order(cfgs, stored, paths, predicts, options.check_rows if options.check else 0)
    if not predicts and not order.check_rows:
        say(f"{cfg.exp} has predicted this very test file already: nothing to do")
        return
    _say_what(competition, needs, stored, paths)
    leading = next((c for c in cfgs.values() if c.kind == "transformer"), cfg)
    devices = device_list(_any_format(leading), len(needs.units))
    guard = Guard()
    with guard.signals():
        if predicts:
            delivery.begin()
        outcomes = _predict(order, needs.units, devices, guard)
        if predicts:
            delivery.finish(competition.task, competition.test_ids, test_sha256)
    about = _about(cfg.exp, competition, devices, outcomes, time.monotonic() - started)
    path = paths.output / "predict.json"
    write_json(path, about)
    say(_summary(about, path))


def _stored(paths: Paths, weights: str) -> Paths:
    """Where the models are: ``paths`` itself, or another project folder that has some."""
    if not weights or Path(weights).resolve() == paths.root.resolve():
        return paths
    stored = Paths(paths.comp, Path(weights))
    if not stored.output.is_dir():
        raise DataError(
            f"--weights {weights}: there is no {stored.output}; give a folder laid out as a "
            "project's root, with output/<comp>/<exp>/seed<S>/fold<K>"
        )
    return stored


def _everything(needs: Needs, paths: Paths) -> Needs:
    """Every finished fold of the experiments: here, none may keep predictions of another file."""
    seeds, done = {}, []
    for exp in needs.seeds:
        seeds[exp] = [int(s) for s in read_json(paths.experiment(exp) / "scores.json")["seeds"]]
        folders = sorted(paths.experiment(exp).glob("seed*/fold*"))
        done += [(exp, int(f.parent.name[4:]), int(f.name[4:])) for f in folders if is_done(f)]
    whole = replace(needs, seeds=seeds)
    return replace(whole, extra=[unit for unit in done if unit not in whole.units])


def _is_current(needs: Needs, paths: Paths, test_sha256: str) -> bool:
    """Whether every experiment has predicted the test file that is there now."""
    files = [paths.experiment(exp) / "inputs.json" for exp in needs.seeds]
    return all(read_json(file).get(TEST_FILE) == test_sha256 for file in files)


def _say_what(competition: Competition, needs: Needs, stored: Paths, paths: Paths) -> None:
    for note in competition.notes:
        say(note)
    say(f"{len(needs.units)} stored models of {', '.join(needs.seeds)} predict")
    for exp in needs.seeds:
        inputs = stored.experiment(exp) / "inputs.json"
        if inputs.is_file() and read_json(inputs)["train file"] != competition.train_sha256:
            say(f"warning: {exp} was trained on another train file than {paths.input} has now")


def _any_format(cfg: CFG) -> CFG:
    """Each device by itself; a format that it lacks is replaced later (`fold.usable_precision`)."""
    cfg = replace(cfg, device=cfg.device.replace("+", ","), gpus_per_fold=1.0)
    return cfg if cfg.precision == "fp32" else replace(cfg, precision="auto")


def _predict(order: Order, units: list[Unit], devices: list[str], guard: Guard) -> list[Outcome]:
    if len(devices) > 1:
        warm_up(order, units)
        start, logs = functools.partial(fold_predictor, order), order.paths.output / "workers"
        return share(units, devices, start, logs, guard, unit_name)
    predict, outcomes = fold_predictor(order, devices[0], guard), []
    with bar("models", len(units)) as progress:
        for unit in units:
            outcomes.append(predict(unit))
            progress.advance()
    return outcomes


def _about(
    exp: str, competition: Competition, devices: list[str], outcomes: list[Outcome], seconds: float
) -> dict[str, Any]:
    """Contents of predict.json."""
    checked = {"{}/seed{}/fold{}".format(*o.unit): o for o in outcomes if o.n_checked}
    return {
        "exp": exp,
        "rows": len(competition.test_ids),
        "folds": len(outcomes),
        "devices": labels([str(choose_device(n)) if n == "auto" else n for n in devices]),
        "precision": sorted({outcome.precision for outcome in outcomes}),
        "seconds": seconds,
        "forward_seconds": sum(outcome.seconds for outcome in outcomes),
        "check_rows": sum(outcome.n_checked for outcome in checked.values()),
        "max_difference": {name: checked[name].difference for name in sorted(checked)},
    }


def _summary(about: dict[str, Any], path: Path) -> str:
    parts = [
        f"{about['exp']}: {about['rows']} test rows by {about['folds']} models in "
        f"{about['seconds']:.1f} s"
    ]
    if about["max_difference"]:
        name, largest = max(about["max_difference"].items(), key=lambda item: item[1])
        parts.append(
            f"{about['check_rows']} validation rows differ by at most {largest:.2g} from the "
            f"stored predictions ({name})"
        )
    return f"{'; '.join(parts)}; open {path}, or make the submission"
