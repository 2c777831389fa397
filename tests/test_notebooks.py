"""The notebook runs from top to bottom on a small competition with fabricated results."""

import dataclasses
import os
from pathlib import Path

import nbformat
import numpy as np
import pytest
from nbclient import NotebookClient

from oofline.data.competition import read_competition
from oofline.data.folds import ensure_folds
from oofline.results import prediction_frame
from oofline.scoring.oof import collect
from oofline.scoring.summary import write_oof
from oofline.storage import write_json

NOTEBOOK = Path(__file__).parents[1] / "notebooks" / "explore.ipynb"


def fabricate(paths, cfg):
    """An experiment of one seed, as training and scoring leave it."""
    competition = read_competition(cfg, paths)
    fold = ensure_folds(cfg, paths, competition)[0].fold
    rng = np.random.default_rng(0)
    task, ids, test_ids = competition.task, competition.train_ids, competition.test_ids
    write_json(paths.experiment(cfg.exp) / "cfg.json", dataclasses.asdict(cfg))
    for k in range(cfg.n_folds):
        folder, rows = paths.fold(cfg.exp, 42, k), fold == k
        folder.mkdir(parents=True)
        truth = competition.y[rows].reshape(rows.sum(), -1)
        noise = rng.random(truth.shape)
        shares = task.link == "sigmoid"
        pred = (truth + noise) / 2 if shares else truth + noise
        blocks = {"pred": pred, "last": pred, "best": pred}
        prediction_frame(task, ids[rows], 42, k, **blocks).to_parquet(folder / "oof.parquet")
        test = rng.random((len(test_ids), task.n_outputs))
        prediction_frame(task, test_ids, 42, k, pred=test).to_parquet(folder / "test.parquet")
        (folder / "history.csv").write_text(
            f"step,train_loss,valid_loss,score,samples_per_s,epoch\n9,0.5,0.6,0.7{k},50,1.0\n"
        )
        write_json(folder / "config.json", {"num_hidden_layers": 3})
        write_json(folder / "scores.json", {"minutes": 1.0, "samples_per_s": 50.0})
    oof = collect(paths, cfg.exp, task, ids, fold, test_ids)
    return write_oof(paths, task, oof, competition.y, None, 20)


def outputs(notebook, kind):
    return [
        output["data"][kind] if kind != "text" else output["text"]
        for cell in notebook.cells
        for output in cell.get("outputs", [])
        if kind in output.get("data", output)
    ]


@pytest.mark.parametrize(
    ("kind", "images"),
    [("binary", 5), ("regression", 4), ("multilabel", 5), ("multi-target", 5), ("ordinal", 5)],
)
def test_explore(write_competition, load_settings, monkeypatch, tmp_path, kind, images):
    paths = write_competition(kind)
    cfg = load_settings(paths, exp="tried")
    scores = fabricate(paths, cfg)
    monkeypatch.setenv("OOFLINE_COMP", "toy")
    monkeypatch.setenv("OOFLINE_EXP", "tried")
    monkeypatch.setenv("MPLCONFIGDIR", os.environ.get("MPLCONFIGDIR", str(tmp_path / ".mpl")))
    (tmp_path / "notebooks").mkdir()  # opened from its own folder, as Jupyter does
    notebook = nbformat.read(NOTEBOOK, as_version=4)
    where = {"metadata": {"path": str(tmp_path / "notebooks")}}
    # Cells take seconds; the limit is for one that hangs, also where other work fills the machine.
    NotebookClient(notebook, timeout=600, kernel_name="python3", resources=where).execute()
    text = "\n".join(outputs(notebook, "text"))
    assert f"tried: {scores['metric']} {scores['score']:.5f}" in text
    assert "90 training rows" in text
    assert len(outputs(notebook, "image/png")) == images
    assert len(outputs(notebook, "text/html")) >= 6
    (audit,) = outputs(notebook, "text/markdown")
    assert audit == paths.folds.with_suffix(".md").read_text(encoding="utf-8")
    assert "Warning" not in text


def test_it_is_a_valid_notebook_without_machine_paths():
    notebook = nbformat.read(NOTEBOOK, as_version=4)
    nbformat.validate(notebook)
    assert str(Path.home()) not in NOTEBOOK.read_text(encoding="utf-8")
