import dataclasses

import numpy as np
import pytest
from PIL import Image

from oofline.errors import DataError
from oofline.report import experiment as module
from oofline.report.experiment import (
    draw_experiment,
    peak_rates,
    read_history,
    read_worst,
    report_experiment,
    summary_figures,
)
from oofline.tracking import Tracker

SHARED = {"learning_curves", "lr_schedule", "score_by_length", "worst_rows"}


class Recorder(Tracker):
    def __init__(self):
        super().__init__()
        self.seen = {}
        self.finished = None

    def summary(self, values):
        self.seen["summary"] = values

    def table(self, name, frame):
        self.seen[name] = frame

    def picture(self, name, path):
        assert path.exists()
        self.seen[name] = path

    def finish(self, failed=False):
        self.finished = failed


@pytest.mark.parametrize(
    ("kind", "own"),
    [
        ("binary", {"confusion", "calibration"}),
        ("multiclass", {"confusion", "calibration"}),
        ("regression", {"predicted_vs_true"}),
    ],
)
def test_every_picture_of_a_task_is_drawn(experiment, kind, own):
    pictures = draw_experiment(*experiment(kind))
    assert {path.stem for path in pictures} == SHARED | own
    for path in pictures:
        with Image.open(path) as image:
            image.load()
            assert image.format == "PNG"
            assert min(image.size) > 300
    left = {path.name for path in pictures[0].parent.iterdir()}
    assert left == {path.name for path in pictures} | {"worst_rows.csv"}


def test_what_is_tracked(experiment, monkeypatch):
    tracker = Recorder()
    monkeypatch.setattr(module, "oof_tracker", lambda cfg, paths: tracker)
    cfg, paths, competition, oof, scores = experiment("binary")
    folder = report_experiment(cfg, paths, competition, oof, scores)
    assert folder == paths.experiment(cfg.exp) / "pictures"
    assert tracker.finished is False
    assert tracker.seen["summary"]["score"] == scores["score"]
    assert tracker.seen["summary"]["ci95_lo"] == scores["ci95"][0]
    assert len(tracker.seen["fold_scores"]) == 6
    assert set(tracker.seen["worst_rows"]["text"]) <= set(competition.train_texts)
    assert {f"pictures/{p.stem}" for p in folder.glob("*.png")} <= set(tracker.seen)


def test_summary_is_flat_and_leaves_out_what_is_not_there(experiment):
    scores = experiment("regression", seeds=(7,))[-1]
    figures = summary_figures(scores)
    assert figures["score"] == figures["score_seed7"]
    assert figures["ci95_lo"] < figures["score"] < figures["ci95_hi"]
    assert figures["n_folds"] == 3
    assert "seed_std" not in figures
    assert all(isinstance(value, int | float | str) for value in figures.values())


def test_a_failing_picture_is_not_swallowed(experiment, monkeypatch):
    def broken(*args):
        raise RuntimeError("picture")

    arguments = experiment("regression", seeds=(1,))
    monkeypatch.setattr(module, "worst_rows", broken)
    with pytest.raises(RuntimeError, match="picture"):
        report_experiment(*arguments)


def test_every_fold_and_seed_is_in_the_curves(experiment, drawn):
    draw_experiment(*experiment("binary", seeds=(1, 2)))
    axes = drawn["learning_curves"].axes
    thin = [line for line in axes[1].lines if line.get_linewidth() < 2]
    assert len(thin) == 6
    np.testing.assert_allclose(thin[0].get_ydata(), 1.1 / np.arange(1, 4))


