"""The kinds of task as a table, from the facts that the code works by."""

from oofline.tasks import KINDS, LOSSES, ORDINAL_LINKS, PAIR, Kind


def tasks_markdown() -> str:
    """A Markdown table: how each kind is recognised, and its default loss, folds and metric."""
    lines = [
        "| task | recognised by | loss | folds | metric |",
        "|---|---|---|---|---|",
    ]
    for kind, facts in KINDS.items():
        metrics = [
            f"`{metric}`" + (f" ({_plural(asks)})" if len(facts.metrics) > 1 else "")
            for asks, metric in facts.metrics.items()
        ]
        cells = (facts.recognised, _losses(kind), f"`{facts.folds}`", ", ".join(metrics))
        lines.append(f"| {kind} | " + " | ".join(cells) + " |")
    rest = "as its target's | as its target's | as its target's"
    lines.append(f"| sentence pair, with any target | {PAIR} | {rest} |")
    return "\n".join(lines)


def _losses(kind: Kind) -> str:
    if kind != "ordinal":
        return f"`{LOSSES[KINDS[kind].link][0]}`"
    forms = (f'`{LOSSES[link][0]}` for `"{form}"`' for form, link in ORDINAL_LINKS.items())
    return "by `ordinal`: " + ", ".join(forms)


def _plural(asks: str) -> str:
    return {"label": "labels", "probability": "probabilities"}[asks]
