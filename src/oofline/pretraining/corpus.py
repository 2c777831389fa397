"""The texts that a model is pretrained on, and those that its perplexity is measured on."""

import re
from dataclasses import dataclass

import numpy as np

from oofline.config import CFG
from oofline.data.competition import Competition
from oofline.data.texts import find_text_columns
from oofline.errors import DataError

MOST_HELD_OUT = 2000
"""Texts that perplexity is measured on at most."""
FEWEST = 20
"""Different texts below which there is nothing to learn from."""
_KANA = re.compile("[\u3041-\u309f\u30a1-\u30ff]")
_JAPANESE = 0.2


@dataclass(frozen=True)
class Corpus:
    """Different texts of train and test, without labels.

    Attributes:
        texts: all of them; those held out come first.
        n_held_out: how many are never trained on.
        description: where they come from, for printing.
    """

    texts: list[str]
    n_held_out: int
    description: str

    @property
    def is_japanese(self) -> bool:
        """Whether a fifth of the texts hold kana."""
        return sum(bool(_KANA.search(text)) for text in self.texts) > _JAPANESE * len(self.texts)


def read_corpus(cfg: CFG, competition: Competition) -> Corpus:
    """Every different text of train and test, as the model will read it, in a seeded order.

    Both sides of sentence pairs count, and every other column that looks like text (not where a
    text_template says what is read). Equal texts are taken once, so that none stands on both
    sides of the split.

    Args:
        cfg: reads text_template and pretrain_holdout.
        competition: its tables; targets are not looked at.

    Raises:
        DataError: fewer than 20 different texts.
    """
    sides = [*competition.train_texts, *competition.test_texts]
    if competition.train_pairs:
        pairs = [*competition.train_pairs, *competition.test_pairs]
        sides = [text for pair in pairs for text in pair]
    columns: list[str] = []
    if not cfg.text_template:
        reserved = (
            competition.id_col, *competition.task.targets, competition.group_col, cfg.time_col
        )  # fmt: skip
        columns = find_text_columns(competition.train, competition.test, reserved)
    for column in columns:
        sides += [*competition.train[column], *competition.test[column]]
    texts = list(dict.fromkeys(text for text in sides if text.strip()))
    if len(texts) < FEWEST:
        raise DataError(
            f"train and test of {competition.name} have {len(texts)} different texts: pretraining "
            f"needs {FEWEST} at least"
        )
    order = np.random.default_rng(0).permutation(len(texts))
    n_held_out = min(MOST_HELD_OUT, max(1, round(cfg.pretrain_holdout * len(texts))))
    return Corpus(
        [texts[i] for i in order], n_held_out,
        f"{len(texts)} different texts of train and test ({competition.text_description}), "
        f"{n_held_out} of them held out; labels are not read",
    )  # fmt: skip
