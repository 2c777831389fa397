"""The leak audit: what in the data or the folds could make a score lie, with examples."""

from collections.abc import Iterable

import numpy as np
import pandas as pd

from oofline.data.competition import Competition
from oofline.data.duplicates import exact_groups, normalise
from oofline.data.fold_drift import add_drift, fold_name, fold_numbers
from oofline.data.markdown import Report, shorten, table
from oofline.data.pairs import crossing
from oofline.data.splits import Folds

EXAMPLES = 5
"""Examples shown of each finding."""


def audit_report(
    competition: Competition, folds: Folds, duplicates: np.ndarray
) -> tuple[str, list[str]]:
    """Audit the folds and the data they split.

    Args:
        competition: n training rows.
        folds: their folds.
        duplicates: (n,) int64 duplicate groups, near ones included.

    Returns:
        The text of folds.md, and the lines to print (one finding each).
    """
    report = Report()
    normalised = [normalise(text) for text in competition.train_keys]
    exact = exact_groups(normalised)
    report.add(f"# Folds of {competition.name}")
    _rows(report, competition, folds)
    _exact_duplicates(report, competition, exact)
    _near_duplicates(report, competition, folds, exact, duplicates)
    _shared_sentences(report, competition, folds)
    _conflicts(report, competition, exact)
    _in_test(report, competition, normalised)
    add_drift(report, competition, folds)
    _lengths(report, competition, folds)
    return "\n".join(report.markdown), report.summary


def _rows(report: Report, competition: Competition, folds: Folds) -> None:
    report.finding(f"{folds.n_folds} folds, scheme {folds.scheme} ({folds.reason})")
    sizes = {k: len(folds.valid_rows(k)) for k in fold_numbers(folds)}
    body = (
        (fold_name(k), size, len(folds.train_rows(k)) if k >= 0 else "")
        for k, size in sizes.items()
    )
    report.add(*table(("fold", "validated rows", "training rows"), body))
    validated = [size for k, size in sizes.items() if k >= 0]
    if max(validated) > 1.5 * min(validated):
        report.finding(f"uneven folds: {min(validated)} to {max(validated)} rows (large groups)")
    largest = int(np.bincount(folds.groups).max())
    if largest > len(folds.ids) / folds.n_folds:
        report.finding(f"the largest group holds {largest} of {len(folds.ids)} rows")


def _exact_duplicates(report: Report, competition: Competition, exact: np.ndarray) -> None:
    report.add("## Equal texts in train")
    raw = _repeats(exact_groups(competition.train_keys))
    same = _repeats(exact)
    report.finding(
        f"equal texts: {raw[1]} rows repeat an earlier text letter by letter ({raw[0]} texts), "
        f"{same[1]} after normalisation ({same[0]} texts)"
    )
    report.add("Normalisation: HTML entities, NFKC, case, white space; every URL counts as equal.")
    _examples(report, competition, _largest(exact))


def _near_duplicates(
    report: Report,
    competition: Competition,
    folds: Folds,
    exact: np.ndarray,
    duplicates: np.ndarray,
) -> None:
    report.add("## Near duplicates in train")
    _, first = np.unique(exact, return_index=True)
    joined, repeated = _repeats(duplicates[first])
    rows = int((np.bincount(duplicates)[duplicates] > 1).sum())
    report.finding(
        f"near duplicates: {joined + repeated} different texts form {joined} groups; "
        f"{rows} rows have an equal or near twin"
    )
    group_of_first = np.full(len(exact), -1, dtype=np.int64)
    group_of_first[first] = duplicates[first]
    _examples(report, competition, _largest(group_of_first))
    crossing = _crossing(folds.fold, duplicates)
    where = "by the order of time" if folds.scheme == "time" else "THIS IS A LEAK"
    told = f"{crossing} duplicate groups stand in more than one fold, {where}"
    report.finding(told if crossing else "no duplicate group stands in more than one fold")


def _conflicts(report: Report, competition: Competition, exact: np.ndarray) -> None:
    """Equal texts with different labels, or the spread of their target values."""
    report.add("## Equal texts with different targets")
    y = competition.y
    if competition.answered:
        y = pd.factorize(np.array([answer.text for answer in y], dtype=object))[0]
    spread = _spread(y, exact)
    differing = spread[spread > 0]
    raw = _spread(y, exact_groups(competition.train_keys))
    rows = int(np.isin(exact, differing.index).sum())
    line = (
        f"conflicting targets: {int((raw > 0).sum())} texts equal letter by letter, "
        f"{len(differing)} after normalisation ({rows} rows)"
    )
    if competition.task.truth == "values" and len(differing):
        line += f"; largest spread {differing.max():.4g}"
    report.finding(line)
    wide = differing.nlargest(EXAMPLES).index
    _examples(report, competition, (np.flatnonzero(exact == group) for group in wide))


