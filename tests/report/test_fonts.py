import shutil

import pytest
from matplotlib import font_manager

from oofline.report import fonts
from oofline.report.fonts import displayable, families, text_width, wrap
from oofline.report.style import figure, titles

JAPANESE = "この商品は、とても良い。"


@pytest.fixture
def fresh(monkeypatch):
    """Nothing remembered, before and after; returns a function that forgets again."""

    def forget():
        for cached in (families, fonts._fonts, fonts._advance, fonts._say_what_to_install):
            cached.cache_clear()

    forget()
    yield forget
    forget()


@pytest.fixture
def latin_only(monkeypatch, fresh):
    """A machine without Japanese fonts; returns the lines that were said."""
    said = []
    only = [f for f in font_manager.fontManager.ttflist if f.name == fonts.LATIN]
    monkeypatch.setattr(font_manager.fontManager, "ttflist", only)
    monkeypatch.setattr(fonts, "_font_files", list)
    monkeypatch.setattr(fonts, "say", said.append)
    return said


def test_without_a_japanese_font_boxes_are_shown_and_the_package_is_named_once(latin_only):
    assert displayable(f"abc {JAPANESE}") == "abc " + "□" * len(JAPANESE)
    displayable(JAPANESE)
    assert len(latin_only) == 1
    assert "fonts-noto-cjk" in latin_only[0]


def test_texts_without_japanese_say_nothing(latin_only):
    assert displayable("naïve\n café\t#1 \U0001f9ff") == "naïve café #1 □"
    assert latin_only == []


def test_a_japanese_font_is_used_after_the_latin_one(monkeypatch, fresh, tmp_path):
    known = list(font_manager.fontManager.ttflist)
    monkeypatch.setattr(font_manager.fontManager, "ttflist", known)
    known[:] = [f for f in known if f.name not in fonts.CJK]
    monkeypatch.setattr(fonts, "_font_files", list)
    assert families() == (fonts.LATIN,)
    fresh()
    sans = next(f for f in known if f.name == fonts.LATIN)
    known.append(font_manager.FontEntry(fname=sans.fname, name="IPAexGothic"))
    assert families() == (fonts.LATIN, "IPAexGothic")


def test_fonts_newer_than_the_font_list_are_found(monkeypatch, fresh, tmp_path):
    known = [f for f in font_manager.fontManager.ttflist if f.name not in fonts.CJK]
    monkeypatch.setattr(font_manager.fontManager, "ttflist", known)
    file = tmp_path / "NotoSansCJK-Regular.ttf"
    shutil.copy(font_manager.findfont(fonts.LATIN), file)
    (tmp_path / "Other.ttf").touch()
    there = [str(path) for path in tmp_path.iterdir()]
    monkeypatch.setattr(font_manager, "findSystemFonts", lambda: there)
    families()
    assert [f.fname for f in known if str(tmp_path) in f.fname] == [str(file)]


def test_the_packages_font_draws_japanese(monkeypatch, fresh, tmp_path, capfd, caplog):
    pytest.importorskip("matplotlib_fontja", reason="matplotlib-fontja is not installed")
    known = [f for f in font_manager.fontManager.ttflist if f.name not in fonts.CJK]
    monkeypatch.setattr(font_manager.fontManager, "ttflist", known)
    monkeypatch.setattr(font_manager, "findSystemFonts", list)
    assert families() == (fonts.LATIN, "IPAexGothic")
    assert displayable(JAPANESE) == JAPANESE
    with figure(tmp_path / "picture.png", 3, 2) as fig:
        titles(fig.subplots(), JAPANESE, JAPANESE, "y")
    assert "Failed" not in caplog.text + capfd.readouterr().err


def test_marks_without_a_glyph_vanish_and_accents_are_composed():
    assert displayable("e\u0301 a\U000e0062b") == "é ab"


def test_wrap_keeps_words_and_width():
    text = "The quick brown fox jumps over the lazy dog. " * 5
    lines = wrap(text.strip(), 20.0, 99)
    assert " ".join(lines) == text.strip()
    assert max(map(text_width, lines)) <= 20.0
    assert len(lines) > 4


def test_wrap_cuts_with_an_ellipsis():
    lines = wrap("word " * 100, 10.0, 3)
    assert len(lines) == 3
    assert lines[-1].endswith("…")
    assert max(map(text_width, lines)) <= 10.0
    assert wrap("", 10.0, 3) == [""]
    assert wrap("fits", 10.0, 1) == ["fits"]


def test_wrap_breaks_long_words_and_japanese():
    assert "".join(wrap("x" * 100, 10.0, 99)) == "x" * 100
    lines = wrap("あいうえおかきくけこ、さし", 10.3, 9)
    assert lines == ["あいうえおかきくけ", "こ、さし"]
