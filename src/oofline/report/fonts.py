"""Fonts that can show the texts, Japanese included, and what to do where none can."""

import functools
import importlib.util
import logging
import unicodedata
from pathlib import Path

from matplotlib import font_manager
from matplotlib.ft2font import FT2Font

from oofline.progress import say

LATIN = "DejaVu Sans"
"""Comes with matplotlib."""
CJK = (
    "Noto Sans CJK JP", "Noto Sans JP", "Source Han Sans JP", "IPAexGothic", "IPAGothic",
    "IPAPGothic", "TakaoPGothic", "TakaoGothic", "VL PGothic", "VL Gothic", "Hiragino Sans",
    "Hiragino Kaku Gothic Pro", "Hiragino Maru Gothic Pro", "Yu Gothic", "Meiryo", "MS Gothic",
    "Noto Sans CJK SC", "WenQuanYi Zen Hei", "Droid Sans Fallback", "Arial Unicode MS",
)  # fmt: skip
"""Font families with Japanese characters, the best first."""
_FILES = ("cjk", "notosansjp", "ipa", "takao", "vl-", "gothic", "meiryo", "wqy", "fallback")
_MISSING = "□"
_NOT_FIRST = "、。，．・！？!?」』）】〉》ー〜ぁぃぅぇぉっゃゅょァィゥェォッャュョ…"
_FONT_PACKAGES = ("matplotlib_fontja", "japanize_matplotlib")
_PACKAGES = "oofline[ja] or matplotlib-fontja (pip), or fonts-noto-cjk (apt)"


@functools.cache
def families() -> tuple[str, ...]:
    """The font families to draw with: Latin first, then one with Japanese, where installed.

    Fonts installed after matplotlib's font list was cached are found too. That a Japanese font has
    no bold face is not worth matplotlib's warning.
    """
    logging.getLogger("matplotlib.font_manager").setLevel(logging.ERROR)
    known = {entry.name for entry in font_manager.fontManager.ttflist}
    if not known.intersection(CJK):
        for file in _font_files():
            font_manager.fontManager.addfont(file)
        known = {entry.name for entry in font_manager.fontManager.ttflist}
    return (LATIN, *[name for name in CJK if name in known][:1])


def _font_files() -> list[str]:
    """Files on this machine whose names promise Japanese, those of Python packages included."""
    files = [Path(name) for name in font_manager.findSystemFonts()]
    for name in _FONT_PACKAGES:
        package = importlib.util.find_spec(name)
        if package is not None and package.origin is not None:
            files += sorted(Path(package.origin).parent.glob("fonts/*.ttf"))
    return [str(file) for file in files if any(part in file.name.lower() for part in _FILES)]


@functools.cache
def _fonts() -> list[tuple[FT2Font, frozenset[int]]]:
    """The families' fonts and the code points that each has a glyph for."""
    fonts = [FT2Font(font_manager.findfont(name)) for name in families()]
    return [(font, frozenset(font.get_charmap())) for font in fonts]


def displayable(text: str) -> str:
    """``text`` on one line, with a box for every character that no installed font has.

    Line breaks and runs of spaces become one space; marks that change the character before them
    (emoji variants, zero-width joiners) vanish. The first text with Japanese characters and no
    font for them says, once, which package to install.
    """
    composed = " ".join(unicodedata.normalize("NFC", text).split())
    shown = "".join(_shown(character) for character in composed)
    if shown != composed and len(families()) == 1 and any(map(_is_japanese, composed)):
        _say_what_to_install()
    return shown


def _shown(character: str) -> str:
    if any(ord(character) in codes for _, codes in _fonts()):
        return character
    return "" if unicodedata.category(character) in ("Mn", "Me", "Cf", "Cc") else _MISSING


def _is_japanese(character: str) -> bool:
    return "\u3040" <= character <= "\u30ff" or "\u4e00" <= character <= "\u9fff"


@functools.cache
def _say_what_to_install() -> None:
    say(f"no font with Japanese characters: pictures show {_MISSING}; install {_PACKAGES}")


@functools.cache
def _advance(character: str) -> float:
    """Width of one character, in units of the font size."""
    for font, codes in _fonts():
        if ord(character) in codes:
            font.set_size(100, 72)
            return font.load_char(ord(character)).linearHoriAdvance / 65536 / 100
    return 1.0


def text_width(text: str) -> float:
    """Width of one line of text, in units of the font size (kerning is left out)."""
    return sum(map(_advance, text))


def wrap(text: str, width: float, max_lines: int) -> list[str]:
    """Break ``text`` into lines: words stay whole, Japanese breaks anywhere but before 、 or 。.

    Args:
        text: one line, as `displayable` makes it.
        width: of a line, in units of the font size.
        max_lines: at most; what is cut ends in an ellipsis.

    Returns:
        One to ``max_lines`` lines.
    """
    lines: list[str] = []
    while text and len(lines) < max_lines:
        is_last = len(lines) == max_lines - 1
        end = _fitting(text, width)
        if end < len(text) and is_last:
            end = _fitting(text, width - _advance("…"))
            return [*lines, text[:end].rstrip() + "…"]
        if end < len(text):
            end = _break_before(text, end)
        lines.append(text[:end].rstrip())
        text = text[end:].lstrip()
    return lines or [""]


def _break_before(text: str, end: int) -> int:
    """Where to break a text of which ``end`` characters fit: at most there, at least 1."""
    if text[end] in _NOT_FIRST and end > 1:
        return end - 1
    if _is_wide(text[end - 1]) or _is_wide(text[end]):
        return end
    space = text.rfind(" ", 0, end + 1)
    return space if space > end * 0.6 else end


def _is_wide(character: str) -> bool:
    return unicodedata.east_asian_width(character) in "WF"


def _fitting(text: str, width: float) -> int:
    """Number of leading characters that fit, at least 1."""
    used = 0.0
    for index, character in enumerate(text):
        used += 1.02 * _advance(character)  # room for rounding to pixels
        if used > width and index > 0:
            return index
    return len(text)
