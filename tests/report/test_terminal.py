import io

import pandas as pd
import pytest
from rich.console import Console

from oofline.report import terminal

FRAME = pd.DataFrame(
    {
        "experiment": ["a-rather-long-experiment-name", "b"], "score": [0.803791, None],
        "95 %": ["0.7942, 0.8138"] * 2, "verdict": ["no difference shown", "base"],
        "seeds": ["42,43,44"] * 2, "min": [66.44, 1200.0],
    }
)  # fmt: skip


@pytest.fixture
def printed(monkeypatch):
    """printed(width, is_terminal) -> lines."""

    def run(width, is_terminal):
        out = io.StringIO()
        screen = Console(file=out, width=width, force_terminal=is_terminal, no_color=True,
                         color_system=None, soft_wrap=True)  # fmt: skip
        monkeypatch.setattr(terminal, "console", lambda: screen)
        terminal.print_frame(FRAME, "title")
        return out.getvalue().splitlines()

    return run


def test_a_log_holds_every_column_whole(printed):
    text = "\n".join(printed(20, False))
    assert all(str(value) in text for value in FRAME["experiment"])
    assert all(word in text for word in ("0.80379", "0.7942, 0.8138", "no difference shown"))
    assert all(name in text for name in FRAME.columns)


@pytest.mark.parametrize("width", [40, 60, 80, 120])
def test_a_terminal_shows_what_fits_and_names_the_rest(printed, width):
    lines = printed(width, True)
    shown = lines[2]
    assert "experiment" in shown
    assert max(len(line.rstrip()) for line in lines[1:-1]) <= width
    left_out = [name for name in FRAME.columns if name not in shown]
    assert (lines[-1] == f"a wider terminal also shows: {', '.join(left_out)}") == bool(left_out)
    body = "".join(lines)
    assert "…" not in body
    assert ("0.7942, 0.8138" in body) == ("95 %" not in left_out)


def test_unknown_values_are_empty_and_large_ones_are_short(printed):
    text = "\n".join(printed(120, True))
    assert "nan" not in text
    assert "1200" in text
    assert "1200.0" not in text
