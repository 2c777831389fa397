"""What each verb does: the layers below, wired together, and one line at the end."""

from typing import Any

import numpy as np
import pandas as pd

from oofline.claim import check_inputs
from oofline.config import CFG
from oofline.crossval import parse_folds, parse_seeds, say_passed_over
from oofline.data.competition import Competition, read_competition
from oofline.data.folds import Folds, ensure_folds
from oofline.errors import ConfigError, DataError
from oofline.kaggle.ledger import read_ledger, scored, sent_today
from oofline.kaggle.submission import make_submission
from oofline.kaggle.submissions import known_limit
from oofline.progress import bar, say
from oofline.report.agreement import show_agreement, show_table
from oofline.report.comparison import compare_forest, comparison_text, ensemble_weights
from oofline.report.experiment import report_experiment
from oofline.report.terminal import print_frame
from oofline.scoring.compare import compare_experiments
from oofline.scoring.ensemble import build_ensemble
from oofline.scoring.metrics import get_metric
from oofline.scoring.oof import collect, complete_seeds
from oofline.scoring.registry import METRICS
from oofline.scoring.stored import stored_names
from oofline.scoring.summary import write_oof
from oofline.sharing import train_on_devices
from oofline.storage import Paths, sha256_of, write_text
from oofline.takeup import take_up
from oofline.tracking import sync


def _open(cfg: CFG, paths: Paths) -> tuple[Competition, Folds]:
    """Read the competition and its folds, which must be there: looking at results makes none."""
    if not paths.folds.exists():
        raise DataError(f"{paths.folds} does not exist: make folds COMP={paths.comp}")
    competition = read_competition(cfg, paths)
    folds, _ = ensure_folds(cfg, paths, competition)
    return competition, folds


def _clusters(competition: Competition, folds: Folds) -> np.ndarray | None:
    """Rows that are drawn together in intervals: the groups, where a column names some."""
    return folds.groups if competition.group_col else None


def run_folds(options: Any, paths: Paths) -> None:
    """``oofline folds``."""
    competition = read_competition(options.cfg, paths)
    for note in competition.notes:
        say(note)
    with bar("folds and leak audit", 1) as progress:
        folds, created = ensure_folds(options.cfg, paths, competition)
        progress.advance()
    for line in folds.summary:
        say(line)
    done = "made" if created else "already there, kept:"
    say(f"{done} {paths.folds}; open {paths.folds.with_suffix('.md')} for the leak audit")


def run_train(options: Any, paths: Paths) -> None:
    """``oofline train``."""
    cfg: CFG = options.cfg
    seeds, folds = parse_seeds(options.seed), parse_folds(options.fold, cfg.n_folds)
    take_up(cfg, paths, options.state)
    done = train_on_devices(cfg, paths, folds, seeds)
    say(f"trained {done} folds of {cfg.exp}")
    if complete := _complete_seeds(cfg, paths):
        _score(cfg, paths, complete)
    say_passed_over(paths, [cfg.exp], [(seed, fold) for seed in seeds for fold in folds])


def _complete_seeds(cfg: CFG, paths: Paths) -> list[int]:
    """Seeds that can be scored; says of the others how to complete them."""
    _, folds = _open(cfg, paths)
    complete, missing = complete_seeds(paths, cfg.exp, folds.fold)
    for seed, left in missing.items():
        say(
            f"seed {seed} is not scored, folds {', '.join(map(str, left))} are missing: make train "
            f'COMP={paths.comp} EXP="{cfg.exp}" FOLD={",".join(map(str, left))} SEED={seed} '
            f'ARGS="--from {cfg.exp}"'
        )
    return complete


def run_oof(options: Any, paths: Paths) -> None:
    """``oofline oof``."""
    exp = options.cfg.exp
    if not (paths.experiment(exp) / "cfg.json").exists():
        there = ", ".join(sorted(p.parent.name for p in paths.output.glob("*/cfg.json")))
        raise ConfigError(f"there is no experiment {exp} in {paths.output} (there: {there or '-'})")
    seeds = parse_seeds(options.seed) if options.seed else _complete_seeds(options.cfg, paths)
    _score(options.cfg, paths, seeds or None)


def _score(cfg: CFG, paths: Paths, seeds: list[int] | None) -> None:
    with bar(f"score {cfg.exp}", 3) as progress:
        competition, folds = _open(cfg, paths)
        task, groups = competition.task, _clusters(competition, folds)
        ids, test_ids = competition.train_ids, competition.test_ids
        hashes = {"train file": competition.train_sha256, "folds.csv": sha256_of(paths.folds)}
        check_inputs(paths.experiment(cfg.exp), hashes)
        oof = collect(paths, cfg.exp, task, ids, folds.fold, test_ids, seeds)
        progress.advance()
        scores = write_oof(paths, task, oof, competition.y, groups, cfg.bootstrap_samples)
        progress.advance()
        pictures = report_experiment(cfg, paths, competition, oof, scores)
        progress.advance()
    say(score_line(cfg.exp, scores))
    _say_targets(scores)
    say(f"wrote {paths.experiment(cfg.exp) / 'scores.json'}; open {pictures}")


