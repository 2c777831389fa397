"""The competitions made of the essays are read as what they are meant to show."""

import runpy
from dataclasses import replace
from pathlib import Path

import pandas as pd

from oofline.data.competition import read_competition
from oofline.sources import load_cfg
from oofline.storage import Paths

MADE = runpy.run_path(str(Path(__file__).with_name("made_competitions.py")))
SCORES = ("cohesion", "vocabulary")


def test_labels_and_a_scale(tmp_path):
    source = tmp_path / "input" / "ell"
    source.mkdir(parents=True)
    rows = [
        (f"t{n}", f"an essay about {n} things", 1 + n % 9 / 2, 5 - n % 9 / 2) for n in range(18)
    ]
    frame = pd.DataFrame(rows, columns=["text_id", "full_text", *SCORES])
    frame.to_csv(source / "train.csv", index=False)
    test = frame[["text_id", "full_text"]].assign(text_id=[f"s{n}" for n in range(18)])
    test.to_csv(source / "test.csv", index=False)
    assert [folder.name for folder in MADE["make"](tmp_path)] == ["ell-labels", "ell-scale"]
    read = {}
    for name in ("ell-labels", "ell-scale"):
        paths = Paths(name, tmp_path)
        read[name] = read_competition(replace(load_cfg(paths), comp=name), paths)
    labels, scale = read["ell-labels"], read["ell-scale"]
    assert (labels.task.kind, labels.task.targets) == ("multilabel", SCORES)
    assert labels.y[:, 0].tolist() == [int(row[2] >= 3.5) for row in rows]
    assert (scale.task.kind, scale.task.metric) == ("ordinal", "qwk")
    assert scale.task.labels == tuple("123456789")
    assert scale.y.tolist() == [int(row[3] * 2) - 2 for row in rows]
