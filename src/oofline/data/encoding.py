"""From texts, and sentence pairs, to the token ids that a model reads."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from oofline.config import CFG
from oofline.data.windows import cut_windows
from oofline.errors import ConfigError

Row = str | tuple[str, str]
"""A text, or a sentence pair."""


@dataclass(frozen=True)
class Cutting:
    """How texts become token ids.

    Attributes:
        max_len: most tokens per input, special tokens included.
        truncation: "head" or "head+tail".
        windows: most windows of a longer text; 1 = it is truncated.
        overlap: tokens that neighbouring windows share.
        both_orders: store each pair in both orders.
    """

    max_len: int
    truncation: str = "head"
    windows: int = 1
    overlap: int = 0
    both_orders: bool = False


def cutting_of(cfg: CFG, trained_on: bool = False) -> Cutting:
    """How the settings cut texts.

    Args:
        cfg: reads max_len, truncation, windows and pair_swap.
        trained_on: rows that a model trains on, which ``pair_swap = "train"`` reads in both orders.
    """
    both_orders = cfg.pair_swap == "train+test" or (trained_on and cfg.pair_swap == "train")
    return Cutting(cfg.max_len, cfg.truncation, cfg.windows, cfg.window_stride, both_orders)


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


Encoder = Callable[[list], dict[str, list]]


def single_encoder(tokenizer: Any, cutting: Cutting) -> Encoder:
    """Single texts to the columns of the cache."""
    before, behind = special_tokens(tokenizer)
    extra = len(before) + len(behind)
    max_len, windows = cutting.max_len, cutting.windows
    if windows > 1 and max_len - extra <= cutting.overlap:
        raise ConfigError(
            f"window_stride = {cutting.overlap} leaves no room in max_len = {max_len}"
        )

    def encode(texts: list[str]) -> dict[str, list]:
        """Columns of a batch."""
        rows = tokenizer(
            texts, add_special_tokens=False, return_attention_mask=False, verbose=False
        )["input_ids"]
        if windows > 1:
            kept = [
                cut_windows(row, before, behind, max_len, windows, cutting.overlap) for row in rows
            ]
        else:
            cut = (truncate(row, max_len - extra, cutting.truncation) for row in rows)
            kept = [before + row + behind for row in cut]
        return {"input_ids": kept, "n_tokens": [len(row) + extra for row in rows]}

    return encode


def pairs_encoder(tokenizer: Any, cutting: Cutting) -> Encoder:
    """Sentence pairs to the columns of the cache, by the tokenizer's own pair encoding."""

    def call(pairs: list, **settings: Any) -> list[tuple[list[int], list[int]]]:
        """Ids and segment ids of each pair."""
        firsts, seconds = (list(side) for side in zip(*pairs, strict=True))
        found = tokenizer(
            firsts, seconds, return_attention_mask=False, return_token_type_ids=True,
            verbose=False, **settings,
        )  # fmt: skip
        return list(zip(found["input_ids"], found["token_type_ids"], strict=True))

    def encode(pairs: list) -> dict[str, list]:
        """Columns of a batch; only pairs that are too long are encoded again, longest first cut."""
        rows = call(pairs, truncation=False)
        n_tokens = [len(ids) for ids, _ in rows]
        long = [i for i, count in enumerate(n_tokens) if count > cutting.max_len]
        if long:
            limits = {"truncation": "longest_first", "max_length": cutting.max_len}
            for i, row in zip(long, call([pairs[i] for i in long], **limits), strict=True):
                rows[i] = row
        if any(types != sorted(types) or set(types) - {0, 1} for _, types in rows):
            raise ConfigError(
                "this model's tokenizer does not write the second text of a pair behind the first: "
                'choose another model, or set pair_col = "none" with a text_template'
            )
        return {
            "input_ids": [ids for ids, _ in rows],
            "n_tokens": n_tokens,
            "first": [types.count(0) for _, types in rows],
        }

    return encode
