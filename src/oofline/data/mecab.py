"""Japanese words by MeCab (fugashi), with the dictionary of the user's choice."""

import importlib
import importlib.metadata
from typing import Any, NamedTuple

from oofline.errors import ConfigError

_MODULES = {"ipadic": "ipadic", "unidic-lite": "unidic_lite"}
_BASE_FORM = {"ipadic": 6, "unidic-lite": 10}
"""Position of the dictionary form in a word's features."""
_LONGEST = 100_000
"""Characters that are analysed at once: MeCab's memory grows with a sentence's length."""


class Word(NamedTuple):
    """One word of a text.

    Attributes:
        surface: as it stands there.
        base: its dictionary form, the surface where the dictionary knows none.
        pos: main part of speech (名詞, 動詞, 助詞, ...).
    """

    surface: str
    base: str
    pos: str


def dictionary_version(dictionary: str) -> str:
    """Name and version of the installed dictionary, as in "ipadic 1.0.0".

    Raises:
        ConfigError: fugashi or the dictionary is not installed (naming the package).
    """
    _require(dictionary)
    return f"{dictionary} {importlib.metadata.version(dictionary)}"


def _require(dictionary: str) -> Any:
    """The dictionary's module."""
    for package, module in (("fugashi", "fugashi"), (dictionary, _MODULES[dictionary])):
        try:
            found = importlib.import_module(module)
        except ImportError:
            raise ConfigError(
                f'Japanese words need the package {package}: pip install "oofline[ja]" (or '
                f'{package} alone), or set word_splitter = "spaces" and use tfidf_chars'
            ) from None
    return found


class Mecab:
    """MeCab with one dictionary.

    Args:
        dictionary: "ipadic" or "unidic-lite".

    Raises:
        ConfigError: fugashi or the dictionary is not installed (naming the package).
    """

    def __init__(self, dictionary: str = "ipadic") -> None:
        module = _require(dictionary)
        import fugashi

        arguments = getattr(module, "MECAB_ARGS", None) or (
            f'-r "{module.DICDIR}/mecabrc" -d "{module.DICDIR}"'
        )
        line = rf"%m\t%f[{_BASE_FORM[dictionary]}]\t%f[0]\n"  # ready lines: 20 times the speed
        self._tagger = fugashi.GenericTagger(
            rf'{arguments} -O "" -F "{line}" -U "%m\t*\t%f[0]\n" -E ""'
        )

    def words(self, text: str) -> list[Word]:
        """The words of a text in order; white space is left out."""
        text = text.replace("\0", " ")
        parts = [text[i : i + _LONGEST] for i in range(0, len(text), _LONGEST)]
        lines = [line for part in parts for line in self._tagger.parse(part).split("\n")]
        return [word for word in map(_word, filter(None, lines)) if word.surface.strip()]


def _word(line: str) -> Word:
    surface, base, pos = line.split("\t")
    return Word(surface, surface if base in ("*", "") else base, pos)
