import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from oofline.config import CFG
from oofline.data.competition import Competition, read_competition
from oofline.storage import Paths

REPOSITORY = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="session")
def real_data() -> Path:
    """Folder of the real competitions, or a skip."""
    folder = Path(os.environ.get("OOFLINE_DATA", REPOSITORY.parent / "shared" / "data"))
    if not (folder / "disaster" / "train.csv").exists():
        pytest.skip(f"no competition data in {folder}: set OOFLINE_DATA")
    return folder


@pytest.fixture
def read_real(real_data: Path, tmp_path: Path) -> Callable[..., Competition]:
    """read_real("disaster", text_col=...) reads a real competition."""
    (tmp_path / "real").mkdir()
    (tmp_path / "real" / "input").symlink_to(real_data)

    def read(comp: str, **settings: Any) -> Competition:
        return read_competition(CFG(comp=comp, **settings), Paths(comp, tmp_path / "real"))

    return read


def rows(n: int, start: int = 0, **columns: list[Any]) -> dict[str, list[Any]]:
    words = ("storm", "flood", "sunny", "quiet", "river", "bridge", "market", "garden", "engine")
    text = [f"{words[i % 9]} {words[i * 7 % 8]} number {i * i}" for i in range(start, start + n)]
    return {"id": list(range(start, start + n)), "text": text, **columns}


@pytest.fixture
def paths(tmp_path: Path) -> Paths:
    return Paths("toy", tmp_path)


@pytest.fixture
def write(paths: Paths) -> Callable[..., None]:
    """write(target=[...], train={...}, test={...}, sample={...}) makes a small competition."""

    def make(
        target: list[Any] | None = None,
        train: dict[str, list[Any]] | None = None,
        test: dict[str, list[Any]] | None = None,
        sample: dict[str, list[Any]] | None = None,
    ) -> None:
        target = [0, 1] * 20 if target is None else target
        train = rows(len(target), target=target) | (train or {})
        test = rows(3, 1000) | (test or {})
        sample = {"id": test["id"], "target": [0] * len(test["id"])} if sample is None else sample
        paths.input.mkdir(parents=True, exist_ok=True)
        for stem, table in (("train", train), ("test", test), ("sample_submission", sample)):
            pd.DataFrame(table).to_csv(paths.input / f"{stem}.csv", index=False)

    return make


@pytest.fixture
def read(paths: Paths) -> Callable[..., Competition]:
    """read(task=...) reads what `write` wrote."""
    return lambda **settings: read_competition(CFG(comp="toy", **settings), paths)
