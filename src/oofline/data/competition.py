"""A competition, read and checked."""

from dataclasses import dataclass, field

import numpy as np
import pandas as pd

from oofline.config import CFG
from oofline.data.groups import find_groups
from oofline.data.language import language_notes
from oofline.data.pairs import Pair, key
from oofline.data.questions import read_questions
from oofline.data.reading import find_table, read_table
from oofline.data.targets import Target, read_target
from oofline.data.texts import Texts, build_texts, require_column
from oofline.errors import ConfigError, DataError
from oofline.results import Task
from oofline.storage import Paths, sha256_of


@dataclass(frozen=True)
class Competition:
    """The rows of a competition: n for training, n_test to predict.

    Attributes:
        name: folder below input/.
        train: training table, all str, in file order.
        test: test table, all str, in file order.
        sample: sample_submission, all str, in file order (its ids are those of test).
        task: what is predicted.
        id_col: the id column of all three.
        text_description: where the texts come from.
        train_ids: (n,) str.
        test_ids: (n_test,) str.
        train_texts: n texts, as they are shown.
        test_texts: n_test texts.
        y: (n,) int64 class indices, (n, T) int64 labels of 0 and 1, (n, T) float64 values, or (n,)
            `Answer` objects.
        train_sha256: of the train file's bytes.
        notes: lines to print: what was found and what was decided.
        group_col: column whose rows stay in one fold, set or found; "" = none.
        train_pairs: n sentence pairs, or questions with their contexts; empty where rows are
            single texts.
        test_pairs: n_test of them.
        symmetric: whether the order within a pair means nothing.
        text_columns: columns that the texts are made of.
    """

    name: str
    train: pd.DataFrame
    test: pd.DataFrame
    sample: pd.DataFrame
    task: Task
    id_col: str
    text_description: str
    train_ids: np.ndarray
    test_ids: np.ndarray
    train_texts: list[str]
    test_texts: list[str]
    y: np.ndarray
    train_sha256: str
    notes: list[str]
    group_col: str = ""
    train_pairs: list[Pair] = field(default_factory=list)
    test_pairs: list[Pair] = field(default_factory=list)
    symmetric: bool = False
    text_columns: tuple[str, ...] = ()

    @property
    def train_rows(self) -> list[str] | list[Pair]:
        """What a model reads of the training rows: n pairs, or n texts."""
        return self.train_pairs or self.train_texts

    @property
    def test_rows(self) -> list[str] | list[Pair]:
        """The same of the test rows."""
        return self.test_pairs or self.test_texts

    @property
    def train_keys(self) -> list[str]:
        """What equal and near-equal training rows are told by, n texts."""
        return self._keys(self.train_pairs, self.train_texts)

    @property
    def test_keys(self) -> list[str]:
        """The same of the test rows."""
        return self._keys(self.test_pairs, self.test_texts)

    @property
    def test_contexts(self) -> dict[str, str] | None:
        """Id -> context of every test row; None where no answers are looked for."""
        if not self.answered:
            return None
        contexts = (context for _, context in self.test_pairs)
        return dict(zip(self.test_ids.tolist(), contexts, strict=True))

    @property
    def answered(self) -> bool:
        """Whether rows are questions with the contexts that hold their answers."""
        return self.task.truth == "answer"

    def _keys(self, pairs: list[Pair], texts: list[str]) -> list[str]:
        return [key(pair, self.symmetric) for pair in pairs] if pairs else texts


def read_competition(cfg: CFG, paths: Paths) -> Competition:
    """Read and check the three tables below ``paths.input``.

    Raises:
        ConfigError: a setting names a missing column, contradicts the data, or asks for a kind
            of task that the data contradict.
        DataError: a file is missing, unreadable or inconsistent with another one.
    """
    _require_folder(paths)
    train, test, sample = (
        read_table(paths.input, stem, cfg.encoding)
        for stem in ("train", "test", "sample_submission")
    )
    id_col = _id_column(cfg, train, test, sample)
    _check_ids(id_col, train, test, sample)
    if cfg.time_col:
        require_column(cfg.time_col, train, "time_col", "train")
    target, texts = _target_and_texts(cfg, train, test, sample, id_col)
    reserved = (id_col, *target.task.targets, cfg.group_col, cfg.time_col)
    group_col, group_notes = find_groups(cfg, train, test, (*reserved, *texts.columns))
    reserved = (*reserved, group_col)
    rows = f"{len(train)} training rows, {len(test)} test rows; id column {id_col}"
    text_notes = _text_notes(texts, train, test, reserved)
    return Competition(
        name=paths.comp,
        train=train,
        test=test,
        sample=sample,
        task=target.task,
        id_col=id_col,
        text_description=texts.description,
        train_ids=train[id_col].to_numpy(dtype=str),
        test_ids=test[id_col].to_numpy(dtype=str),
        train_texts=texts.train,
        test_texts=texts.test,
        y=target.y,
        train_sha256=sha256_of(find_table(paths.input, "train")),
        notes=[
            rows,
            *target.notes,
            *text_notes,
            *language_notes(texts.train, texts.test),
            *group_notes,
        ],
        group_col=group_col,
        train_pairs=texts.train_pairs,
        test_pairs=texts.test_pairs,
        symmetric=cfg.pair_swap != "off",
        text_columns=texts.columns,
    )


