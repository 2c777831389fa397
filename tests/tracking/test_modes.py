"""How the mode is chosen, and what training notices of a wandb that misbehaves: one line."""

import threading

import pytest

from oofline import tracking
from oofline.config import CFG
from oofline.storage import Paths


@pytest.fixture
def paths(tmp_path):
    return Paths("comp", tmp_path)


@pytest.mark.parametrize(
    ("wanted", "mode", "key", "expected"),
    [
        ("auto", "", "", "offline"),
        ("auto", "", "k" * 40, "online"),
        ("auto", "offline", "k" * 40, "offline"),
        ("auto", "disabled", "k" * 40, "disabled"),
        ("online", "disabled", "k" * 40, "online"),
        ("offline", "online", "k" * 40, "offline"),
        ("disabled", "online", "k" * 40, "disabled"),
    ],
)
def test_the_mode_follows_setting_environment_and_key(monkeypatch, wanted, mode, key, expected):
    for name, value in (("WANDB_MODE", mode), ("WANDB_API_KEY", key)):
        if value:
            monkeypatch.setenv(name, value)
    assert tracking.tracking_mode(CFG(wandb=wanted)) == expected


def test_a_netrc_entry_is_a_key(monkeypatch, tmp_path):
    monkeypatch.delenv("WANDB_MODE", raising=False)
    netrc = tmp_path / "netrc"
    netrc.write_text(f"machine wandb.example login user password {'k' * 40}\n")
    monkeypatch.setenv("NETRC", str(netrc))
    monkeypatch.setenv("WANDB_BASE_URL", "https://wandb.example")
    assert tracking.tracking_mode(CFG()) == "online"


def test_log_returns_at_once_even_where_wandb_hangs(capsys):
    class Hanging:
        id = "stuck"

        def log(self, values):
            threading.Event().wait()

    tracker = tracking.Tracker(Hanging(), finish_seconds=0.05)
    for step in range(20_000):
        tracker.log({"loss": 1.0}, step)
    tracker.finish()
    said = capsys.readouterr().out
    assert said.count("stuck is not tracked any further") == 1


def test_a_failure_of_wandb_is_said_once_and_training_goes_on(capsys):
    class Broken:
        id = "broken"

        def log(self, values):
            raise RuntimeError("disk quota\nexceeded")

    tracker = tracking.Tracker(Broken(), finish_seconds=1)
    for step in range(10):
        tracker.log({"loss": 1.0}, step)
    tracker.finish()
    assert capsys.readouterr().out == "wandb: exceeded; broken is not tracked any further\n"


def test_an_unwritable_folder_does_not_stop_training(paths, capsys):
    paths.output.parent.mkdir(parents=True)
    paths.output.write_text("a file where the folder should be")
    with tracking.fold_tracker(CFG(comp="comp", wandb="offline"), paths, 1, 0) as tracker:
        tracker.log({"loss": 1.0}, 0)
    assert "base-s1-f0 is not tracked" in capsys.readouterr().out
