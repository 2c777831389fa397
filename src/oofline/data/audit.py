"""The leak audit: what in the data or the folds could make a score lie, with examples."""

from collections.abc import Iterable

import numpy as np
import pandas as pd
from scipy.stats import chi2_contingency, ks_2samp

from oofline.data.competition import Competition
from oofline.data.duplicates import exact_groups, normalise
from oofline.data.markdown import Report, shorten, table
from oofline.data.splits import Folds

EXAMPLES = 5
"""Examples shown of each finding."""
DRIFT_P = 0.01
"""p-values below this are called drift."""


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
    normalised = [normalise(text) for text in competition.train_texts]
    exact = exact_groups(normalised)
    report.add(f"# Folds of {competition.name}")
    _rows(report, competition, folds)
    _exact_duplicates(report, competition, exact)
    _near_duplicates(report, competition, folds, exact, duplicates)
    _conflicts(report, competition, exact)
    _in_test(report, competition, normalised)
    _drift(report, competition, folds)
    _lengths(report, competition, folds)
    return "\n".join(report.markdown), report.summary


def _rows(report: Report, competition: Competition, folds: Folds) -> None:
    report.finding(f"{folds.n_folds} folds, scheme {folds.scheme} ({folds.reason})")
    sizes = {k: len(folds.valid_rows(k)) for k in _fold_numbers(folds)}
    body = (
        (_fold_name(k), size, len(folds.train_rows(k)) if k >= 0 else "")
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
    raw = _repeats(exact_groups(competition.train_texts))
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
    y = competition.y if competition.y.ndim == 1 else competition.y[:, 0]
    spread = pd.Series(y).groupby(exact).agg(["min", "max", "size"])
    differing = spread[spread["max"] > spread["min"]]
    raw = pd.Series(y).groupby(exact_groups(competition.train_texts)).nunique()
    line = (
        f"conflicting targets: {int((raw > 1).sum())} texts equal letter by letter, "
        f"{len(differing)} after normalisation ({int(differing['size'].sum())} rows)"
    )
    if competition.task.kind == "regression" and len(differing):
        line += f"; largest spread {(differing['max'] - differing['min']).max():.4g}"
    report.finding(line)
    wide = (differing["max"] - differing["min"]).nlargest(EXAMPLES).index
    _examples(report, competition, (np.flatnonzero(exact == group) for group in wide))


def _in_test(report: Report, competition: Competition, normalised: list[str]) -> None:
    report.add("## Texts that stand in test as well")
    test = [normalise(text) for text in competition.test_texts]
    raw_train, raw_test = _shared(competition.train_texts, competition.test_texts)
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
    report.add(*table(("train id", competition.task.targets[0], "test ids", "text"), body))


def _drift(report: Report, competition: Competition, folds: Folds) -> None:
    report.add("## Target by fold")
    if competition.task.kind == "regression":
        _value_drift(report, competition.y[:, 0], folds)
    else:
        _class_drift(report, competition, folds)


def _class_drift(report: Report, competition: Competition, folds: Folds) -> None:
    labels = competition.task.labels
    numbers = _fold_numbers(folds)
    counts = np.array(
        [np.bincount(competition.y[folds.fold == k], minlength=len(labels)) for k in numbers]
    )
    p = chi2_contingency(counts).pvalue
    _say_drift(report, f"class shares across folds: chi-squared p = {p:.3g}", p)
    shares = counts / counts.sum(axis=1, keepdims=True)
    body = (
        (_fold_name(k), *(f"{share:.2%}" for share in row))
        for k, row in zip(numbers, shares, strict=True)
    )
    report.add(*table(("fold", *labels), body))


def _value_drift(report: Report, y: np.ndarray, folds: Folds) -> None:
    body, p_values = [], []
    for k in _fold_numbers(folds):
        inside, outside = y[folds.fold == k], y[folds.fold != k]
        p_values.append(ks_2samp(inside, outside, method="asymp").pvalue)
        row = (len(inside), inside.mean(), inside.std(), p_values[-1])
        body.append((_fold_name(k), row[0], *(f"{value:.4g}" for value in row[1:])))
    p = min(1.0, min(p_values) * len(p_values))
    text = f"target across folds: smallest Kolmogorov-Smirnov p = {p:.3g} (Bonferroni)"
    _say_drift(report, text, p)
    report.add(*table(("fold", "rows", "mean", "std", "KS p against the rest"), body))


def _say_drift(report: Report, text: str, p: float) -> None:
    verdict = "DRIFT: folds differ" if p < DRIFT_P else "no drift shown"
    report.finding(f"{text}, {verdict}")


def _lengths(report: Report, competition: Competition, folds: Folds) -> None:
    report.add("## Text length in characters")
    train = np.array([len(text) for text in competition.train_texts])
    test = np.array([len(text) for text in competition.test_texts])
    named = [(_fold_name(k), train[folds.fold == k]) for k in _fold_numbers(folds)]
    body = []
    for name, lengths in [*named, ("train", train), ("test", test)]:
        quantiles = np.quantile(lengths, [0, 0.05, 0.5, 0.95, 1])
        body.append((name, *(f"{value:.0f}" for value in quantiles)))
    report.add(*table(("fold", "shortest", "5 %", "median", "95 %", "longest"), body))


def _fold_numbers(folds: Folds) -> list[int]:
    return [int(k) for k in np.unique(folds.fold)]


def _fold_name(fold: int) -> str:
    return str(fold) if fold >= 0 else "only trained on"


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
        report.add(*table(("id", competition.task.targets[0], "rows", "text"), body))


def _target(competition: Competition, row: int) -> str:
    if competition.task.kind == "regression":
        return f"{competition.y[row, 0]:.4g}"
    return competition.task.labels[competition.y[row]]
