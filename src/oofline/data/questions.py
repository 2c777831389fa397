"""Extractive question answering: contexts, questions and answers, found by content."""

from dataclasses import replace

import numpy as np
import pandas as pd

from oofline.config import CFG
from oofline.data.described import Target, make_task, task_line
from oofline.data.pairs import Pair, Passage, shown
from oofline.data.texts import Texts, require_column, text_score
from oofline.errors import ConfigError, DataError
from oofline.results import Answer

FOUND = 0.98
"""Share of rows whose answer must stand in a column that is taken for the context."""
DISTINCT = 0.25
"""Least share of different answers: a class may stand in its text too, but it comes back."""


def read_questions(
    cfg: CFG, train: pd.DataFrame, test: pd.DataFrame, sample: pd.DataFrame, id_col: str
) -> tuple[Target, Texts] | None:
    """The task and the texts of a competition whose answers are cut out of a context.

    The context is the longest column of train and test that holds the answers word for word; the
    question is the column of the others that looks most like a text. Where train says at which
    character an answer starts, that is read; else its first occurrence counts.

    Args:
        cfg: gives task, target_col, text_col (the context) and pair_col (the question).
        train: training table, all str.
        test: test table, all str.
        sample: sample_submission, all str.
        id_col: the id column.

    Returns:
        None where the task is another one.

    Raises:
        ConfigError: ``cfg.task`` is "qa" and there are no such columns, or a setting does not fit.
        DataError: answers do not stand in their context.
    """
    if cfg.task not in ("auto", "qa"):
        return None
    found = _columns(cfg, train, test, sample, id_col)
    if found is None:
        if cfg.task == "qa":
            raise ConfigError(
                'task = "qa", but no column of train holds texts that stand word for word in a '
                "column of train and test: set target_col (the answer) and text_col (the context)"
            )
        return None
    answer, context, start, why = found
    _refuse_settings(cfg)
    question = _question(cfg, train, test, {id_col, context})
    y, moved = _answers(train, answer, context, start, id_col)
    task = make_task(cfg, "qa", [answer], [], "answer")
    task = replace(task, longest=max(len(row.text) for row in y))
    where = f"start in {start}" if start else "start at their first occurrence"
    notes = [
        task_line(task, why),
        f"answers: {answer}, at most {task.longest} characters; they {where}; submitted as "
        f"sample_submission's {next(c for c in sample.columns if c != id_col)}",
    ]
    if moved:
        notes.append(f"answers that do not stand where {start} says, taken nearby: {moved}")
    return Target(task, y, tuple(notes)), _texts(train, test, context, question)


def _columns(
    cfg: CFG, train: pd.DataFrame, test: pd.DataFrame, sample: pd.DataFrame, id_col: str
) -> tuple[str, str, str, str] | None:
    """Columns of the answer, the context and the start ("" = none), and why."""
    asked = [name for name in sample.columns if name != id_col]
    if len(asked) != 1:
        return None
    own = [str(name) for name in train.columns if name not in {*test.columns, id_col}]
    answers = [cfg.target_col] if cfg.target_col else [n for n in own if n == asked[0]] or own
    contexts = [str(n) for n in test.columns if n in train.columns and n != id_col]
    contexts = [cfg.text_col] if cfg.text_col else contexts
    for answer in answers:
        require_column(answer, train, "target_col", "train")
        holding = [n for n in contexts if n in test.columns and _holds(train, n, answer)]
        if not holding:
            continue
        context = max(holding, key=lambda name: float(train[name].str.len().mean()))
        starts = (n for n in own if n != answer and _starts(train, context, answer, n) >= FOUND)
        start = next(starts, "")
        if cfg.task == "qa":
            return answer, context, start, "task is set"
        if start or train[answer].nunique() > DISTINCT * len(train):
            return answer, context, start, f"{answer} stands word for word in {context}"
    return None


def _holds(train: pd.DataFrame, context: str, answer: str) -> bool:
    """Whether nearly all answers that are given stand in the context, and are not all of it."""
    answers = train[answer].str.strip()
    if pd.to_numeric(answers, errors="coerce").notna().mean() > 0.5:
        return False
    pairs = zip(train[context], answers, strict=True)
    inside = [text in whole for whole, text in pairs if text]
    shorter = answers.str.len().mean() < train[context].str.len().mean()
    return bool(inside and np.mean(inside) >= FOUND and shorter)


