from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

import oofline.data.folds as module
from oofline.config import CFG
from oofline.data.competition import Competition
from oofline.data.folds import Folds, ensure_folds
from oofline.errors import ConfigError, DataError
from oofline.storage import Paths, read_json

Read = Callable[..., Competition]
Ensure = Callable[..., tuple[Folds, bool]]


@pytest.fixture
def ensure(read: Read, write: Callable[..., None], paths: Paths) -> Ensure:
    write(train={"author": [f"a{i // 2}" for i in range(40)]})

    def run(**settings: Any) -> tuple[Folds, bool]:
        return ensure_folds(CFG(comp="toy", **settings), paths, read(**settings))

    return run


def test_made_once_then_read(ensure: Ensure, paths: Paths) -> None:
    made, created = ensure()
    assert created
    written = paths.folds.read_bytes()
    again, created = ensure()
    assert not created
    assert paths.folds.read_bytes() == written
    assert (again.fold == made.fold).all()
    assert (again.groups == made.groups).all()
    assert (again.ids == made.ids).all()
    assert (again.scheme, again.reason) == (made.scheme, made.reason)
    assert again.summary == made.summary != []


def test_the_files(ensure: Ensure, paths: Paths) -> None:
    folds, _ = ensure()
    table = pd.read_csv(paths.folds)
    assert list(table.columns) == ["id", "fold"]
    assert table["fold"].tolist() == folds.fold.tolist()
    made = read_json(paths.output / "folds.json")
    assert made["scheme"] == "stratified"
    assert made["settings"]["n_folds"] == 5
    assert made["rows_per_fold"] == {str(k): 8 for k in range(5)}
    assert len(made["train_sha256"]) == 64
    assert (paths.output / "folds.md").read_text().startswith("# Folds of toy")


def test_folds_csv_comes_last(
    ensure: Ensure, paths: Paths, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(path: Path, text: str) -> None:
        raise OSError("the machine stops here")

    monkeypatch.setattr(module, "write_text", fail)
    with pytest.raises(OSError, match="stops here"):
        ensure()
    assert (paths.output / "folds.json").exists()
    assert not paths.folds.exists()
    monkeypatch.undo()
    assert ensure()[1]


def test_rows_are_joined_by_id(ensure: Ensure, paths: Paths) -> None:
    made, _ = ensure()
    for name in ("folds.csv", "folds_groups.csv"):
        table = pd.read_csv(paths.output / name)
        table.sample(frac=1, random_state=0).to_csv(paths.output / name, index=False)
    again, _ = ensure()
    assert (again.fold == made.fold).all()
    assert (again.groups == made.groups).all()


def test_a_changed_train_file_is_noticed(ensure: Ensure, paths: Paths) -> None:
    ensure()
    before = paths.folds.read_bytes()
    with (paths.input / "train.csv").open("a") as handle:
        handle.write("40,one more row,1,a\n")
    with pytest.raises(DataError, match=r"train file changed since.*restore it, or move"):
        ensure()
    assert paths.folds.read_bytes() == before


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"n_folds": 4}, "n_folds was 5, is 4"),
        ({"fold_seed": 1}, "fold_seed was 42, is 1"),
        ({"near_duplicates": 0.5}, r"near_duplicates was 0\.8, is 0\.5"),
        ({"fold_scheme": "kfold"}, "fold_scheme was 'stratified', is 'kfold'"),
        ({"group_col": "author"}, "group_col was '', is 'author'"),
    ],
)
def test_other_settings_are_refused(ensure: Ensure, settings: dict, message: str) -> None:
    ensure()
    with pytest.raises(ConfigError, match=f"{message}.*set them back, or move"):
        ensure(**settings)


def test_settings_that_do_not_shape_the_folds_may_differ(ensure: Ensure) -> None:
    made, _ = ensure()
    for settings in ({"fold_scheme": "stratified"}, {"fold_bins": 3}, {"text_template": "{id}"}):
        again, created = ensure(**settings)
        assert not created
        assert (again.fold == made.fold).all()


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("id,fold", "id,part", "needs the columns id,fold"),
        ("\n39,", "\n77,", "does not hold the ids of train"),
        ("\n39,", "\n38,", "does not hold the ids of train"),
        ("\n0,", "\n0,7", "folds are not 0 to 4"),
        ("\n0,", "\n0,x", "more than whole numbers"),
        ("\n0,0\n", "\n0,-1\n", "fold -1 is for scheme time"),
    ],
)
def test_a_damaged_file(ensure: Ensure, paths: Paths, old: str, new: str, message: str) -> None:
    ensure()
    text = paths.folds.read_text()
    if old == "\n0,0\n":
        text = "\n0,0\n".join([text.split("\n0,")[0], text.split("\n0,")[1][2:]])
    assert old in text
    paths.folds.write_text(text.replace(old, new, 1))
    with pytest.raises(DataError, match=message):
        ensure()


def test_missing_or_foreign_json(ensure: Ensure, paths: Paths) -> None:
    ensure()
    (paths.output / "folds.json").write_text("[]")
    with pytest.raises(DataError, match="not as it was written"):
        ensure()
    (paths.output / "folds.json").unlink()
    with pytest.raises(DataError, match=r"folds\.json does not exist"):
        ensure()


def test_time_folds_are_read_back(ensure: Ensure, write: Callable[..., None]) -> None:
    write(train={"day": list(range(40))})
    settings = {"fold_scheme": "time", "time_col": "day", "n_folds": 3}
    made, _ = ensure(**settings)
    again, created = ensure(**settings)
    assert not created
    assert again.train_rows(0).tolist() == made.train_rows(0).tolist() == list(range(10))
