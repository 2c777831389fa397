"""Texts to words: MeCab for Japanese, spaces and marks for the rest; analysed once and cached."""

import hashlib
import multiprocessing
import os
import re
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from oofline.config import CFG
from oofline.data.language import JAPANESE, main_language
from oofline.data.mecab import Mecab, Word, dictionary_version
from oofline.progress import bar
from oofline.storage import Paths, replacing

CACHE_VERSION = 1
PARALLEL_CHARACTERS = 20_000_000
"""Fewer characters than this are analysed sooner by one process than others start."""
_CHUNK = 500
_WORD = re.compile(r"\w+(?:['’]\w+)*|[^\w\s]")


def splitter_of(cfg: CFG, texts: Sequence[str]) -> str:
    """How words are found, "mecab" or "spaces": the setting; "auto" goes by the texts' language."""
    if cfg.word_splitter != "auto":
        return cfg.word_splitter
    return "mecab" if main_language(texts) == JAPANESE else "spaces"


def split_words(cfg: CFG, paths: Paths, texts: list[str], splitter: str) -> list[list[str]]:
    """Words of each text.

    Args:
        cfg: gives word_dictionary, word_form and word_pos.
        paths: gives the cache folder (MeCab's results are kept there).
        texts: n texts.
        splitter: "mecab" or "spaces" (then marks are words too).

    Returns:
        n lists of words; a text whose words are all filtered out has none.

    Raises:
        ConfigError: fugashi or the dictionary is not installed.
    """
    if splitter == "spaces":
        return [_WORD.findall(text) for text in texts]
    kept = {part.strip() for part in cfg.word_pos.split(",") if part.strip()}
    base = cfg.word_form == "base"
    return [
        [word.base if base else word.surface for word in words if not kept or word.pos in kept]
        for words in analyse(paths, texts, cfg.word_dictionary)
    ]


def analyse(paths: Paths, texts: list[str], dictionary: str) -> list[list[Word]]:
    """MeCab's words of each text, from the cache where the same texts were analysed before.

    Raises:
        ConfigError: fugashi or the dictionary is not installed.
    """
    path = paths.cache / "words" / f"{_key(texts, dictionary)}.parquet"
    if not path.exists():
        with bar(f"words ({dictionary})", len(texts)) as progress, replacing(path) as temporary:
            rows: list[list[Word]] = []
            for chunk in _analysed(texts, dictionary):
                rows += chunk
                progress.advance(len(chunk))
            _write(temporary, rows)
    return _read(path)


def _key(texts: list[str], dictionary: str) -> str:
    digest = hashlib.sha256(f"{CACHE_VERSION} {dictionary_version(dictionary)}".encode())
    for text in texts:
        raw = text.encode("utf-8", "surrogatepass")
        digest.update(len(raw).to_bytes(8, "little") + raw)
    return digest.hexdigest()[:32]


def _analysed(texts: list[str], dictionary: str) -> Iterator[list[list[Word]]]:
    """Chunks in order, by several processes where that pays."""
    chunks = [texts[i : i + _CHUNK] for i in range(0, len(texts), _CHUNK)]
    workers = min(len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else
                  os.cpu_count() or 1, len(chunks))  # fmt: skip
    if workers < 2 or sum(map(len, texts)) < PARALLEL_CHARACTERS:
        mecab = Mecab(dictionary)
        yield from ([mecab.words(text) for text in chunk] for chunk in chunks)
        return
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(workers, context, _start, (dictionary,)) as pool:
        yield from pool.map(_work, chunks)


_mecab: list[Mecab] = []


def _start(dictionary: str) -> None:
    _mecab.append(Mecab(dictionary))


def _work(chunk: list[str]) -> list[list[Word]]:
    return [_mecab[0].words(text) for text in chunk]


def _write(path: Path, rows: list[list[Word]]) -> None:
    kind = pa.list_(pa.string())
    columns = {
        name: pa.array([[getattr(word, name) for word in row] for row in rows], kind)
        for name in Word._fields
    }
    pq.write_table(pa.table(columns), path, compression="zstd")


def _read(path: Path) -> list[list[Word]]:
    table = pq.read_table(path)
    columns = [table.column(name).to_pylist() for name in Word._fields]
    return [[Word(*word) for word in zip(*row, strict=True)] for row in zip(*columns, strict=True)]
