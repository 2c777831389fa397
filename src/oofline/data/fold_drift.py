"""Do the targets of the folds look alike?"""

import numpy as np
from scipy.stats import chi2_contingency, ks_2samp

from oofline.data.competition import Competition
from oofline.data.markdown import Report, table
from oofline.data.splits import Folds

DRIFT_P = 0.01
"""p-values below this are called drift."""


def add_drift(report: Report, competition: Competition, folds: Folds) -> None:
    """Targets by fold, with a test for drift; of answers their lengths.

    Classes: one chi-squared test of their shares. Several labels: one for each label. Values:
    Kolmogorov-Smirnov tests of each fold, and target, against the rest. The smallest p-value of
    several tests is multiplied by their number (Bonferroni).
    """
    report.add("## Target by fold")
    how = {
        "class": _class_drift, "labels": _label_drift, "values": _value_drift,
        "answer": _length_drift,
    }  # fmt: skip
    how[competition.task.truth](report, competition, folds)


def _class_drift(report: Report, competition: Competition, folds: Folds) -> None:
    labels = competition.task.labels
    numbers = fold_numbers(folds)
    counts = np.array(
        [np.bincount(competition.y[folds.fold == k], minlength=len(labels)) for k in numbers]
    )
    p = chi2_contingency(counts).pvalue
    _say_drift(report, f"class shares across folds: chi-squared p = {p:.3g}", p)
    _add_shares(report, numbers, labels, counts / counts.sum(axis=1, keepdims=True))


def _label_drift(report: Report, competition: Competition, folds: Folds) -> None:
    names, numbers = competition.task.outputs, fold_numbers(folds)
    sizes = np.array([(folds.fold == k).sum() for k in numbers])
    counts = np.array([competition.y[folds.fold == k].sum(axis=0) for k in numbers])
    tables = [np.stack([there, sizes - there]) for there in counts.T]
    p_values = [chi2_contingency(t).pvalue for t in tables if (t.sum(axis=1) > 0).all()]
    p = min(1.0, min(p_values, default=1.0) * len(p_values))
    text = f"label shares across folds: smallest chi-squared p = {p:.3g} (Bonferroni)"
    _say_drift(report, text, p)
    _add_shares(report, numbers, names, counts / sizes[:, None])
    for index, k in enumerate(numbers):
        absent = [n for n, c in zip(names, counts[index], strict=True) if c in (0, sizes[index])]
        if absent and k >= 0:
            report.finding(
                f"fold {k} has one value only of label {', '.join(absent)}: left out of that "
                "fold's AUC"
            )


def _add_shares(
    report: Report, numbers: list[int], names: tuple[str, ...], shares: np.ndarray
) -> None:
    body = (
        (fold_name(k), *(f"{share:.2%}" for share in row))
        for k, row in zip(numbers, shares, strict=True)
    )
    report.add(*table(("fold", *names), body))


def _value_drift(report: Report, competition: Competition, folds: Folds) -> None:
    _drift_of_values(report, folds, competition.task.targets, competition.y)


def _length_drift(report: Report, competition: Competition, folds: Folds) -> None:
    """Characters of the answers."""
    lengths = np.array([[float(len(answer.text))] for answer in competition.y])
    _drift_of_values(report, folds, ("answer length",), lengths)


def _drift_of_values(
    report: Report, folds: Folds, names: tuple[str, ...], values: np.ndarray
) -> None:
    body, p_values = [], []
    for name, y in zip(names, values.T, strict=True):
        for k in fold_numbers(folds):
            inside, outside = y[folds.fold == k], y[folds.fold != k]
            p_values.append(ks_2samp(inside, outside, method="asymp").pvalue)
            row = (len(inside), inside.mean(), inside.std(), p_values[-1])
            about = (name,) if len(names) > 1 else ()
            cells = (f"{value:.4g}" for value in row[1:])
            body.append((*about, fold_name(k), row[0], *cells))
    p = min(1.0, min(p_values) * len(p_values))
    text = f"target across folds: smallest Kolmogorov-Smirnov p = {p:.3g} (Bonferroni)"
    _say_drift(report, text, p)
    head = ("fold", "rows", "mean", "std", "KS p against the rest")
    report.add(*table(("target", *head) if len(names) > 1 else head, body))


def _say_drift(report: Report, text: str, p: float) -> None:
    verdict = "DRIFT: folds differ" if p < DRIFT_P else "no drift shown"
    report.finding(f"{text}, {verdict}")


def fold_numbers(folds: Folds) -> list[int]:
    """The folds, ascending; -1 = only trained on."""
    return [int(k) for k in np.unique(folds.fold)]


def fold_name(fold: int) -> str:
    """How a table calls a fold."""
    return str(fold) if fold >= 0 else "only trained on"
