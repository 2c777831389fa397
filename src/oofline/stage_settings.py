"""Settings of what comes before and after an ordinary training: pretraining, pseudo-labels."""

from dataclasses import dataclass


@dataclass(frozen=True)
class StageSettings:
    """The part of CFG that `oofline pretrain` reads, and what a student does with its labels."""

    # ---- pseudo-labels (made by `oofline pseudo`; off by default)
    pseudo: str = ""
    """Soft pseudo-labels to train on besides, by their name; "" = none."""
    pseudo_weight: float = 1.0
    """Weight of a pseudo-labelled row in the loss; a labelled row has 1."""
    pseudo_threshold: float = 0.0
    """Classes and labels: least confidence (largest probability) of a row to be taken; 0 = all."""

    # ---- pretraining on the competition's texts (`oofline pretrain` alone reads these)
    pretrain_epochs: int = 3
    """Passes over the texts."""
    pretrain_lr: float | None = None
    """Peak learning rate; None = 5e-5, or 5e-4 from scratch."""
    pretrain_mask: float = 0.15
    """Share of the tokens that an encoder must guess (Devlin 2019)."""
    pretrain_whole_words: bool = False
    """Hide all pieces of a word together."""
    pretrain_holdout: float = 0.05
    """Share of the texts (2,000 at most) that perplexity is measured on."""
    pretrain_vocab: int = 8000
    """From scratch without --vocab: most WordPieces of the vocabulary that is made."""
    pretrain_layers: int = 4
    """From scratch: transformer layers."""
    pretrain_hidden: int = 256
    """From scratch: width, a multiple of pretrain_heads."""
    pretrain_heads: int = 4
    """From scratch: attention heads per layer."""
