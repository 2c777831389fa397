"""notebooks/ablation.ipynb runs on any ablation, and is kept with the outputs of its commands."""

import os
from pathlib import Path

import nbformat
import pandas as pd
from nbclient import NotebookClient

NOTEBOOK = Path(__file__).parents[2] / "notebooks" / "ablation.ipynb"


def test_it_shows_the_table_the_picture_and_every_unit(fabricate, oofline, monkeypatch, tmp_path):
    arms = {"base": (0.5, {}), "awp": (0.1, {"awp_last_epochs": 1})}
    paths, *_ = fabricate(arms)
    code, *_ = oofline(
        "ablation", "--comp", "toy", "--arms", "base,awp", "--seed", "1,2", "--fold", "0-2"
    )
    assert code == 0
    monkeypatch.setenv("OOFLINE_ABLATIONS", "toy/ablation")
    monkeypatch.setenv("MPLCONFIGDIR", os.environ.get("MPLCONFIGDIR", str(tmp_path / ".mpl")))
    notebook = nbformat.read(NOTEBOOK, as_version=4)
    where = {"metadata": {"path": str(tmp_path)}}
    NotebookClient(notebook, timeout=600, kernel_name="python3", resources=where).execute()
    data = [
        output["data"]
        for cell in notebook.cells
        for output in cell.get("outputs", [])
        if "data" in output
    ]
    shown = "\n".join(str(part.get("text/markdown", "")) for part in data)
    folder = paths.output / "ablations" / "ablation"
    verdict = pd.read_csv(folder / "table.csv").set_index("arm").loc["awp", "verdict"]
    assert verdict == "better"
    assert f"| {verdict} |" in shown
    assert sum("image/png" in part for part in data) == 1
    by_unit = next(part["text/html"] for part in data if "text/html" in part)
    assert by_unit.count("<td>0.5</td>") == 12  # 2 arms, 2 seeds, 3 folds


def test_it_is_kept_executed_and_without_machine_paths():
    notebook = nbformat.read(NOTEBOOK, as_version=4)
    nbformat.validate(notebook)
    assert all(
        c.outputs for c in notebook.cells if c.cell_type == "code" and "display(" in c.source
    )
    assert str(Path.home()) not in NOTEBOOK.read_text(encoding="utf-8")
