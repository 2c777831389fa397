"""The hidden test: larger, public rows kept, new ids, one empty text, groups never seen."""

import numpy as np
import pandas as pd
import pytest

from oofline.data.competition import read_competition
from oofline.kaggle.rehearsal.hidden import UNSEEN, new_ids, text_columns, write_hidden
from oofline.storage import Paths


def hidden_of(paths, cfg, tmp_path, multiply):
    competition = read_competition(cfg, paths)
    folder = tmp_path / "mounted" / "input" / paths.comp
    rows = write_hidden(cfg, paths, competition, folder, multiply)
    return competition, read_competition(cfg, Paths(paths.comp, tmp_path / "mounted")), rows


@pytest.mark.parametrize("multiply", [1, 3])
def test_public_rows_stay_and_others_come(
    write_competition, load_settings, tmp_path, multiply
):  # fmt: skip
    paths = write_competition("binary", 30, 7)
    public, hidden, rows = hidden_of(paths, load_settings(paths), tmp_path, multiply)
    assert rows == len(hidden.test_ids) == 7 * multiply + 1
    assert (hidden.test_ids[:7] == public.test_ids).all()
    assert hidden.test_texts[:7] == public.test_texts
    assert len(set(hidden.test_ids)) == rows
    assert [text for text in hidden.test_texts if not text] == [""]
    assert (hidden.sample["id"].to_numpy() == hidden.test_ids).all()
    assert not (tmp_path / "mounted" / "input" / "toy" / "cfg.toml").exists()
    assert hidden.train_sha256 == public.train_sha256


def test_numbers_stay_numbers(write_competition, load_settings):
    paths = write_competition("binary", 30, 7)
    for name in ("train", "test", "sample_submission"):
        path = paths.input / f"{name}.csv"
        path.write_text(path.read_text().replace("r00", "1"))
    competition = read_competition(load_settings(paths), paths)
    ids = np.concatenate([new_ids(competition, 1), new_ids(competition, 2)])
    assert len(set(ids)) == 14
    assert min(map(int, ids)) > max(map(int, competition.train_ids))


def test_groups_are_unseen_and_formats_stay(write_competition, load_settings, tmp_path):
    paths = write_competition("binary", 30, 7)
    for name in ("train", "test"):
        frame = pd.read_csv(paths.input / f"{name}.csv", dtype=str)
        frame["source"] = [f"s{row % 3}" for row in range(len(frame))]
        (paths.input / f"{name}.csv").unlink()
        frame.to_parquet(paths.input / f"{name}.parquet", index=False)
    cfg = load_settings(paths, group_col="source")
    public, hidden, _ = hidden_of(paths, cfg, tmp_path, 2)
    assert (tmp_path / "mounted" / "input" / "toy" / "test.parquet").exists()
    assert set(hidden.test["source"][7:]) & set(public.train["source"]) == set()
    assert hidden.test["source"][7].startswith(UNSEEN)


def test_a_template_is_emptied_but_for_the_id(write_competition, load_settings):
    paths = write_competition("binary", 30, 7)
    cfg = load_settings(paths, text_template="{text} of {id} and {text}")
    competition = read_competition(cfg, paths)
    assert text_columns(competition) == ["text"]


def test_both_texts_of_a_pair_are_emptied_and_found_groups_unseen(
    write_competition, load_settings, tmp_path
):
    paths = write_competition("pair", 30, 7)
    for name in ("train", "test"):
        frame = pd.read_csv(paths.input / f"{name}.csv", dtype=str)
        start = len(name) * 10  # test has other authors than train
        frame["author"] = [f"a{start + row % 3}" for row in range(len(frame))]
        frame.to_csv(paths.input / f"{name}.csv", index=False)
    public, hidden, _ = hidden_of(paths, load_settings(paths), tmp_path, 2)
    assert public.group_col == "author"
    assert hidden.test_pairs[:7] == public.test_pairs
    assert hidden.test_pairs[-1] == ("", "")
    assert ("", "") not in hidden.test_pairs[:-1]
    assert hidden.test["author"][7].startswith(UNSEEN)
