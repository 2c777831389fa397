import io
from types import SimpleNamespace

from rich.console import Console

from oofline import progress


def test_without_a_terminal_a_bar_is_plain_lines(capsys, monkeypatch):
    monkeypatch.setattr(progress, "PLAIN_SECONDS", 0.0)
    with progress.bar("seed 1 fold 0", 4) as bar:
        bar.advance(2, loss=0.12345)
        progress.say("a line between")
        bar.advance(2)  # the last figures are shown again
    out = capsys.readouterr().out
    assert "seed 1 fold 0: 2/4 loss 0.1235" in out
    assert "a line between" in out
    assert "seed 1 fold 0: 4/4 loss 0.1235" in out
    assert "\x1b" not in out
    assert "\r" not in out


def test_time_left_counts_only_what_was_done_since_the_start(capsys, monkeypatch):
    clock = iter([0.0, 100.0, 100.0])
    monkeypatch.setattr(progress, "time", SimpleNamespace(monotonic=lambda: next(clock)))
    with progress.bar("resumed", 300, start=100) as bar:
        bar.advance(100)
    assert "resumed: 200/300 (100 s left)" in capsys.readouterr().out


def test_plain_lines_are_not_more_than_needed(capsys):
    with progress.bar("fast", 1000) as bar:
        for _ in range(1000):
            bar.advance()
    assert capsys.readouterr().out == ""


def test_the_log_file_holds_every_line_once_its_folder_is_there(tmp_path, capsys, monkeypatch):
    path = tmp_path / "output" / "oofline.log"
    progress.log_to(path)
    progress.say("before the folder")
    assert not path.parent.exists()
    path.parent.mkdir()
    monkeypatch.setattr(progress, "PLAIN_SECONDS", 0.0)
    with progress.bar("train", 2) as bar:
        bar.advance(loss=0.5)
    progress.log_line("error: to the file only")
    progress.log_to(None)
    progress.say("not logged")
    lines = path.read_text().splitlines()
    assert [line[20:] for line in lines] == [
        "before the folder", "train: 1/2 loss 0.5 (0 s left)", "error: to the file only",
    ]  # fmt: skip
    assert "to the file only" not in capsys.readouterr().out


def test_what_is_said_quietly_is_in_the_log_alone(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(progress, "PLAIN_SECONDS", 0.0)
    progress.log_to(tmp_path / "oofline.log")
    with progress.quiet():
        progress.say("the data once more")
        with progress.bar("seed 1 fold 0", 2) as bar:  # how far it is, is shown
            bar.advance()
    progress.say("aloud")
    progress.log_to(None)
    assert [line.split(":")[0] for line in capsys.readouterr().out.splitlines()] == [
        "seed 1 fold 0", "aloud",
    ]  # fmt: skip
    assert "the data once more" in (tmp_path / "oofline.log").read_text()


def test_bars_within_something_larger_carry_its_name(capsys, monkeypatch):
    monkeypatch.setattr(progress, "PLAIN_SECONDS", 0.0)
    with progress.within("trial 3"), progress.bar("seed 1 fold 0", 1) as bar:
        bar.advance()
    with progress.bar("seed 1 fold 1", 1) as bar:
        bar.advance()
    titles = [line.split(":")[0] for line in capsys.readouterr().out.splitlines()]
    assert titles == ["trial 3, seed 1 fold 0", "seed 1 fold 1"]


def test_in_a_terminal_a_live_bar_with_lines_above(monkeypatch):
    screen = io.StringIO()
    monkeypatch.setattr(
        progress, "Console",
        lambda **kwargs: Console(file=screen, force_terminal=True, width=100),
    )  # fmt: skip
    monkeypatch.setattr(progress, "PLAIN_SECONDS", 0.0)
    logged = []
    monkeypatch.setattr(progress._log, "write", logged.append)
    with progress.bar("tokenize train", 8, start=4) as bar:
        bar.advance(2, speed=3.0)
        progress.say("[brackets] stay as they are")
        with progress.bar("inner", 1) as inner:
            inner.advance()
    text = screen.getvalue()
    assert "tokenize train" in text
    assert "6/8" in text
    assert "speed 3" in text
    assert "[brackets] stay as they are" in text
    assert "inner" in text
    assert any(line.startswith("tokenize train: 6/8 speed 3") for line in logged)
    assert progress._active == []


def test_the_bar_goes_away_when_its_block_fails(monkeypatch):
    monkeypatch.setattr(
        progress, "Console",
        lambda **kwargs: Console(file=io.StringIO(), force_terminal=True, width=80),
    )  # fmt: skip
    try:
        with progress.bar("x", 2):
            raise ValueError
    except ValueError:
        pass
    assert progress._active == []
