"""What all folds and seeds of an experiment share."""

from dataclasses import dataclass

from transformers import PreTrainedTokenizerBase

from oofline.baselines.rows import Source
from oofline.data.competition import Competition
from oofline.data.folds import Folds
from oofline.data.tokens import Tokens
from oofline.storage import Paths
from oofline.training.pseudo import PseudoLabels


@dataclass(frozen=True)
class Material:
    """What all folds and seeds share.

    Attributes:
        paths: of the competition.
        competition: tables, task and targets.
        folds: which row validates where.
        tokenizer: saved beside each model.
        train_tokens: of the n training rows, and behind them of pseudo-labelled ones.
        test_tokens: of the test rows.
        pseudo: soft labels of further rows; None without.
    """

    paths: Paths
    competition: Competition
    folds: Folds
    tokenizer: PreTrainedTokenizerBase
    train_tokens: Tokens
    test_tokens: Tokens
    pseudo: PseudoLabels | None = None


@dataclass(frozen=True)
class BaselineMaterial:
    """What all folds and seeds of a baseline share.

    Attributes:
        paths: of the competition.
        competition: tables, task and targets.
        folds: which row validates where.
        source: columns of all rows, nothing of them fitted.
    """

    paths: Paths
    competition: Competition
    folds: Folds
    source: Source
