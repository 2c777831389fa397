"""Which characters of a text each of its tokens stands for."""

import functools
import unicodedata
from typing import Any

Span = tuple[int, int]
"""First character of a piece of text, and the one behind its last."""

SLACK = 8
"""Characters that a single token may stand further on."""
_PREFIXES = ("##", "▁", "Ġ")
"""What tokenizers write in front of a piece: inside a word, or at its start."""


def tokens_with_spans(tokenizer: Any, texts: list[str]) -> list[tuple[list[int], list[Span]]]:
    """Token ids, without special tokens, and the characters of each token.

    Fast tokenizers know them; the tokens of others (Japanese ones that ask MeCab) are found in the
    text again by `align`. White space at the ends of a token is left out of its span, since some
    tokenizers count the space before a word to it.

    Args:
        tokenizer: a transformers tokenizer.
        texts: n texts.
    """
    if not tokenizer.is_fast:
        return [_aligned(tokenizer, text) for text in texts]
    found = tokenizer(
        texts, add_special_tokens=False, return_attention_mask=False, verbose=False,
        return_offsets_mapping=True,
    )  # fmt: skip
    rows = zip(texts, found["input_ids"], found["offset_mapping"], strict=True)
    return [(ids, [trimmed(text, span) for span in spans]) for text, ids, spans in rows]


def _aligned(tokenizer: Any, text: str) -> tuple[list[int], list[Span]]:
    pieces = tokenizer.tokenize(text)
    known: list[str | None] = [None if p == tokenizer.unk_token else p for p in pieces]
    spans = align(text, known)
    return tokenizer.convert_tokens_to_ids(pieces), [trimmed(text, span) for span in spans]


def trimmed(text: str, span: Span) -> Span:
    """The span without white space at its ends; one character at least, inside the text."""
    start, end = span
    while start < end and text[start].isspace():
        start += 1
    while end > start and text[end - 1].isspace():
        end -= 1
    start = min(max(span[0], min(start, span[1] - 1)), max(0, len(text) - 1))
    return start, min(max(end, start + 1), max(1, len(text)))


@functools.lru_cache(maxsize=65536)
def _skeleton_of(character: str) -> str:
    plain = unicodedata.normalize("NFKD", unicodedata.normalize("NFKD", character).casefold())
    return "".join(c for c in plain if not unicodedata.combining(c) and not c.isspace())


def skeleton(text: str) -> str:
    """The text without what tokenizers change: form (NFKC), case, accents and white space.

    It is taken character by character (compatibility decomposition, combining marks dropped, case
    folded), so that it is the same before and after any Unicode normalisation, and every character
    of it belongs to one of the text.
    """
    return "".join(map(_skeleton_of, text))


def align(text: str, pieces: list[str | None]) -> list[Span]:
    """Find the tokens of a text in it.

    Runs of known tokens are looked for in one go, behind what was found before, leaving at least a
    character for each unknown token between them; unknown tokens share evenly what lies between two
    runs. Of a run that is not found (the tokenizer wrote something else) single tokens are looked
    for nearby, and what is not found counts as unknown.

    Args:
        text: the text.
        pieces: n tokens as the tokenizer writes them; None = unknown to its vocabulary.

    Returns:
        n spans in ``text``, ascending.
    """
    bones = [_skeleton_of(character) for character in text]
    source = [index for index, bone in enumerate(bones) for _ in bone]
    whole = "".join(bones)
    plain = [None if piece is None else skeleton(_bare(piece)) for piece in pieces]
    places: list[Span | None] = [None] * len(pieces)
    cursor, unknown, at = 0, 0, 0
    while at < len(pieces):
        end = at
        while end < len(pieces) and plain[end] is not None:
            end += 1
        run = [bone or "" for bone in plain[at:end]]
        found = whole.find("".join(run), cursor + unknown) if any(run) else -1
        together = found >= 0 and (unknown or found == cursor)
        for index, bone in enumerate(run, start=at):
            low = found if together else cursor + unknown
            low = low if together else whole.find(bone, low, low + len(bone) + SLACK)
            if bone and low >= 0:
                places[index] = (low, low + len(bone))
                found = cursor = low + len(bone)
                unknown = 0
            else:
                unknown += 1
        unknown += end < len(pieces)
        at = end + 1
    _share_gaps(places, len(whole))
    source.append(max(0, len(text) - 1))  # where an unknown token has nothing left to stand for
    return [(source[a], source[max(a, b - 1)] + 1) for a, b in filter(None, places)]


def _bare(piece: str) -> str:
    """A token without the mark in front of it."""
    for prefix in _PREFIXES:
        if piece.startswith(prefix) and len(piece) > len(prefix):
            return piece[len(prefix) :]
    return piece


def _share_gaps(places: list[Span | None], length: int) -> None:
    """Give every run of missing places even shares of what lies between its neighbours."""
    at = 0
    while at < len(places):
        if places[at] is not None:
            at += 1
            continue
        end = at
        while end < len(places) and places[end] is None:
            end += 1
        before = places[at - 1] if at else None
        behind = places[end] if end < len(places) else None
        low, high = before[1] if before else 0, behind[0] if behind else length
        count = end - at
        for index in range(count):
            edges = (low + (high - low) * (index + k) // count for k in (0, 1))
            places[at + index] = (next(edges), next(edges))
        at = end
