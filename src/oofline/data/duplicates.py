"""Groups of texts that must share a fold: exact duplicates and near duplicates."""

import functools
import html
import re
import unicodedata
from collections.abc import Iterator

import numpy as np
from rensa import RMinHash
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from oofline.progress import bar

SHINGLE = 5
"""Characters per shingle."""
MIN_SHINGLES = 8
"""Texts with fewer shingles are compared for equality only: one letter decides their Jaccard."""
N_HASHES = 128
"""MinHash slots per text; the standard error of the estimate is at most 0.045."""
FULL_BUCKET = 32
"""Buckets up to this size are compared pair by pair, larger ones along a window."""
WINDOW = 8
"""In a larger bucket each text is compared with this many neighbours in signature order."""

_URL = re.compile(r"(?:https?://|www\.)\S+", re.IGNORECASE | re.ASCII)
_SPACE = re.compile(r"[\s\u200b-\u200d\u2060\ufeff]+")
_CHUNK = 20_000
_CHUNK_CHARACTERS = 2_000_000
_MULTIPLIER = np.uint64(0x9E3779B97F4A7C15)


def normalise(text: str) -> str:
    """Reduce a text to what makes two texts "the same" for a model.

    HTML entities are resolved, the form is NFKC (full-width and half-width agree), case is
    folded, every URL becomes the word ``url`` (shorteners give each copy of a text its own link)
    and runs of white space become one space. A text of nothing but URLs keeps them.
    """
    if "&" in text:
        text = html.unescape(text)
    if not text.isascii():
        text = unicodedata.normalize("NFKC", text)
    text = text.casefold()
    without_urls = _URL.sub(" url ", text) if "http" in text or "www." in text else text
    spaced = _SPACE.sub(" ", without_urls).strip()
    if without_urls is not text and not spaced.replace("url", "").strip():
        return _SPACE.sub(" ", text).strip()
    return spaced


def exact_groups(normalised: list[str]) -> np.ndarray:
    """Number equal texts alike, in order of first appearance; each empty text stands alone.

    Args:
        normalised: n texts (see `normalise`).

    Returns:
        (n,) int64 group numbers, 0 to number of groups - 1.
    """
    numbers: dict[str | int, int] = {}
    return np.fromiter(
        (numbers.setdefault(text or row, len(numbers)) for row, text in enumerate(normalised)),
        dtype=np.int64,
        count=len(normalised),
    )


def duplicate_groups(texts: list[str], threshold: float) -> np.ndarray:
    """Group exact and near duplicates.

    Near duplicates are connected components of the pairs whose character 5-grams (after
    `normalise`) have a Jaccard similarity of at least ``threshold``. Candidates come from MinHash
    signatures (Broder 1997) in locality-sensitive buckets (Indyk and Motwani 1998), at least
    99.5 % of the pairs right at the threshold and more above it; each candidate is then verified
    exactly, so no group holds a pair by chance. Time is linear in the number of texts: buckets of
    more than `FULL_BUCKET` texts are searched along a window of neighbours only.

    Args:
        texts: n texts as they stand in the file.
        threshold: Jaccard similarity in (0, 1]; 0 groups exact duplicates only.

    Returns:
        (n,) int64 group numbers in order of first appearance, 0 to number of groups - 1.
    """
    normalised = [normalise(text) for text in texts]
    exact = exact_groups(normalised)
    if threshold <= 0 or not texts:
        return exact
    _, first_row = np.unique(exact, return_index=True)
    unique = [normalised[row] for row in first_row]
    long_enough = [i for i, text in enumerate(unique) if len(text) >= SHINGLE + MIN_SHINGLES - 1]
    near = np.arange(len(unique))
    near[long_enough] = np.asarray(long_enough, dtype=np.int64)[
        _near_components([unique[i] for i in long_enough], threshold)
    ]
    return exact_groups([str(group) for group in near[exact]])


def jaccard(left: str, right: str) -> float:
    """Exact Jaccard similarity of the character 5-grams of two normalised texts, 0 to 1."""
    a, b = _shingles(left), _shingles(right)
    return len(a & b) / max(1, len(a | b))


