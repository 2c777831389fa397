"""Whether a backbone's tokenizer knows the language of the texts, seen from its tokens."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from oofline.data.language import main_language
from oofline.data.tokens import Tokens

SAMPLE = 400
"""Texts that are looked at, evenly spaced."""
_WITHOUT_SPACES = ("Japanese", "Chinese", "Thai")
_UNKNOWN = 0.02
_SINGLE = {True: 0.8, False: 0.5}
_SHORT = {True: 1.15, False: 2.0}
_MARKS = ("##", "▁", "Ġ")


@dataclass(frozen=True)
class Coverage:
    """How a tokenizer reads texts.

    Attributes:
        unknown: share of tokens that are the unknown token.
        single: share of single characters among the tokens with letters.
        characters: characters per token, white space left out.
    """

    unknown: float
    single: float
    characters: float


def coverage(tokenizer: Any, tokens: Tokens, texts: Sequence[str]) -> Coverage:
    """Look at a sample of texts, of each at its first window (the next ones repeat tokens).

    Args:
        tokenizer: a transformers tokenizer.
        tokens: its tokens of the n texts.
        texts: n texts.
    """
    rows = np.unique(np.linspace(0, len(texts) - 1, SAMPLE).astype(int))
    ids = np.concatenate([tokens[row][: tokens.max_len] for row in rows]).astype(np.int64)
    unknown = ids == (-1 if tokenizer.unk_token_id is None else tokenizer.unk_token_id)
    special = np.isin(ids, list(tokenizer.all_special_ids)) & ~unknown
    distinct, counts = np.unique(ids[~special & ~unknown], return_counts=True)
    pieces = [_bare(piece) for piece in tokenizer.convert_ids_to_tokens(distinct.tolist())]
    lettered = np.array([any(map(str.isalpha, piece)) for piece in pieces], dtype=bool)
    single = np.array([len(piece) == 1 for piece in pieces], dtype=bool)
    extra = special.sum() / max(1, len(rows))
    n_tokens = tokens.n_tokens[rows].sum() - extra * len(rows)
    length = sum(len("".join(texts[row].split())) for row in rows)
    return Coverage(
        float(unknown.sum() / max(1, (~special).sum())),
        float(counts[lettered & single].sum() / max(1, counts[lettered].sum())),
        float(length / max(1.0, n_tokens)),
    )


def _bare(piece: str) -> str:
    for mark in _MARKS:
        piece = piece.removeprefix(mark)
    return piece


def coverage_notes(tokenizer: Any, tokens: Tokens, texts: Sequence[str]) -> list[str]:
    """One line on how the tokenizer reads the texts, and a warning where it does not know them.

    A tokenizer that is made of characters on purpose is not warned about.
    """
    seen, language = coverage(tokenizer, tokens, texts), main_language(texts)
    notes = [
        f"backbone's tokenizer: {seen.characters:.2f} characters a token, {seen.unknown:.1%} of "
        f"the tokens unknown, {seen.single:.0%} single characters"
    ]
    dense = language in _WITHOUT_SPACES
    if getattr(tokenizer, "subword_tokenizer_type", "") == "character":
        return notes
    signs = [
        f"{seen.unknown:.0%} of the tokens are unknown" if seen.unknown > _UNKNOWN else "",
        f"{seen.single:.0%} are single characters" if seen.single > _SINGLE[dense] else "",
        f"{seen.characters:.2f} characters a token" if seen.characters < _SHORT[dense] else "",
    ]
    if any(signs):
        texts_are = f"{language} texts" if language else "these texts"
        notes.append(
            f"warning: the backbone hardly knows {texts_are} ({', '.join(filter(None, signs))}): "
            "take a model of that language before training for hours"
        )
    return notes
