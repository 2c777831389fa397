"""``oofline ledger``: pending scores asked for, every submission shown."""

from typing import Any

from oofline.kaggle.client import Client
from oofline.kaggle.ledger import ledger_path, sent_today
from oofline.kaggle.submissions import known_limit, refresh
from oofline.kaggle.submit import slug_of
from oofline.progress import say
from oofline.report.agreement import show_table
from oofline.storage import Paths


def run_ledger(options: Any, paths: Paths) -> None:
    """``oofline ledger``."""
    slug = slug_of(options.cfg, paths)
    if not ledger_path(paths).is_file():
        say(f"{paths.comp} has no submissions yet: make submit COMP={paths.comp} EXP=... MSG=...")
        return
    frame = refresh(Client(options.poll_seconds, slug), paths, slug)
    show_table(paths.comp, frame, sent_today(frame), known_limit(paths))
    say(f"open {ledger_path(paths)}, or make compare COMP={paths.comp} for OOF against public")