def test_rates_follow_the_plan(experiment, drawn):
    cfg, paths, competition, oof, scores = experiment("binary", seeds=(1,))
    cfg = dataclasses.replace(cfg, lr=1e-3, head_lr=5e-3, layer_decay=0.5, evals_per_epoch=2)
    draw_experiment(cfg, paths, competition, oof, scores)
    lines = drawn["lr_schedule"].axes[0].lines
    curves = [line for line in lines if line.get_linestyle() == "-"]
    steps = 2 * -(-(len(competition.y) - int((oof.fold == 2).sum())) // 8)
    assert {len(line.get_xdata()) for line in curves} == {steps}
    peaks = [max(line.get_ydata()) for line in curves]
    np.testing.assert_allclose(np.array(peaks[:-1]) / peaks[3], [0.125, 0.25, 0.5, 1.0])
    assert peaks[-1] / peaks[3] == pytest.approx(5.0)
    assert sum(line.get_linestyle() == ":" for line in lines) == 4


def test_peak_rates_of_shared_and_frozen_layers(experiment):
    cfg, paths, *_ = experiment("binary", seeds=(1,))
    folder = paths.fold(cfg.exp, 1, 0)
    rates = peak_rates(dataclasses.replace(cfg, body_lr=0.0, lr=1e-3), folder)
    assert list(rates) == ["embeddings", "layer 1", "layer 2", "layer 3", "head"]
    assert [*rates.values()] == [0, 0, 0, 0, 1e-3]
    (folder / "config.json").write_text('{"num_hidden_layers": 12, "num_hidden_groups": 1}')
    assert list(peak_rates(cfg, folder)) == ["embeddings", "layer 1", "head"]
    (folder / "config.json").write_text('{"n_layers": 2}')
    assert list(peak_rates(cfg, folder)) == ["embeddings", "layer 1", "layer 2", "head"]
    (folder / "config.json").write_text("{}")
    with pytest.raises(DataError, match="number of layers"):
        peak_rates(cfg, folder)


def test_peak_rates_of_single_groups(experiment):
    cfg, paths, *_ = experiment("binary", seeds=(1,))
    folder = paths.fold(cfg.exp, 1, 0)
    own = dataclasses.replace(cfg, lr=1e-3, group_lrs="layer.2=5e-4, embeddings=0")
    assert [*peak_rates(own, folder).values()] == [0, 1e-3, 5e-4, 1e-3, 1e-3]
    frozen = dataclasses.replace(cfg, lr=1e-3, freeze_layers=2)
    assert [*peak_rates(frozen, folder).values()] == [0, 0, 0, 1e-3, 1e-3]


def test_worst_rows_csv_holds_whole_texts(experiment):
    cfg, paths, competition, oof, scores = experiment("regression")
    draw_experiment(cfg, paths, competition, oof, scores)
    table = read_worst(paths.experiment(cfg.exp) / "pictures")
    pred, y = oof.blocks["pred"].mean(axis=0)[:, 0], competition.y[oof.rows, 0]
    worst = np.argsort(-np.abs(pred - y), kind="stable")[:20]
    assert list(table["id"]) == list(oof.ids[worst])
    np.testing.assert_allclose(table["error"], (pred - y)[worst])
    assert list(table["text"]) == [competition.train_texts[oof.rows[i]] for i in worst]


def test_rows_of_a_group_are_drawn_together(experiment, monkeypatch):
    seen = {}
    draw = module.score_by_length
    monkeypatch.setattr(
        module, "score_by_length",
        lambda *args: seen.update(groups=args[5]) or draw(*args),
    )  # fmt: skip
    cfg, paths, competition, oof, scores = experiment("binary", seeds=(1,))
    competition.train["author"] = ["x", "y", "z"] * 30
    competition = dataclasses.replace(competition, group_col="author")
    draw_experiment(cfg, paths, competition, oof, scores)
    assert list(seen["groups"][:4]) == [0, 1, 2, 0]


@pytest.mark.parametrize("content", [None, "step,train_loss,valid_loss,score,epoch\n"])
def test_history_that_is_missing_or_empty(tmp_path, content):
    if content:
        (tmp_path / "history.csv").write_text(content)
    with pytest.raises(DataError, match=r"history\.csv .*train that fold again"):
        read_history(tmp_path, 1, 0)
