import numpy as np
import pandas as pd
import pytest

from oofline.report import fonts
from oofline.report.importance import importance_picture, mean_importance, readable
from oofline.scoring.oof import Oof
from oofline.storage import Paths

FRAME = pd.DataFrame(
    {
        "sort": ["word", "char", "number", "category", "svd"],
        "name": ["とても 良い", " ba", "characters", "keyword = fire", "component 3"],
        "towards": ["positive", "", "", "", ""],
        "importance": [0.4, 0.3, 0.15, 0.1, 0.05],
        "folds": [2, 2, 1, 1, 1],
    }
)


@pytest.mark.parametrize(("sort", "name", "shown"), [
    ("char", " a\n", "“␣a↵”"), ("char", "\tb", "“→b”"), ("word", "とても 良い", "とても 良い"),
    ("category", "place = x", "place = x"),
])  # fmt: skip
def test_n_grams_can_be_read(sort, name, shown):
    assert readable(sort, name) == shown


@pytest.fixture
def stored(tmp_path, monkeypatch):
    """stored(frames) -> (paths, oof) with one importance.csv a fold."""

    def make(frames):
        paths = Paths("toy", tmp_path)
        for fold, frame in enumerate(frames):
            folder = paths.fold("lgbm", 1, fold)
            folder.mkdir(parents=True)
            frame.to_csv(folder / "importance.csv", index=False)
        rows = np.arange(len(frames))
        empty = np.zeros((1, 0, 1))
        return paths, Oof("lgbm", (1,), rows, rows.astype(str), rows, {}, rows[:0], empty, [])

    return make


def test_importance_is_a_mean_over_all_folds(stored):
    columns = ["sort", "name", "towards", "importance"]
    one = pd.DataFrame([["word", "good", "a", 0.8], ["word", "null", "a", 0.2]], columns=columns)
    two = pd.DataFrame([["word", "good", "b", 0.4], ["char", "good", "b", 0.6]], columns=columns)
    paths, oof = stored([one, two])
    mean = mean_importance(paths, "lgbm", oof).set_index(["sort", "name"])
    assert mean["importance"].tolist() == pytest.approx([0.6, 0.3, 0.1])
    assert mean.loc[("word", "good"), "towards"] == "a"
    assert mean.loc[("word", "good"), "folds"] == 2
    assert mean.loc[("word", "null"), "importance"] == pytest.approx(0.1)


def test_the_picture_shows_the_most_important_on_top(tmp_path, drawn):
    path = importance_picture(tmp_path / "importance.png", FRAME, "what it looks at")
    assert path.stat().st_size > 5000
    ax = drawn["importance"].axes[0]
    labels = [label.get_text() for label in ax.get_yticklabels()]
    assert labels[-2] == "“␣ba”"
    assert labels[0] == "component 3"
    assert labels[-1].endswith("(positive)")
    widths = [bar.get_width() for bar in ax.patches[: len(FRAME)]]
    assert widths == sorted(widths)
    names = [text.get_text() for text in drawn["importance"].legends[0].get_texts()]
    assert names[0] == "words"
    assert len(names) == 5


def test_japanese_is_shown_where_a_font_has_it(tmp_path, drawn):
    importance_picture(tmp_path / "importance.png", FRAME, "x")
    label = drawn["importance"].axes[0].get_yticklabels()[-1].get_text()
    expected = "とても 良い" if len(fonts.families()) > 1 else "□□□ □□"
    assert label.startswith(expected)
