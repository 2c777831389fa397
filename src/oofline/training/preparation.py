"""What all folds and seeds of an experiment share: read, checked, and made ready once."""

from typing import Any

from oofline.baselines.fitting import refuse_targets
from oofline.baselines.rows import make_source
from oofline.config import CFG
from oofline.data.batches import padding_report
from oofline.data.competition import Competition, read_competition
from oofline.data.coverage import coverage_notes
from oofline.data.folds import Folds, ensure_folds
from oofline.data.tokens import Row, Tokens, cutting_of, tokenize
from oofline.models.backbone import load_tokenizer
from oofline.models.losses import build_loss
from oofline.models.text_model import build_model
from oofline.progress import say
from oofline.scoring.metrics import get_metric
from oofline.storage import Paths
from oofline.techniques import build_techniques
from oofline.training.material import BaselineMaterial, Material
from oofline.training.optim import parameter_groups
from oofline.training.pseudo import read_pseudo


def prepare(cfg: CFG, paths: Paths) -> Material | BaselineMaterial:
    """Read the competition, make sure of the folds, and tokenise train and test.

    A new experiment is checked as a whole before anything is written: the metric, the loss, the
    encoder and the optimizer's groups. A baseline's columns are made in place of tokens.
    """
    competition = read_competition(cfg, paths)
    for note in competition.notes:
        say(note)
    get_metric(competition.task.metric, competition.task.kind)
    if cfg.kind != "transformer":
        return _prepare_baseline(cfg, paths, competition)
    tokenizer = load_tokenizer(cfg.model)
    if not (paths.experiment(cfg.exp) / "cfg.json").exists():
        check_parts(cfg, competition)
    pseudo = read_pseudo(cfg, paths, competition) if cfg.pseudo else None
    folds = _make_sure_of_folds(cfg, paths, competition)
    if pseudo:
        say(pseudo.description)
    train, test = tokenize_both(cfg, paths, competition, tokenizer, pseudo.rows if pseudo else [])
    say(f"train: {train.truncation_report()}")
    say(f"test: {test.truncation_report()}")
    say(padding_report(train.lengths, cfg.batch_size, max_len=cfg.max_len))
    for note in coverage_notes(tokenizer, train, competition.train_texts):
        say(note)
    return Material(paths, competition, folds, tokenizer, train, test, pseudo)


def tokenize_both(
    cfg: CFG, paths: Paths, competition: Competition, tokenizer: Any, further: list[Row]
) -> tuple[Tokens, Tokens]:
    """Token ids of the training and the test rows, pairs in both orders where that is asked.

    Rows to train on besides (``further``) stand behind the training rows.
    """
    train, test = [*competition.train_rows, *further], competition.test_rows
    return (
        tokenize(paths, train, tokenizer, cutting_of(cfg, trained_on=True), "train"),
        tokenize(paths, test, tokenizer, cutting_of(cfg), "test"),
    )


def _prepare_baseline(cfg: CFG, paths: Paths, competition: Competition) -> BaselineMaterial:
    refuse_targets(cfg, competition.task, competition.y)
    source = make_source(cfg, paths, competition)
    for note in source.notes:
        say(note)
    folds = _make_sure_of_folds(cfg, paths, competition)
    return BaselineMaterial(paths, competition, folds, source)


def _make_sure_of_folds(cfg: CFG, paths: Paths, competition: Competition) -> Folds:
    folds, created = ensure_folds(cfg, paths, competition)
    if created:
        for line in folds.summary:
            say(line)
        say(f"made {paths.folds}; {paths.folds.with_suffix('.md')} holds the leak audit")
    return folds


def check_parts(cfg: CFG, competition: Competition) -> None:
    """Build loss, encoder, techniques and the optimizer's groups once, to see that they fit.

    Raises:
        ConfigError: one of them refuses the settings.
    """
    build_loss(cfg, competition.task, competition.y)
    model = build_model(cfg, competition.task, competition.y)
    for technique in build_techniques(cfg, competition.task):
        technique.prepare(model)
    parameter_groups(cfg, model)
