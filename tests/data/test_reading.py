import csv
import gzip
from pathlib import Path

import pandas as pd
import pytest

from oofline.data.reading import find_table, guess_encoding, read_table
from oofline.errors import ConfigError, DataError

JAPANESE = "id,text\n1,これはとても良い商品です。また買います\n2,すぐに壊れました。残念です\n"


def put(folder: Path, content: str | bytes, name: str = "train.csv") -> Path:
    raw = content.encode() if isinstance(content, str) else content
    (folder / name).write_bytes(raw)
    return folder


def test_every_cell_is_text_and_nothing_is_guessed(tmp_path: Path) -> None:
    put(tmp_path, 'id,text,x\n007,NA,\n08,"a ""quoted"", word\nand a line",1.50\n')
    table = read_table(tmp_path, "train")
    assert table.to_dict("list") == {
        "id": ["007", "08"],
        "text": ["NA", 'a "quoted", word\nand a line'],
        "x": ["", "1.50"],
    }
    assert (table.dtypes == "str").all()


@pytest.mark.parametrize("ending", ["\n", "\r\n", "\r"])
def test_line_endings_blank_lines_and_missing_last_newline(tmp_path: Path, ending: str) -> None:
    put(tmp_path, ending.join(["id,text", "", "1,a", "", "2,b"]))
    assert read_table(tmp_path, "train")["text"].tolist() == ["a", "b"]


def test_a_utf8_mark_is_dropped_whatever_encoding_is_set(tmp_path: Path) -> None:
    put(tmp_path, b"\xef\xbb\xbf" + JAPANESE.encode())
    for encoding in ("utf-8", "cp932"):
        table = read_table(tmp_path, "train", encoding)
        assert table.columns[0] == "id"
        assert table["text"][1] == "すぐに壊れました。残念です"


def test_csv_then_gzip_then_parquet(tmp_path: Path) -> None:
    pd.DataFrame({"id": [3]}).to_parquet(tmp_path / "train.parquet")
    assert read_table(tmp_path, "train")["id"].tolist() == ["3"]
    (tmp_path / "train.csv.gz").write_bytes(gzip.compress(b"id\n2\n"))
    assert read_table(tmp_path, "train")["id"].tolist() == ["2"]
    put(tmp_path, "id\n1\n")
    assert read_table(tmp_path, "train")["id"].tolist() == ["1"]
    assert find_table(tmp_path, "train").name == "train.csv"


def test_parquet_nulls_integers_and_booleans_become_text(tmp_path: Path) -> None:
    frame = pd.DataFrame(
        {
            "id": pd.array([1, None], dtype="Int64"),
            "flag": [True, False],
            "text": ["a", None],
            "kind": pd.Categorical(["x", "y"]),
            "list": [[1, 2], None],
        }
    )
    frame.to_parquet(tmp_path / "train.parquet")
    assert read_table(tmp_path, "train").to_numpy().tolist() == [
        ["1", "True", "a", "x", "[1, 2]"],
        ["", "False", "", "y", ""],
    ]


@pytest.mark.parametrize(
    ("text", "encoding"),
    [
        (JAPANESE, "cp932"),
        (JAPANESE, "euc_jp"),
        (JAPANESE, "utf-16"),
        (JAPANESE, "utf-16-le"),
        ("id,text\n1,plain\n", "utf-16-be"),
        ("id,text\n1,ﾃｽﾄ\n", "cp932"),
        ("id,text\n1,plain\n2,un café crème\n", "cp1252"),
        ("id,text\n1,Über die Brücke\n", "cp1252"),
        ("id,text\n1,“smart” – it’s 5 €\n", "cp1252"),
    ],
)
def test_another_encoding_is_named_and_then_read(tmp_path: Path, text: str, encoding: str) -> None:
    put(tmp_path, text.encode(encoding))
    with pytest.raises(DataError, match=f'set encoding = "{encoding}"') as caught:
        read_table(tmp_path, "train")
    assert "train.csv" in str(caught.value)
    assert "\n" not in str(caught.value)
    assert read_table(tmp_path, "train", encoding)["text"].tolist() == [
        line.split(",")[1] for line in text.splitlines()[1:]
    ]


