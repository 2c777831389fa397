"""Texts to token ids, once: a memory-mapped Arrow cache shared by folds, seeds and trials."""

import hashlib
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
from oofline.data.lists import Lists
from oofline.data.pairs import Passage
from oofline.data.passages import pair_tokens, passages_encoder, places, shared_tokens, token_labels
from oofline.errors import DataError
from oofline.progress import bar
from oofline.results import Answer
from oofline.storage import Paths, replacing

__all__ = [
    "Cutting", "Row", "Tokens", "cache_key", "cutting_of", "special_tokens", "tokenize", "truncate",
]  # fmt: skip

CACHE_VERSION = 1
ROWS_PER_CHUNK = 1000
_PLACES = ("name_or_path", "vocab_file", "spm_file", "tokenizer_file")

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
        repeated: tokens that every further window of a text repeats (overlap, special tokens):
            one number, or (n,) of each row.
        orders: 2 where rows n / 2 and up hold the pairs of the first half in the other order.
        spans: of each row the characters of its context's tokens, start and end in turns; None
            where no answers are looked for.
        closing: special tokens behind the context.
        overlap: context tokens that neighbouring windows share, see `shared_tokens`.
    """

    lengths: np.ndarray
    n_tokens: np.ndarray
    max_len: int
    pad_id: int
    ids: Lists
    first: np.ndarray | None = None
    repeated: int | np.ndarray = 0
    orders: int = 1
    spans: Lists | None = None
    closing: int = 0
    overlap: int = 0

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
        return self.ids[row]

    def characters(self, row: int) -> np.ndarray:
        """(G, 2) first character of each context token, and the one behind its last."""
        assert self.spans is not None
        return self.spans[row].reshape(-1, 2)

    def places(self, rows: np.ndarray, width: int) -> np.ndarray:
        """(B, G, 2) where the context tokens of ``rows`` stand, see `oofline.data.passages`."""
        assert self.first is not None
        assert self.spans is not None
        counts = np.array([len(self.spans[row]) // 2 for row in rows])
        first, windows = self.first[rows], self.n_windows[rows]
        part = self.max_len - first - self.closing
        return places(counts, first, windows, part, self.overlap, width)

    def labels(self, y: np.ndarray) -> np.ndarray:
        """(n, 2) int64, first and last context token of each row's `Answer`.

        Raises:
            DataError: a context has no tokens.
        """
        found = np.zeros((len(y), 2), dtype=np.int64)
        for row, answer in enumerate(y):
            assert isinstance(answer, Answer)
            spans = self.characters(row)
            if not len(spans):
                raise DataError(
                    f"train: the tokenizer reads nothing in the context of row {row + 1}: drop it"
                )
            found[row] = token_labels(spans, answer.start, answer.end)
        return found

    def as_windows(self) -> tuple["Tokens", np.ndarray]:
        """Every window as a row of its own, and (m,) int64, the text that each comes from."""
        ids = self.ids.split(self.max_len)
        rows = Tokens(ids.lengths, ids.lengths, self.max_len, self.pad_id, ids)
        return rows, np.repeat(np.arange(len(self)), self.n_windows)

    def truncation_report(self) -> str:
        """One sentence: how many rows lose tokens at max_len, and how many tokens."""
        n, windows = self.n_rows, self.n_windows[: self.n_rows]
        kept = self.lengths[:n] - (windows - 1) * np.resize(self.repeated, n)
        n_tokens = self.n_tokens[:n]
        lost = np.maximum(n_tokens - kept, 0)
        cut = int((lost > 0).sum())
        longest = f"longest {int(n_tokens.max(initial=0))}"
        what = f"max_len {self.max_len}"
        if np.any(self.repeated):
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
        own = {k: v for k, v in tokenizer.init_kwargs.items() if k not in _PLACES}
        vocabulary = json.dumps([sorted(tokenizer.get_vocab().items()), own], default=str)
    limits: list[Any] = [cutting.max_len, cutting.truncation]
    if cutting.windows > 1:
        limits += [cutting.windows, cutting.overlap]
    if isinstance(texts[0] if texts else "", Passage):
        limits += ["passages", cutting.doc_stride]
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
    if tokens.spans is not None:
        return _with_answers(tokens, tokenizer, cutting.doc_stride)
    repeated = 0
    if cutting.windows > 1:
        repeated = cutting.overlap + sum(map(len, special_tokens(tokenizer)))
    return replace(tokens, orders=orders, repeated=repeated)


def _with_answers(tokens: Tokens, tokenizer: Any, overlap: int) -> Tokens:
    """Questions with contexts: what their windows repeat depends on the question."""
    closing = len(pair_tokens(tokenizer)[2])
    assert tokens.first is not None
    parts = (tokens.max_len - tokens.first - closing).tolist()
    shared = np.array([shared_tokens(part, overlap) for part in parts])
    repeated = tokens.first + closing + shared
    return replace(tokens, closing=closing, overlap=overlap, repeated=repeated)


def _write(path: Path, texts: Sequence[Row], tokenizer: Any, cutting: Cutting, title: str) -> None:
    disable_progress_bars()
    paired = bool(texts) and not isinstance(texts[0], str)
    columns = _FEATURES | ({"first": Value("int32")} if paired else {})
    encode_rows = (
        pairs_encoder(tokenizer, cutting) if paired else single_encoder(tokenizer, cutting)
    )
    if isinstance(texts[0] if texts else "", Passage):
        columns |= {"spans": ListOf(Value("int32"))}
        encode_rows = passages_encoder(tokenizer, cutting.max_len, cutting.doc_stride)
    features = Features(columns)
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
    ids = Lists.of(table.column("input_ids"))
    n_tokens = table.column("n_tokens").to_numpy().astype(np.int64)
    first = None
    if "first" in table.column_names:
        first = table.column("first").to_numpy().astype(np.int64)
    spans = Lists.of(table.column("spans")) if "spans" in table.column_names else None
    return Tokens(ids.lengths, n_tokens, max_len, pad_id, ids, first, spans=spans)