def _target_and_texts(
    cfg: CFG, train: pd.DataFrame, test: pd.DataFrame, sample: pd.DataFrame, id_col: str
) -> tuple[Target, Texts]:
    if found := read_questions(cfg, train, test, sample, id_col):
        return found
    target = read_target(cfg, train, test, sample, id_col)
    reserved = (id_col, *target.task.targets, cfg.group_col, cfg.time_col)
    return target, build_texts(cfg, train, test, reserved)


def _require_folder(paths: Paths) -> None:
    if not paths.comp:
        raise ConfigError("comp is not set: name a folder below input/, as in COMP=disaster")
    if paths.input.is_dir():
        return
    parent = paths.input.parent
    there = sorted(p.name for p in parent.iterdir() if p.is_dir()) if parent.is_dir() else []
    raise DataError(
        f"{paths.input} does not exist: make it and put train.csv, test.csv and "
        f"sample_submission.csv there (there now: {', '.join(there) or 'nothing'})"
    )


def _id_column(cfg: CFG, train: pd.DataFrame, test: pd.DataFrame, sample: pd.DataFrame) -> str:
    id_col = cfg.id_col or str(sample.columns[0])
    for where, frame in (("sample_submission", sample), ("train", train), ("test", test)):
        if cfg.id_col:
            require_column(id_col, frame, "id_col", where)
        elif id_col not in frame.columns:
            raise DataError(
                f'id column "{id_col}" (the first of sample_submission) is not in {where} '
                f"(columns there: {', '.join(frame.columns)}): set id_col or repair the file"
            )
    return id_col


def _check_ids(id_col: str, train: pd.DataFrame, test: pd.DataFrame, sample: pd.DataFrame) -> None:
    named = {"train": train[id_col], "test": test[id_col], "sample_submission": sample[id_col]}
    for where, ids in named.items():
        if (ids.str.strip() == "").any():
            row = int(np.flatnonzero(ids.str.strip() == "")[0]) + 1
            raise DataError(f'{where}: "{id_col}" is empty in row {row}: every row needs an id')
        _refuse_ids(ids[ids.duplicated()], f'ids stand more than once in column "{id_col}"', where)
    in_train, in_test, in_sample = (set(ids) for ids in named.values())
    both = named["test"][named["test"].isin(in_train)]
    _refuse_ids(both, "ids stand in train as well", "test")
    missing = named["test"][~named["test"].isin(in_sample)]
    _refuse_ids(missing, "ids are missing from sample_submission", "test")
    strange = named["sample_submission"][~named["sample_submission"].isin(in_test)]
    _refuse_ids(strange, "ids are missing from test", "sample_submission")


def _refuse_ids(bad: pd.Series, what: str, where: str) -> None:
    distinct = list(dict.fromkeys(bad))
    if distinct:
        raise DataError(
            f"{where}: {len(distinct)} {what} (for example {', '.join(distinct[:3])}): "
            "use the files of one and the same competition"
        )


def _text_notes(
    texts: Texts, train: pd.DataFrame, test: pd.DataFrame, reserved: tuple[str, ...]
) -> list[str]:
    notes = [f"text: {texts.description}"]
    sides: tuple[list, list] = texts.train_pairs, texts.test_pairs
    if not texts.train_pairs:
        sides = [(text,) for text in texts.train], [(text,) for text in texts.test]
    elif len(texts.columns) == 1:  # contexts without questions
        sides = [pair[1:] for pair in texts.train_pairs], [pair[1:] for pair in texts.test_pairs]
    empty = [sum(not all(text.strip() for text in row) for row in side) for side in sides]
    if any(empty):
        notes.append(f"empty texts: {empty[0]} in train, {empty[1]} in test")
    left = [str(c) for c in train.columns if c not in {*reserved, *texts.columns}]
    joinable = [column for column in left if column in test.columns]
    if joinable:
        notes.append(f"ignored columns: {', '.join(joinable)} (text_template can join them)")
    if len(left) > len(joinable):
        absent = ", ".join(column for column in left if column not in joinable)
        notes.append(f"ignored columns, not in test: {absent}")
    return notes
