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
        doc_stride: tokens that neighbouring windows of a `Passage` share; it has as many windows
            as it needs.
    """

    max_len: int
    truncation: str = "head"
    windows: int = 1
    overlap: int = 0
    both_orders: bool = False
    doc_stride: int = 0


def cutting_of(cfg: CFG, trained_on: bool = False) -> Cutting:
    """How the settings cut texts.

    Args:
        cfg: reads max_len, truncation, windows, doc_stride and pair_swap.
        trained_on: rows that a model trains on, which ``pair_swap = "train"`` reads in both orders.
    """
    both_orders = cfg.pair_swap == "train+test" or (trained_on and cfg.pair_swap == "train")
    return Cutting(
        cfg.max_len, cfg.truncation, cfg.windows, cfg.window_stride, both_orders, cfg.doc_stride
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


def _end_of_text(tokenizer: Any) -> int:
    """What stands for an empty text where the tokenizer adds no special tokens."""
    known = (tokenizer.eos_token_id, tokenizer.pad_token_id)
    return next((token for token in known if token is not None), 0)


Encoder = Callable[[list], dict[str, list]]


def single_encoder(tokenizer: Any, cutting: Cutting) -> Encoder:
    """Single texts to the columns of the cache."""
    before, behind = special_tokens(tokenizer)
    extra = len(before) + len(behind)
    nothing = [_end_of_text(tokenizer)]
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
        kept = [row or nothing for row in kept]  # a model must read something
        return {"input_ids": kept, "n_tokens": [max(1, len(row) + extra) for row in rows]}

    return encode


def pairs_encoder(tokenizer: Any, cutting: Cutting) -> Encoder:
    """Sentence pairs to the columns of the cache, by the tokenizer's own pair encoding.

    Where that puts nothing between the two texts (some decoders), a line break does.
    """
    alone, paired = (tokenizer.num_special_tokens_to_add(pair=pair) for pair in (False, True))
    between = "" if paired > alone else "\n"

    def call(pairs: list, **settings: Any) -> list[tuple[list[int], list[int]]]:
        """Ids and segment ids of each pair."""
        firsts = [first for first, _ in pairs]
        seconds = [between + second for _, second in pairs]
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