def _spread(y: np.ndarray, groups: np.ndarray) -> pd.Series:
    """Largest difference within each group, of the target that differs most."""
    by_group = pd.DataFrame(y.reshape(len(y), -1)).groupby(groups)
    return (by_group.max() - by_group.min()).max(axis=1)


def _shared_sentences(report: Report, competition: Competition, folds: Folds) -> None:
    """Texts of pairs that are trained on in one pair and validated in another."""
    if not competition.train_pairs or competition.answered:
        return
    report.add("## Texts that stand in several pairs")
    count, n_texts, rows = crossing(competition.train_pairs, folds.fold)
    advice = "; pair_groups = true keeps their pairs in one fold" if count else ""
    report.finding(
        f"texts of pairs in more than one fold: {count} of {n_texts} different texts, in {rows} "
        f"rows{advice}"
    )


def _in_test(report: Report, competition: Competition, normalised: list[str]) -> None:
    report.add("## Texts that stand in test as well")
    test = [normalise(text) for text in competition.test_keys]
    raw_train, raw_test = _shared(competition.train_keys, competition.test_keys)
    same_train, same_test = _shared(normalised, test)
    report.finding(
        f"train and test share texts: {len(raw_train)} train and {len(raw_test)} test rows "
        f"letter by letter, {len(same_train)} and {len(same_test)} after normalisation"
    )
    if not same_train:
        return
    report.add("A model trained on these rows has seen the test rows; their labels may be copied.")
    partners: dict[str, list[str]] = {}
    for row in same_test:
        partners.setdefault(test[row], []).append(str(competition.test_ids[row]))
    shown = list({normalised[row]: row for row in reversed(same_train)}.items())[-EXAMPLES:]
    body = []
    for text, row in reversed(shown):
        cells = (competition.train_ids[row], _target(competition, row))
        ids = ", ".join(partners[text][:3]) + (", ..." if len(partners[text]) > 3 else "")
        body.append((*cells, ids, shorten(competition.train_texts[row])))
    report.add(*table(("train id", _target_name(competition), "test ids", "text"), body))


def _lengths(report: Report, competition: Competition, folds: Folds) -> None:
    report.add("## Text length in characters")
    train = np.array([len(text) for text in competition.train_texts])
    test = np.array([len(text) for text in competition.test_texts])
    named = [(fold_name(k), train[folds.fold == k]) for k in fold_numbers(folds)]
    body = []
    for name, lengths in [*named, ("train", train), ("test", test)]:
        quantiles = np.quantile(lengths, [0, 0.05, 0.5, 0.95, 1])
        body.append((name, *(f"{value:.0f}" for value in quantiles)))
    report.add(*table(("fold", "shortest", "5 %", "median", "95 %", "longest"), body))


def _repeats(groups: np.ndarray) -> tuple[int, int]:
    """Groups with several rows, and the rows in them beyond the first of each."""
    sizes = np.bincount(groups)
    return int((sizes > 1).sum()), int((sizes[sizes > 1] - 1).sum())


def _largest(groups: np.ndarray) -> list[np.ndarray]:
    """Rows of the largest groups with several rows; group -1 is left out."""
    sizes = np.bincount(groups[groups >= 0])
    numbers = np.argsort(-sizes, kind="stable")[:EXAMPLES]
    return [np.flatnonzero(groups == number) for number in numbers if sizes[number] > 1]


def _crossing(fold: np.ndarray, groups: np.ndarray) -> int:
    width = int(fold.max()) + 2  # folds start at -1
    pairs = np.unique(groups * width + fold + 1)
    return int((np.bincount(pairs // width) > 1).sum())


def _shared(left: list[str], right: list[str]) -> tuple[list[int], list[int]]:
    """Rows of each side whose text stands on the other side; empty texts do not count."""
    in_left, in_right = set(left), set(right)
    return (
        [row for row, text in enumerate(left) if text.strip() and text in in_right],
        [row for row, text in enumerate(right) if text.strip() and text in in_left],
    )


def _examples(report: Report, competition: Competition, groups: Iterable[Iterable[int]]) -> None:
    """A table of rows: one block per group, at most two different rows of each."""
    body = []
    for rows in groups:
        shown = list(rows)
        for row in shown[:2]:
            body.append((competition.train_ids[row], _target(competition, row), len(shown),
                         shorten(competition.train_texts[row])))  # fmt: skip
    if body:
        report.add(*table(("id", _target_name(competition), "rows", "text"), body))


def _target_name(competition: Competition) -> str:
    return "targets" if competition.task.several else competition.task.targets[0]


def _target(competition: Competition, row: int) -> str:
    task, y = competition.task, competition.y[row]
    if task.truth == "class":
        return task.labels[y]
    if task.truth == "answer":
        return y.text
    if task.truth == "labels":
        return ", ".join(n for n, there in zip(task.outputs, y, strict=True) if there) or "none"
    return ", ".join(f"{value:.4g}" for value in y)
