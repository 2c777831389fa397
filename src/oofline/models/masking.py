"""Which tokens a masked language model must guess, and what it sees in their place."""

from typing import Any

import torch
from torch import Tensor, nn

from oofline.errors import ConfigError

MASKED, RANDOM = 0.8, 0.1
"""Shares of the hidden tokens that become the mask and a random token; the rest stay."""


class Masking(nn.Module):
    """Hides tokens anew at every call (Devlin et al. 2019, arXiv:1810.04805; drawn dynamically).

    Each ordinary token is chosen with the probability p, or each word with all its pieces. Where
    chance chooses nothing in an input, its likeliest token or word is taken, so that short texts
    count. Of the chosen tokens 80 % become [MASK], 10 % a random ordinary token, 10 % stay.

    Attributes:
        probability: p.
        mask_id: id of the mask token.
        special: (V,) bool, ids that are never chosen.
        continues: (V,) bool, pieces that go on a word; empty = every token is a word.
    """

    special: Tensor
    ordinary: Tensor
    continues: Tensor

    def __init__(self, probability: float, mask_id: int, special: Tensor, continues: Tensor):
        super().__init__()
        self.probability, self.mask_id = probability, mask_id
        for name, table in (
            ("special", special), ("ordinary", (~special).nonzero().flatten()),
            ("continues", continues),
        ):  # fmt: skip
            self.register_buffer(name, table, persistent=False)

    def forward(
        self, input_ids: Tensor, attention_mask: Tensor | None, generator: torch.Generator | None
    ) -> tuple[Tensor, Tensor]:
        """Hide tokens of one batch.

        Args:
            input_ids: (W, L) int64.
            attention_mask: (W, L), 0 = padding; None = nothing is padded.
            generator: of the CPU; None = torch's global one.

        Returns:
            (W, L) ids that the model sees, and (W, L) bool: the tokens to guess.
        """
        allowed = ~self.special[input_ids]
        if attention_mask is not None:
            allowed &= attention_mask.bool()
        luck = self._draw(input_ids, generator)
        if self.continues.numel():
            word = (~self.continues[input_ids]).cumsum(1)
            luck = luck.gather(1, word.clamp(max=luck.shape[1] - 1))
        luck = luck.masked_fill(~allowed, 2.0)
        lowest = luck.min(dim=1, keepdim=True).values
        chosen = allowed & ((luck < self.probability) | (luck == lowest))
        fate = self._draw(input_ids, generator)
        other = torch.randint(len(self.ordinary), input_ids.shape, generator=generator)
        seen = input_ids.masked_fill(chosen & (fate < MASKED), self.mask_id)
        random = chosen & (fate >= MASKED) & (fate < MASKED + RANDOM)
        return torch.where(random, self.ordinary[other.to(input_ids.device)], seen), chosen

    def _draw(self, like: Tensor, generator: torch.Generator | None) -> Tensor:
        """Uniform numbers drawn on the CPU: the same on every device."""
        return torch.rand(like.shape, generator=generator).to(like.device)


def build_masking(
    tokenizer: Any, vocab_size: int, probability: float, whole_words: bool
) -> Masking:
    """The masking that fits a tokenizer.

    Args:
        tokenizer: a transformers tokenizer.
        vocab_size: V, rows of the embedding table; ids beyond the tokenizer's are never drawn.
        probability: share of tokens to hide, 0..1.
        whole_words: hide words, not single pieces.

    Raises:
        ConfigError: there is no mask token, or pieces do not say where words begin.
    """
    if tokenizer.mask_token_id is None:
        raise ConfigError("this model's tokenizer has no mask token: choose another model")
    special = torch.ones(vocab_size, dtype=torch.bool)
    special[: len(tokenizer)] = False
    special[tokenizer.all_special_ids] = True
    continues = torch.zeros(0, dtype=torch.bool)
    if whole_words:
        pieces = tokenizer.convert_ids_to_tokens(list(range(len(tokenizer))))
        found = continuations(pieces)
        continues = torch.zeros(vocab_size, dtype=torch.bool)
        continues[: len(found)] = torch.tensor(found)
        continues &= ~special
    return Masking(probability, tokenizer.mask_token_id, special, continues)


def continuations(pieces: list[str]) -> list[bool]:
    """Whether each piece of a vocabulary goes on a word, by the marks that it uses.

    WordPiece marks what goes on ("##ing"), byte-level BPE and SentencePiece what begins ("Ġthe",
    "▁the").

    Raises:
        ConfigError: the vocabulary has no such marks.
    """
    if any(piece.startswith("##") and len(piece) > 2 for piece in pieces):
        return [piece.startswith("##") and len(piece) > 2 for piece in pieces]
    for mark in ("Ġ", "▁"):
        if any(piece.startswith(mark) and len(piece) > 1 for piece in pieces):
            return [not piece.startswith(mark) for piece in pieces]
    raise ConfigError(
        "this model's vocabulary does not mark where words begin: leave out pretrain_whole_words"
    )
