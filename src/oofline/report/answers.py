"""Pictures of answers cut out of a context: where they are right and where they are not."""

from collections import Counter
from pathlib import Path

import numpy as np

from oofline.data.pairs import MARK
from oofline.report.predictions import ROWS_PER_BIN, score_by_length, score_by_part
from oofline.results import Task

WORD_COUNTS = {"1": (1, 1), "2": (2, 2), "3": (3, 3), "4–5": (4, 5), "6–9": (6, 9)}
"""Parts by the number of words in the true answer; longer ones are the last part."""
MOST_TYPES = 8
"""First words of questions that are shown; the others are one part."""


def draw_answers(
    folder: Path,
    task: Task,
    y: np.ndarray,
    texts: list[str],
    inputs: np.ndarray,
    groups: np.ndarray | None,
    n_samples: int,
) -> list[Path]:
    """Score by the length of the answer, by the first word of the question and by the context.

    Args:
        folder: receives score_by_answer.png, score_by_question.png (where questions begin with the
            same words often enough) and score_by_length.png.
        task: a qa task.
        y: (n,) `Answer` objects.
        texts: n questions with their contexts, as they are shown.
        inputs: (n,) answers, out of fold.
        groups: (n,) rows that are drawn together, or None.
        n_samples: resamples of each interval.
    """
    lengths = np.array([len(answer.context) for answer in y])
    drawn = [
        score_by_part(
            folder / "score_by_answer.png", task, by_length_of_answer(y), y, inputs,
            ("length of the true answer", "words in the true answer"), groups, n_samples,
        ),
        score_by_length(
            folder / "score_by_length.png", task, lengths, y, inputs, groups, n_samples,
            "characters (the context)",
        ),
    ]  # fmt: skip
    types = by_first_word(texts)
    if len(types) > 1:
        about = ("kind of question", "first word of the question")
        drawn.append(
            score_by_part(
                folder / "score_by_question.png", task, types, y, inputs, about, groups, n_samples
            )
        )
    return drawn


def by_length_of_answer(y: np.ndarray) -> dict[str, np.ndarray]:
    """Rows by the number of words of the true answer; parts without rows are left out."""
    words = np.array([len(answer.text.split()) for answer in y])
    parts = {
        name: np.flatnonzero((words >= low) & (words <= high))
        for name, (low, high) in WORD_COUNTS.items()
    }
    parts["10 or more"] = np.flatnonzero(words >= 10)
    return {name: rows for name, rows in parts.items() if len(rows)}


def by_first_word(texts: list[str]) -> dict[str, np.ndarray]:
    """Rows by the first word of the question, frequent words first, the rest last."""
    first = [(text.split(MARK)[0].lower().split() or [""])[0] for text in texts]
    common = [word for word, n in Counter(first).most_common(MOST_TYPES) if n >= ROWS_PER_BIN]
    words = np.array(first, dtype=object)
    parts = {word: np.flatnonzero(words == word) for word in common if word}
    rest = np.flatnonzero(~np.isin(words, list(parts)))
    return parts | ({"other": rest} if len(rest) else {})
