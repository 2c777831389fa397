"""Texts to token ids, once: a memory-mapped Arrow cache shared by folds, seeds and trials."""

import bisect
import hashlib
import itertools
import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from datasets import Dataset, Features, Value, disable_progress_bars
from datasets import Sequence as ListOf

from oofline.data.encoding import (
    Cutting,
    Row,
    cutting_of,
    pairs_encoder,
    single_encoder,
    special_tokens,
    truncate,
)
from oofline.progress import bar
from oofline.storage import Paths, replacing

__all__ = [
    "Cutting", "Row", "Tokens", "cache_key", "cutting_of", "special_tokens", "tokenize", "truncate",
]  # fmt: skip

CACHE_VERSION = 1
ROWS_PER_CHUNK = 1000

_FEATURES = {"input_ids": ListOf(Value("int32")), "n_tokens": Value("int32")}


@dataclass(frozen=True)
class Tokens:
    """Token ids of n texts, read from a memory-mapped Arrow file.

    Attributes:
        lengths: (n,) int64, tokens kept per text, special tokens and overlaps included.
        n_tokens: (n,) int64, tokens per text before truncation, special tokens included.
        max_len: the limit that was applied, to a text or to each of its windows.
        pad_id: id that fills up a batch.
        first: (n,) int64, leading tokens that belong to the first text of a pair; None without
            pairs.
        repeated: tokens that every further window of a text repeats (overlap, special tokens).
        orders: 2 where rows n / 2 and up hold the pairs of the first half in the other order.
    """

    lengths: np.ndarray
    n_tokens: np.ndarray
    max_len: int
    pad_id: int
    _chunks: list[tuple[np.ndarray, np.ndarray]]
    _starts: list[int]
    first: np.ndarray | None = None
    repeated: int = 0
    orders: int = 1

    @property
    def n_rows(self) -> int:
        """Rows of the table behind it: each pair counts once."""
        return len(self) // self.orders

    @cached_property
    def n_windows(self) -> np.ndarray:
        """(n,) int64 windows of each text, at least 1: all but its last are max_len long."""
        return np.maximum(1, -(-self.lengths // self.max_len))

    def __len__(self) -> int:
        return len(self.lengths)

    def __getitem__(self, row: int) -> np.ndarray:
        """The (lengths[row],) int32 ids of one text, a view into the file."""
        chunk = bisect.bisect_right(self._starts, row) - 1
        values, offsets = self._chunks[chunk]
        local = row - self._starts[chunk]
        return values[offsets[local] : offsets[local + 1]]

    def as_windows(self) -> tuple["Tokens", np.ndarray]:
        """Every window as a row of its own, and (m,) int64, the text that each comes from."""
        chunks, starts, start = [], [], 0
        for values, offsets in self._chunks:
            ends = [
                end
                for low, high in itertools.pairwise(offsets.tolist())
                for end in (*range(low + self.max_len, high, self.max_len), high)
            ]
            chunks.append((values, np.array([offsets[0], *ends], dtype=np.int64)))
            starts.append(start)
            start += len(ends)
        lengths = np.concatenate([np.diff(offsets) for _, offsets in chunks])
        rows = Tokens(lengths, lengths, self.max_len, self.pad_id, chunks, starts)
        return rows, np.repeat(np.arange(len(self)), self.n_windows)

    def truncation_report(self) -> str:
        """One sentence: how many rows lose tokens at max_len, and how many tokens."""
        n, windows = self.n_rows, self.n_windows[: self.n_rows]
        kept = self.lengths[:n] - (windows - 1) * self.repeated
        n_tokens = self.n_tokens[:n]
        lost = np.maximum(n_tokens - kept, 0)
        cut = int((lost > 0).sum())
        longest = f"longest {int(n_tokens.max(initial=0))}"
        what = f"max_len {self.max_len}"
        if self.repeated:
            what += f", {windows.mean():.2f} windows a row ({windows.max(initial=1)} at most)"
        if not cut:
            return f"{what}: no row of {n} is cut ({longest} tokens)"
        share = lost.sum() / max(1, n_tokens.sum())
        return (
            f"{what}: {cut} of {n} rows ({cut / n:.1%}) lose tokens, {share:.1%} of all tokens "
            f"({longest})"
        )


def cache_key(texts: Sequence[Row], tokenizer: Any, cutting: Cutting) -> str:
    """Hash of everything the token ids depend on: the texts, the tokenizer and the limits."""
    tokenizer("a", truncation=False, padding=False)  # settings left by an earlier call go away
    if getattr(tokenizer, "backend_tokenizer", None) is not None:
        vocabulary = tokenizer.backend_tokenizer.to_str()
    else:
        vocabulary = json.dumps([sorted(tokenizer.get_vocab().items()), repr(tokenizer)])
    limits: list[Any] = [cutting.max_len, cutting.truncation]
    if cutting.windows > 1:
        limits += [cutting.windows, cutting.overlap]
    paired = bool(texts) and not isinstance(texts[0], str)
    head = [CACHE_VERSION, vocabulary, *limits, len(texts), *(["pairs"] if paired else [])]
    digest = hashlib.sha256(json.dumps(head).encode())
    for text in (part for row in texts for part in ((row,) if isinstance(row, str) else row)):
        raw = text.encode("utf-8", "surrogatepass")
        digest.update(len(raw).to_bytes(8, "little") + raw)
    return digest.hexdigest()[:32]


def tokenize(
    paths: Paths, texts: Sequence[Row], tokenizer: Any, cutting: Cutting, title: str
) -> Tokens:
    """Token ids of ``texts``, from the cache where the same were made before.

    Args:
        paths: gives the cache folder.
        texts: n texts, or n sentence pairs.
        tokenizer: a transformers tokenizer.
        cutting: limits and windows.
        title: name in the progress bar, for example ``"train"``.
    """
    orders = 1
    if cutting.both_orders:
        texts, orders = [*texts, *(pair[::-1] for pair in texts)], 2
    path = paths.cache / "tokens" / f"{cache_key(texts, tokenizer, cutting)}.arrow"
    if not path.exists():
        with replacing(path) as temporary:
            _write(temporary, texts, tokenizer, cutting, title)
    tokens = _read(path, cutting.max_len, tokenizer.pad_token_id or 0)
    repeated = 0
    if cutting.windows > 1:
        repeated = cutting.overlap + sum(map(len, special_tokens(tokenizer)))
    return replace(tokens, orders=orders, repeated=repeated)


def _write(path: Path, texts: Sequence[Row], tokenizer: Any, cutting: Cutting, title: str) -> None:
    disable_progress_bars()
    paired = bool(texts) and not isinstance(texts[0], str)
    features = Features(_FEATURES | ({"first": Value("int32")} if paired else {}))
    encode_rows = (
        pairs_encoder(tokenizer, cutting) if paired else single_encoder(tokenizer, cutting)
    )
    with bar(f"tokenize {title}", len(texts)) as progress:

        def encode(batch: dict[str, list]) -> dict[str, list]:
            """Token ids of a batch of texts, cut to the longest input."""
            progress.advance(len(batch["text"]))
            return encode_rows(batch["text"])

        Dataset.from_dict({"text": list(texts)}).map(
            encode, batched=True, batch_size=ROWS_PER_CHUNK, writer_batch_size=ROWS_PER_CHUNK,
            remove_columns=["text"], features=features, cache_file_name=str(path),
            new_fingerprint=path.name,
        )  # fmt: skip


def _read(path: Path, max_len: int, pad_id: int) -> Tokens:
    table = Dataset.from_file(str(path)).data
    chunks, starts, start = [], [], 0
    for chunk in table.column("input_ids").chunks:
        offsets = chunk.offsets.to_numpy()
        chunks.append((chunk.values.to_numpy(), offsets))
        starts.append(start)
        start += len(chunk)
    lengths = [np.diff(offsets) for _, offsets in chunks] or [np.zeros(0, np.int64)]
    n_tokens = table.column("n_tokens").to_numpy().astype(np.int64)
    first = None
    if "first" in table.column_names:
        first = table.column("first").to_numpy().astype(np.int64)
    return Tokens(
        np.concatenate(lengths).astype(np.int64), n_tokens, max_len, pad_id, chunks, starts, first
    )
