import matplotlib
import pytest

from oofline.errors import OoflineError
from oofline.report.style import figure, run_color


def test_nothing_is_left_when_drawing_fails(tmp_path):
    with pytest.raises(ValueError, match="broken"), figure(tmp_path / "a.png", 2, 2):
        raise ValueError("broken")
    assert list(tmp_path.iterdir()) == []


def test_the_users_own_settings_do_not_show_and_come_back(tmp_path):
    with matplotlib.rc_context({"axes.facecolor": "red", "text.usetex": True}):
        with figure(tmp_path / "a.png", 2, 2) as fig:
            assert fig.subplots().get_facecolor() == (1.0, 1.0, 1.0, 1.0)
            assert not matplotlib.rcParams["text.usetex"]
        assert matplotlib.rcParams["axes.facecolor"] == "red"
    assert (tmp_path / "a.png").read_bytes().startswith(b"\x89PNG")


def test_a_folder_that_cannot_be_written_is_named(tmp_path, monkeypatch):
    def full(*args, **kwargs):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("matplotlib.figure.Figure.savefig", full)
    with pytest.raises(OoflineError, match=r"a\.png"), figure(tmp_path / "a.png", 2, 2):
        pass
    assert list(tmp_path.iterdir()) == []


def test_colours_repeat():
    assert run_color(0) == run_color(8) != run_color(1)