def test_a_single_byte_file_is_called_by_its_usual_name(tmp_path: Path) -> None:
    put(tmp_path, "id,text\n1,un café crème\n".encode("latin-1"))
    message = r'it looks like cp1252 \(Latin-1\): set encoding = "cp1252"'
    with pytest.raises(DataError, match=message):
        read_table(tmp_path, "train")


def test_the_limit_of_a_cell_fits_a_32_bit_long(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    limits, real = [], csv.field_size_limit

    def as_on_windows(limit: int) -> int:
        if limit > 2**31 - 1:
            raise OverflowError("Python int too large to convert to C long")
        limits.append(limit)
        return real(limit)

    monkeypatch.setattr(csv, "field_size_limit", as_on_windows)
    put(tmp_path, b"id,text\n1," + b"x" * 200_000 + b"\n")
    assert read_table(tmp_path, "train")["text"].str.len().tolist() == [200_000]
    assert limits == [2**31 - 1]


def test_the_line_of_the_first_bad_byte_is_named(tmp_path: Path) -> None:
    put(tmp_path, "id,text\n1,a\n2,é\n".encode("cp1252"))
    with pytest.raises(DataError, match="byte 0xe9 in line 3"):
        read_table(tmp_path, "train")


def test_real_japanese_reviews_as_cp932(real_data: Path, tmp_path: Path) -> None:
    text = (real_data / "sentiment-ja" / "train.csv").read_text(encoding="utf-8")
    raw = text.encode("cp932", errors="ignore")
    assert guess_encoding(raw) == "cp932"
    put(tmp_path, raw)
    assert len(read_table(tmp_path, "train", "cp932")) == 3000


def test_real_tweets_as_latin1(real_data: Path) -> None:
    text = (real_data / "disaster" / "train.csv").read_text(encoding="utf-8")
    assert guess_encoding(text.encode("latin-1", errors="ignore")) == "cp1252"


def test_unknown_encoding(tmp_path: Path) -> None:
    put(tmp_path, "id\n1\n")
    with pytest.raises(ConfigError, match='encoding = "sjiss" is not known'):
        read_table(tmp_path, "train", "sjiss")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("", "is empty"),
        ("\n\n", "is empty"),
        ("id,text\n", "header but no rows"),
        ("id,text\n1,a\n2\n", "line 3: 1 cells where the header has 2"),
        ("id,text\n1,a,b\n", "line 2: 3 cells where the header has 2"),
        ('id,text\n1,"a\nb"\n2,c,d\n', "line 4: 3 cells"),
        ('id,text\n1,a\n2,"never closed\n3,c\n', "unbalanced quotes in the row .* line 3"),
        ('id,text\n1,"a" b\n', "unbalanced quotes in the row .* line 2"),
        ("id,text,text\n1,a,b\n", "column 'text' stands more than once"),
        ("id\ttext\n1\ta\n", "separated by tabs"),
        ("id;text\n1;a\n", "separated by semicolons"),
    ],
)
def test_malformed_csv(tmp_path: Path, content: str, message: str) -> None:
    put(tmp_path, content)
    with pytest.raises(DataError, match=message):
        read_table(tmp_path, "train")


def test_damaged_gzip_and_parquet(tmp_path: Path) -> None:
    whole = gzip.compress(b"id,text\n" + b"1,a\n" * 5000)
    for raw in (b"no gzip", whole[: len(whole) // 2]):
        put(tmp_path, raw, "train.csv.gz")
        with pytest.raises(DataError, match="not a complete gzip"):
            read_table(tmp_path, "train")
    put(tmp_path, b"no parquet", "test.parquet")
    with pytest.raises(DataError, match="cannot be read as parquet"):
        read_table(tmp_path, "test")


def test_missing_file_names_what_was_looked_for(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"none of test\.csv, test\.csv\.gz, test\.parquet"):
        read_table(tmp_path, "test")
