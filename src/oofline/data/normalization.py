"""Steps that make texts alike before n-grams are counted, chosen by name."""

import re
import unicodedata
from collections.abc import Callable, Iterable

from oofline.errors import ConfigError

_URL = re.compile(r"https?://[^\s、。」』)>\"']+")
_REPEATS = re.compile(r"(.)\1{3,}", re.DOTALL)
_TO_KATAKANA = {code: code + 0x60 for code in range(0x3041, 0x3097)}

STEPS: dict[str, Callable[[str], str]] = {
    "nfc": lambda text: unicodedata.normalize("NFC", text),
    "nfkc": lambda text: unicodedata.normalize("NFKC", text),
    "lower": str.lower,
    "digits": lambda text: re.sub(r"\d", "0", text),
    "repeats": lambda text: _REPEATS.sub(r"\1\1\1", text),
    "urls": lambda text: _URL.sub("URL", text),
    "kana": lambda text: text.translate(_TO_KATAKANA),
    "spaces": lambda text: " ".join(text.split()),
}
"""Unicode forms; small letters; every digit becomes 0; a character that stands four times or more
in a row is kept three times; addresses become URL; hiragana becomes katakana; runs of spaces and
line breaks become one space."""


def parse_steps(text: str) -> list[str]:
    """Names of the steps in ``tfidf_normalize``, in order.

    Raises:
        ConfigError: there is no step of that name.
    """
    names = [part.strip().lower() for part in text.split(",") if part.strip()]
    for name in names:
        if name not in STEPS:
            raise ConfigError(
                f"tfidf_normalize: there is no step {name!r}; there are {', '.join(STEPS)}"
            )
    return names


def normalize(texts: Iterable[str], steps: list[str]) -> list[str]:
    """Texts after all steps, in the order given."""
    result = list(texts)
    for name in steps:
        result = [STEPS[name](text) for text in result]
    return result
