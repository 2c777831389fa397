"""MODE=train: a version stops in time, and the next one goes on from its output."""

import shutil

import pandas as pd
import pytest

from oofline.kaggle.build import run_kernel
from oofline.kaggle.rehearsal.isolation import Cell, Finished
from oofline.kaggle.rehearsal.run import run_kernel_rehearse
from oofline.kaggle.rehearsal.versions import Standing, problem_between, run_versions
from oofline.scoring.oof import read_parquet
from oofline.storage import read_json


def _fold(root, number, *, step=0, oof=b"") -> None:
    folder = root / "output" / "toy" / "base" / "seed42" / f"fold{number}"
    folder.mkdir(parents=True, exist_ok=True)
    if step:
        (folder / "state.safetensors").write_text(str(step))
    if oof:
        (folder / "oof.parquet").write_bytes(oof)
        (folder / "scores.json").write_text("{}")


def _versions(tmp_path, *stages, most=3):
    """Run stages, each of which writes into the working folder, as versions of a kernel."""
    working, left = tmp_path / "working", list(stages)
    working.mkdir()

    def once():
        left.pop(0)(working)
        return Finished(0, 10.0, 1.0, "", "log")

    return run_versions(once, working, tmp_path / "input" / "k", ("toy", "base"), most), working


def test_the_output_of_one_is_attached_to_the_next(tmp_path):
    def first(working):
        _fold(working, 0, oof=b"a")
        _fold(working, 1, step=5)

    def second(working):
        assert not any(working.iterdir())
        attached = tmp_path / "input" / "k" / "output" / "toy" / "base" / "seed42"
        assert (attached / "fold1" / "state.safetensors").read_text() == "5"
        _fold(working, 0, oof=b"a")
        _fold(working, 1, oof=b"b")
        (working / "submission.csv").write_text("id\n")

    (finished, lines, problem), _ = _versions(tmp_path, first, second)
    assert problem == ""
    assert finished.seconds == 20
    assert lines == [
        "version 1: 1 folds finished, 1 begun and saved, 10 s so far",
        "version 2: 2 folds finished, 0 begun and saved, 20 s so far",
    ]


def test_a_version_that_starts_anew_is_noticed(tmp_path):
    (_, _, problem), _ = _versions(
        tmp_path, lambda w: _fold(w, 0, oof=b"a"), lambda w: _fold(w, 0, oof=b"other")
    )
    assert "seed42/fold0 was finished in the version before" in problem


@pytest.mark.parametrize(
    ("before", "after", "words"),
    [
        (Standing({}, {"f": "1"}), Standing({}, {"f": "2"}), ""),
        (Standing({}, {"f": "1"}), Standing({"f": "x"}, {}), ""),
        (Standing({}, {"f": "1"}), Standing({}, {"f": "1"}), "came no further"),
        (Standing({}, {}), Standing({}, {}), "came no further"),
        (Standing({}, {"f": "1"}), Standing({"g": "x"}, {}), "dropped"),
        (Standing({"f": "x"}, {}), Standing({}, {"f": "1"}), "is missing or another"),
    ],
)
def test_what_must_hold_between_two_versions(before, after, words):
    problem = problem_between(before, after)
    assert words in problem
    assert bool(words) == bool(problem)


def test_a_training_in_two_versions_gives_what_one_gives(
    trained, kernel_options, rehearse_options, monkeypatch, tmp_path
):
    paths, cfg = trained()
    whole = read_parquet(paths.experiment("base") / "oof.parquet")
    real, seen = Cell.run, []

    def first_fold_first(cell, notebook, *limits):
        """The first version trains one fold alone, as if its time had been over."""
        if not seen:
            text = notebook.read_text()
            assert "'fold': 'all'" in text
            notebook = tmp_path / "first.ipynb"
            notebook.write_text(text.replace("'fold': 'all'", "'fold': '0'"))
        finished = real(cell, notebook, *limits)
        path = cell.work / "kaggle" / "working" / "output" / "toy" / "base" / "oof.parquet"
        seen.append(read_parquet(path) if path.exists() else None)
        return finished

    monkeypatch.setattr(Cell, "run", first_fold_first)
    run_kernel(kernel_options(cfg, mode="train"), paths)
    run_kernel_rehearse(rehearse_options(cfg, versions=3), paths)
    assert len(seen) == 2
    assert seen[0] is None
    pd.testing.assert_frame_equal(seen[1], whole)
    found = read_json(paths.output / "kernel" / "rehearsal.json")
    assert found["passed"]
    assert [line.split(",")[0] for line in found["versions"]] == [
        "version 1: 1 folds finished", "version 2: 2 folds finished",
    ]  # fmt: skip


def test_a_finished_training_predicts_the_hidden_test(
    trained, kernel_options, rehearse_options, monkeypatch
):
    paths, cfg = trained()
    real, seen = Cell.run, []

    def with_other_rows(cell, notebook, *limits):
        """The output of a finished training is attached, and the test has other rows."""
        inputs = cell.work / "kaggle" / "input"
        shutil.copytree(paths.output, inputs / "earlier" / "output" / "toy")
        finished = real(cell, notebook, *limits)
        seen.append(finished.log)
        return finished

    monkeypatch.setattr(Cell, "run", with_other_rows)
    run_kernel(kernel_options(cfg, mode="train"), paths)
    run_kernel_rehearse(rehearse_options(cfg), paths)
    assert "oofline predict" in seen[0]
    assert "oofline train" not in seen[0]
    assert read_json(paths.output / "kernel" / "rehearsal.json")["passed"]