def rows_per_band(threshold: float, recall: float = 0.995) -> int:
    """Most signature slots per band that still find a pair at the threshold with that recall."""
    found = 1
    for rows in range(2, 17):
        if 1 - (1 - threshold**rows) ** (N_HASHES // rows) >= recall:
            found = rows
    return found


def _near_components(texts: list[str], threshold: float) -> np.ndarray:
    """For each text the position of the first text of its component, (n,) int64."""
    n = len(texts)
    signatures = _signatures(texts)
    component = np.arange(n)
    rows = rows_per_band(threshold)
    doubtful = threshold - 3 * (threshold * (1 - threshold) / N_HASHES) ** 0.5
    bands = [_hash_rows(signatures[:, i : i + rows]) for i in range(0, N_HASHES - rows + 1, rows)]
    with bar("near duplicates: comparisons", len(bands)) as progress:
        for band, next_band in zip(bands, bands[1:] + bands[:1], strict=True):
            pairs = _bucket_pairs(band, next_band)
            pairs = pairs[component[pairs[:, 0]] != component[pairs[:, 1]]]
            pairs = pairs[_estimate(signatures, pairs) >= doubtful]
            similar = [jaccard(texts[i], texts[j]) >= threshold for i, j in pairs.tolist()]
            if any(similar):
                component = _merge(component, pairs[np.asarray(similar)])
            progress.advance()
    return component


def _merge(component: np.ndarray, pairs: np.ndarray) -> np.ndarray:
    n = len(component)
    left = np.concatenate([np.arange(n), pairs[:, 0]])
    right = np.concatenate([component, pairs[:, 1]])
    graph = coo_array((np.ones(len(left), dtype=np.int8), (left, right)), shape=(n, n))
    _, label = connected_components(graph, directed=False)
    _, first = np.unique(label, return_index=True)
    return first[label]


def _signatures(texts: list[str]) -> np.ndarray:
    """MinHash signatures, (n, N_HASHES) uint32, made chunk by chunk."""
    result = np.empty((len(texts), N_HASHES), dtype=np.uint32)
    characters = np.cumsum([len(text) for text in texts])
    start = 0
    with bar("near duplicates: signatures", len(texts)) as progress:
        while start < len(texts):
            before = characters[start - 1] if start else 0
            end = int(np.searchsorted(characters, before + _CHUNK_CHARACTERS, side="right"))
            end = min(max(end, start + 1), start + _CHUNK)
            hashes, offsets = _shingle_hashes(texts[start:end])
            matrix = RMinHash.digest_matrix_from_flat_token_hashes(hashes, offsets, N_HASHES, 42)
            result[start:end] = np.asarray(matrix.to_rows(), dtype=np.uint32)
            progress.advance(end - start)
            start = end
    return result


def _shingle_hashes(texts: list[str]) -> tuple[np.ndarray, np.ndarray]:
    """64-bit hashes of all shingles, flat, and the (n + 1,) offsets of each text."""
    lengths = np.fromiter((len(text) for text in texts), dtype=np.int64, count=len(texts))
    codes = np.frombuffer("".join(texts).encode("utf-32-le", "surrogatepass"), dtype=np.uint32)
    rolling = np.zeros(max(0, len(codes) - SHINGLE + 1), dtype=np.uint64)
    for shift in range(SHINGLE):
        rolling = (rolling + codes[shift : shift + len(rolling)]) * _MULTIPLIER
        rolling ^= rolling >> np.uint64(29)
    ends = np.cumsum(lengths)
    inside = np.ones(len(rolling) + SHINGLE, dtype=bool)
    for back in range(1, SHINGLE):
        inside[ends - back] = False
    offsets = np.concatenate([[0], np.cumsum(lengths - SHINGLE + 1)]).astype(np.uint64)
    return rolling[inside[: len(rolling)]], offsets


def _hash_rows(slots: np.ndarray) -> np.ndarray:
    """One 64-bit number per row of (n, rows) slots: equal rows, equal numbers."""
    key = np.zeros(len(slots), dtype=np.uint64)
    for column in slots.T:
        key = (key ^ column) * _MULTIPLIER
        key ^= key >> np.uint64(32)
    return key


def _bucket_pairs(band: np.ndarray, next_band: np.ndarray) -> np.ndarray:
    """Candidate pairs of one band, (m, 2) int64: texts with the same number in the band.

    The next band orders the texts inside a bucket, so that a window finds the closest ones.
    """
    order = np.lexsort((next_band, band))
    starts = np.flatnonzero(np.append(True, np.diff(band[order]) != 0)) if len(order) else order
    sizes = np.diff(np.append(starts, len(order)))
    reach = np.where(sizes <= FULL_BUCKET, sizes, WINDOW + 1)
    position = np.arange(len(order)) - np.repeat(starts, sizes)
    shifted = list(_shifted_pairs(order, position, np.repeat(reach, sizes)))
    return np.concatenate([*shifted, np.empty((0, 2), dtype=np.int64)])


def _shifted_pairs(
    order: np.ndarray, position: np.ndarray, reach: np.ndarray
) -> Iterator[np.ndarray]:
    """Pairs (bucket member, the member ``shift`` places before it), shift after shift."""
    for shift in range(1, FULL_BUCKET):
        later = np.flatnonzero((position >= shift) & (reach > shift))
        if not len(later):
            return
        yield np.column_stack([order[later - shift], order[later]])


def _estimate(signatures: np.ndarray, pairs: np.ndarray) -> np.ndarray:
    """Estimated Jaccard similarity of each pair, (m,), in chunks to bound memory."""
    parts = [
        (signatures[part[:, 0]] == signatures[part[:, 1]]).mean(axis=1)
        for part in np.array_split(pairs, len(pairs) // _CHUNK + 1)
    ]
    return np.concatenate(parts)


@functools.lru_cache(maxsize=1024)
def _shingles(text: str) -> frozenset[str]:
    return frozenset(text[i : i + SHINGLE] for i in range(len(text) - SHINGLE + 1))