def _starts(train: pd.DataFrame, context: str, answer: str, start: str) -> float:
    """Share of rows in which the answer starts at the character that a column says."""
    numbers = pd.to_numeric(train[start], errors="coerce").fillna(-1).to_numpy()
    rows = zip(train[context], train[answer], numbers, strict=True)
    there = [n >= 0 and whole.startswith(a, int(n)) for whole, a, n in rows if a]
    return float(np.mean(there)) if there else 0.0


def _answers(
    train: pd.DataFrame, answer: str, context: str, start: str, id_col: str
) -> tuple[np.ndarray, int]:
    """(n,) `Answer` objects, and how many do not stand where ``start`` says.

    Raises:
        DataError: an answer is empty, or stands nowhere in its context.
    """
    given = pd.Series(0, index=train.index)
    if start:
        given = pd.to_numeric(train[start], errors="coerce").fillna(0).astype(int)
    y = np.empty(len(train), dtype=object)
    moved, missing = 0, []
    rows = zip(train[context], train[answer], given, train[id_col], strict=True)
    for row, (whole, text, said, row_id) in enumerate(rows):
        text = text if text in whole else text.strip()
        at = _nearest(whole, text, said) if text.strip() else -1
        if at < 0:
            missing.append(row_id)
            continue
        moved += bool(start) and at != said
        y[row] = Answer(whole, text, at)
    if missing:
        raise DataError(
            f"train: {len(missing)} answers of {answer} are empty or do not stand in {context}, "
            f"ids {', '.join(missing[:3])}: repair or drop these rows (questions without an answer "
            "are not supported)"
        )
    return y, moved


def _nearest(context: str, text: str, wanted: int) -> int:
    """Start of the occurrence of ``text`` nearest to a character; -1 where there is none."""
    behind = context.find(text, max(wanted, 0))
    before = context.rfind(text, 0, max(wanted, 0) + len(text))
    there = [at for at in (before, behind) if at >= 0]
    return min(there, key=lambda at: abs(at - wanted), default=-1)


def _question(cfg: CFG, train: pd.DataFrame, test: pd.DataFrame, taken: set[str]) -> str:
    """The column of the questions; "" = there are none."""
    if cfg.pair_col == "none":
        return ""
    if cfg.pair_col:
        for where, frame in (("train", train), ("test", test)):
            require_column(cfg.pair_col, frame, "pair_col", where)
        return cfg.pair_col
    taken = taken | {cfg.group_col, cfg.time_col}
    scores = {
        str(name): text_score(train[name])
        for name in test.columns
        if name in train.columns and name not in taken
    }
    best = max(scores, key=lambda name: scores[name], default="")
    return best if scores.get(best, 0.0) > 0 else ""


def _refuse_settings(cfg: CFG) -> None:
    """Settings that do nothing, or something else, where answers are cut out of a context."""
    given = {
        "text_template": bool(cfg.text_template),
        "pair_swap": cfg.pair_swap != "off",
        "pair_groups": cfg.pair_groups,
        "windows": cfg.windows > 1,
        'truncation = "head+tail"': cfg.truncation != "head",
        f'pooling = "{cfg.pooling}"': cfg.pooling != "mean",
    }
    if names := [name for name, there in given.items() if there]:
        raise ConfigError(
            f"{', '.join(names)} does not fit question answering: a context is read whole, in "
            "windows that doc_stride overlaps, and answers are found among its tokens: leave it out"
        )


def _texts(train: pd.DataFrame, test: pd.DataFrame, context: str, question: str) -> Texts:
    """Pairs of question and context."""
    sides: list[list[Pair]] = []
    for frame in (train, test):
        asked = frame[question].tolist() if question else [""] * len(frame)
        sides.append(list(map(Passage, asked, frame[context].tolist())))
    about = f'questions in column "{question}"' if question else "no question"
    columns = tuple(name for name in (question, context) if name)
    train_texts, test_texts = ([shown(pair) for pair in side] for side in sides)
    description = f'context in column "{context}", {about}'
    return Texts(train_texts, test_texts, description, columns, sides[0], sides[1])
