"""Texts to token ids, once: a memory-mapped Arrow cache shared by folds, seeds and trials."""

import bisect
import hashlib
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from datasets import Dataset, Features, Sequence, Value, disable_progress_bars

from oofline.progress import bar
from oofline.storage import Paths, replacing

CACHE_VERSION = 1
ROWS_PER_CHUNK = 1000
_PLACES = ("name_or_path", "vocab_file", "spm_file", "tokenizer_file")

_FEATURES = Features({"input_ids": Sequence(Value("int32")), "n_tokens": Value("int32")})


@dataclass(frozen=True)
class Tokens:
    """Token ids of n texts, read from a memory-mapped Arrow file.

    Attributes:
        lengths: (n,) int64, tokens kept per text, special tokens included.
        n_tokens: (n,) int64, tokens per text before truncation, special tokens included.
        max_len: the limit that was applied.
        pad_id: id that fills up a batch.
    """

    lengths: np.ndarray
    n_tokens: np.ndarray
    max_len: int
    pad_id: int
    _chunks: list[tuple[np.ndarray, np.ndarray]]
    _starts: list[int]

    def __len__(self) -> int:
        return len(self.lengths)

    def __getitem__(self, row: int) -> np.ndarray:
        """The (lengths[row],) int32 ids of one text, a view into the file."""
        chunk = bisect.bisect_right(self._starts, row) - 1
        values, offsets = self._chunks[chunk]
        local = row - self._starts[chunk]
        return values[offsets[local] : offsets[local + 1]]

    def truncation_report(self) -> str:
        """One sentence: how many rows lose tokens at max_len, and how many tokens."""
        lost = np.maximum(self.n_tokens - self.lengths, 0)
        cut = int((lost > 0).sum())
        longest = f"longest {int(self.n_tokens.max(initial=0))}"
        if not cut:
            return f"max_len {self.max_len}: no row of {len(self)} is cut ({longest} tokens)"
        share = lost.sum() / max(1, self.n_tokens.sum())
        return (
            f"max_len {self.max_len}: {cut} of {len(self)} rows ({cut / len(self):.1%}) lose "
            f"tokens, {share:.1%} of all tokens ({longest})"
        )


def special_tokens(tokenizer: Any) -> tuple[list[int], list[int]]:
    """Ids that the tokenizer puts before and behind a single text."""
    for probe in ("a", "1", "the", "の"):
        bare = tokenizer(probe, add_special_tokens=False)["input_ids"]
        full = tokenizer(probe)["input_ids"]
        for start in range(len(full) - len(bare) + 1):
            if bare and full[start : start + len(bare)] == bare:
                return full[:start], full[start + len(bare) :]
    return [], []


def truncate(ids: list[int], budget: int, how: str) -> list[int]:
    """Keep ``budget`` ids: the head, or a quarter from the head and the rest from the tail."""
    if len(ids) <= budget:
        return ids
    head = budget if how == "head" else budget // 4
    return ids[:head] + ids[len(ids) - (budget - head) :]


def cache_key(texts: list[str], tokenizer: Any, max_len: int, truncation: str) -> str:
    """Hash of everything the token ids depend on: the texts, the tokenizer and the limits."""
    tokenizer("a", truncation=False, padding=False)  # settings left by an earlier call go away
    if getattr(tokenizer, "backend_tokenizer", None) is not None:
        vocabulary = tokenizer.backend_tokenizer.to_str()
    else:
        own = {k: v for k, v in tokenizer.init_kwargs.items() if k not in _PLACES}
        vocabulary = json.dumps([sorted(tokenizer.get_vocab().items()), own], default=str)
    digest = hashlib.sha256(
        json.dumps([CACHE_VERSION, vocabulary, max_len, truncation, len(texts)]).encode()
    )
    for text in texts:
        raw = text.encode("utf-8", "surrogatepass")
        digest.update(len(raw).to_bytes(8, "little") + raw)
    return digest.hexdigest()[:32]


def tokenize(
    paths: Paths, texts: list[str], tokenizer: Any, max_len: int, truncation: str, title: str
) -> Tokens:
    """Token ids of ``texts``, from the cache where the same were made before.

    Args:
        paths: gives the cache folder.
        texts: n texts.
        tokenizer: a transformers tokenizer.
        max_len: most tokens per text, special tokens included.
        truncation: "head" or "head+tail".
        title: name in the progress bar, for example ``"train"``.
    """
    key = cache_key(texts, tokenizer, max_len, truncation)
    path = paths.cache / "tokens" / f"{key}.arrow"
    if not path.exists():
        with replacing(path) as temporary:
            _write(temporary, texts, tokenizer, max_len, truncation, title)
    return _read(path, max_len, tokenizer.pad_token_id or 0)


def _write(
    path: Path, texts: list[str], tokenizer: Any, max_len: int, truncation: str, title: str
) -> None:
    disable_progress_bars()
    before, behind = special_tokens(tokenizer)
    extra = len(before) + len(behind)
    with bar(f"tokenize {title}", len(texts)) as progress:

        def encode(batch: dict[str, list[str]]) -> dict[str, list]:
            """Token ids of a batch of texts, cut to the longest input."""
            rows = tokenizer(
                batch["text"], add_special_tokens=False, return_attention_mask=False, verbose=False
            )["input_ids"]
            progress.advance(len(rows))
            kept = [before + truncate(row, max_len - extra, truncation) + behind for row in rows]
            return {"input_ids": kept, "n_tokens": [len(row) + extra for row in rows]}

        Dataset.from_dict({"text": texts}).map(
            encode, batched=True, batch_size=ROWS_PER_CHUNK, writer_batch_size=ROWS_PER_CHUNK,
            remove_columns=["text"], features=_FEATURES, cache_file_name=str(path),
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
    return Tokens(
        np.concatenate(lengths).astype(np.int64), n_tokens, max_len, pad_id, chunks, starts
    )