def score_line(name: str, scores: dict[str, Any]) -> str:
    """One line: score, interval, spreads, and what the best checkpoint would have claimed."""
    lo, hi = (_figure(value) for value in scores["ci95"])
    parts = [f"{name}: OOF {scores['metric']} {_figure(scores['score'])} (95 % {lo} .. {hi})"]
    extras = {"fold_std": "fold sd", "seed_std": "seed sd", "score_best": "best checkpoints claim"}
    for key, words in extras.items():
        if scores.get(key) is not None:
            parts.append(f"{words} {_figure(scores[key])}")
    return ", ".join(parts)


def _say_targets(scores: dict[str, Any]) -> None:
    """The scores of several targets, or by further metrics, in one line."""
    if by_target := scores.get("target_scores"):
        parts = (f"{name} {_figure(value)}" for name, value in by_target.items())
        say(f"by target: {', '.join(parts)}")
    if more := scores.get("beside"):
        parts = (f"{name} {_figure(value)}" for name, value in more.items())
        say(f"beside it: {', '.join(parts)}")


def _figure(value: float | None) -> str:
    """Five digits; scores that are not defined (one class in a fold, say) are stored as None."""
    return "undefined" if value is None else f"{value:.5f}"


def run_ensemble(options: Any, paths: Paths) -> None:
    """``oofline ensemble``."""
    cfg: CFG = options.cfg
    members = [part.strip() for part in options.exps.split(",") if part.strip()]
    if len(members) < 2:
        raise ConfigError(
            "an ensemble needs at least two members: give EXPS=base,awp, or seeds of one "
            'experiment as "base@42,base@43"'
        )
    name = options.name or "+".join(members).replace("@", "-")
    with bar(f"blend {name}", 2) as progress:
        competition, folds = _open(cfg, paths)
        progress.advance()
        result = build_ensemble(
            paths, competition.task, name, members, competition.train_ids, competition.y,
            folds.fold, options.method, _clusters(competition, folds), cfg.bootstrap_samples,
        )  # fmt: skip
        progress.advance()
    say(score_line(result.name, result.scores))
    _say_targets(result.scores)
    lo, hi = result.against_best.ci95
    say(
        f"against its best member {result.members[result.best]}: {result.against_best.verdict} "
        f"({result.against_best.difference:+.5f}, 95 % {lo:+.5f} .. {hi:+.5f})"
    )
    ensemble_weights(result, result.folder / "weights.png")
    say(f"wrote ensemble {result.name}; open {result.folder / 'ensemble.md'}")


def run_submission(options: Any, paths: Paths) -> None:
    """``oofline submission``."""
    competition = read_competition(options.cfg, paths)
    path = make_submission(
        paths, competition.task, competition.sample, competition.id_col, options.cfg.exp,
        competition.test_contexts,
    )  # fmt: skip
    say(f"wrote {path} from {options.cfg.exp}, checked against sample_submission; upload that file")


def run_compare(options: Any, paths: Paths) -> None:
    """``oofline compare``."""
    cfg: CFG = options.cfg
    names = stored_names(paths)
    if not names:
        raise ConfigError(f"nothing is scored in {paths.output}: make train COMP={paths.comp}")
    base = options.base or ("base" if "base" in names else names[0])
    with bar("compare", 2) as progress:
        competition, folds = _open(cfg, paths)
        progress.advance()
        frame = compare_experiments(
            paths, competition.task, competition.train_ids, competition.y, folds.fold, base,
            names, _clusters(competition, folds), cfg.bootstrap_samples,
        )  # fmt: skip
        progress.advance()
    better = "higher" if _greater(competition) else "lower"
    print_frame(
        comparison_text(frame), f"{paths.comp}: OOF {competition.task.metric}, {better} is better"
    )
    path = paths.output / "compare.csv"
    write_text(path, frame.to_csv(index=False))
    picture = path.with_suffix(".png")
    compare_forest(frame, picture, competition.task.metric, _greater(competition))
    ledger = read_ledger(paths)
    if len(ledger):
        show_table(paths.comp, ledger, sent_today(ledger), known_limit(paths))
        show_agreement(
            paths, scored(ledger), competition, folds.fold, _clusters(competition, folds),
            options.public_rows, cfg.bootstrap_samples,
        )  # fmt: skip
    say(f"compared {len(frame)} results with {base}; open {path} or {picture.name}")


def _greater(competition: Competition) -> bool:
    return get_metric(competition.task.metric, competition.task.kind).greater_is_better


def run_sync(options: Any, paths: Paths) -> None:
    """``oofline sync``."""
    say(f"uploaded {sync(paths)} runs of {paths.comp}")


def run_config(options: Any, paths: Paths) -> None:
    """``oofline config``."""
    from oofline.report.settings import settings_markdown, settings_text

    print((settings_markdown if options.markdown else settings_text)(options.cfg))


def run_metrics(options: Any, paths: Paths) -> None:
    """``oofline metrics``."""
    rows = [
        {
            "metric": m.name,
            "better": "higher" if m.greater_is_better else "lower",
            "tasks": ", ".join(m.kinds),
            "scores": m.needs + (" (cross-fitted threshold)" if m.thresholded else ""),
        }
        for m in METRICS.values()
    ]
    print_frame(pd.DataFrame(rows), "metrics: set one with --metric NAME")
