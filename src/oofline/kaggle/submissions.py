"""Submissions as Kaggle lists them, and the ledger's open rows completed from that list."""

import datetime
from typing import Any

import pandas as pd

from oofline.kaggle.client import CallFailedError, Client
from oofline.kaggle.ledger import COMPLETE, ERROR, OPEN, PENDING, change_row, read_ledger
from oofline.progress import say
from oofline.storage import Paths, read_json, write_json

PAGE = 100
"""Submissions asked for at once, the newest; enough for weeks."""
CLOCKS = datetime.timedelta(minutes=10)
"""How far this machine's clock may be behind or before Kaggle's."""
DAILY_LIMIT = 5
"""Submissions a day where the competition's own limit is not known."""


def listed(client: Client, slug: str) -> list[Any]:
    """This account's newest submissions to a competition, newest first."""
    found = client.ask(f"submissions to {slug}", "competition_submissions", slug, page_size=PAGE)
    return [submission for submission in found or [] if submission is not None]


def find(submissions: list[Any], row: dict[Any, Any], taken: set[str]) -> Any | None:
    """The submission that a row of the ledger is about; None where it is not listed.

    By Kaggle's number, or, where the command was killed before it knew that, by message and time.

    Args:
        submissions: from `listed`.
        row: of the ledger.
        taken: numbers that belong to other rows.
    """
    if row["ref"]:
        return next((s for s in submissions if str(s.ref) == row["ref"]), None)
    sent = datetime.datetime.fromisoformat(row["time"]).replace(tzinfo=None)
    fitting = [
        s for s in submissions
        if str(s.ref) not in taken
        and " ".join((s.description or "").split()) == row["message"]
        and s.date is not None
        and s.date.replace(tzinfo=None) >= sent - CLOCKS
    ]  # fmt: skip
    return fitting[-1] if fitting else None  # the first one after it was sent


def cells_of(submission: Any) -> dict[str, str]:
    """What a listed submission says, as cells of the ledger."""
    state = submission.status.name.lower()
    status = state if state in (COMPLETE, ERROR) else PENDING
    return {
        "ref": str(submission.ref), "status": status,
        "public_score": submission.public_score or "" if status == COMPLETE else "",
    }  # fmt: skip


def refresh(client: Client, paths: Paths, slug: str) -> pd.DataFrame:
    """Complete the ledger's open rows; returns the ledger.

    A row that was being sent when its command was killed becomes "error" if Kaggle has no such
    submission.
    """
    frame = read_ledger(paths)
    rows = frame[frame["status"].isin(OPEN)].to_dict("records")
    if not rows:
        return frame
    submissions, taken = listed(client, slug), set(frame["ref"]) - {""}
    for row in rows:
        submission = find(submissions, row, taken)
        if submission is not None:
            taken.add(str(submission.ref))
            change_row(paths, row["time"], **cells_of(submission))
        elif not row["ref"]:
            change_row(paths, row["time"], status=ERROR)
    done = read_ledger(paths)
    left = int(done["status"].isin(OPEN).sum())
    say(f"ledger: {len(rows) - left} of {len(rows)} open rows completed")
    return done


def competition_facts(client: Client, paths: Paths, slug: str) -> dict[str, Any]:
    """What Kaggle says about a competition, kept in output/<comp>/competition.json.

    Returns:
        ``slug``, ``code_only`` (takes notebooks alone), ``daily_limit``, ``entered`` (rules
        accepted), ``closed`` (takes no submissions).
    """

    def get(api: Any) -> Any:
        """The competition's description."""
        from kagglesdk.competitions.types.competition_api_service import ApiGetCompetitionRequest

        request = ApiGetCompetitionRequest()
        request.competition_name = slug
        with api.build_kaggle_client() as kaggle:
            return kaggle.competitions.competition_api_client.get_competition(request)

    answer = client.ask(f"competition {slug}", get)
    facts = {
        "slug": slug,
        "code_only": bool(answer.is_kernels_submissions_only),
        "daily_limit": int(answer.max_daily_submissions or 0) or DAILY_LIMIT,
        "entered": bool(answer.user_has_entered),
        "closed": bool(answer.submissions_disabled),
    }
    write_json(paths.output / "competition.json", facts)
    return facts


def known_limit(paths: Paths) -> int:
    """Submissions a day: the competition's, where Kaggle was asked before, or `DAILY_LIMIT`."""
    path = paths.output / "competition.json"
    return int(read_json(path)["daily_limit"]) if path.exists() else DAILY_LIMIT


def left_today(client: Client, slug: str) -> int | None:
    """Submissions that Kaggle still takes today; None where it does not say."""
    try:
        limits = client.ask(
            f"submission limit of {slug}", "competition_get_submission_limits", slug
        )
    except CallFailedError as failure:
        if failure.status != 404:
            raise
        return None
    return int(limits.num_allowed_now)
