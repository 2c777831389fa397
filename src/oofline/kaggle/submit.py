"""``oofline submit``: the file, or the pushed kernel's output, goes to Kaggle and is scored."""

from typing import Any

from oofline.errors import ConfigError, DataError
from oofline.kaggle.client import CallFailedError, Client
from oofline.kaggle.ledger import (
    COMPLETE,
    ERROR,
    PENDING,
    SENDING,
    add_row,
    change_row,
    read_ledger,
    sent_today,
)  # fmt: skip
from oofline.kaggle.parcel import OUTPUT, Parcel, fetch_output, make_parcel
from oofline.kaggle.push import command
from oofline.kaggle.submissions import (
    cells_of,
    competition_facts,
    find,
    known_limit,
    left_today,
    listed,
    refresh,
)  # fmt: skip
from oofline.progress import say
from oofline.scoring.stored import stored_folder
from oofline.storage import Paths, read_json, sha256_of

LOOKS_FOR_NEW = 10
"""A submission that Kaggle has just taken may be missing from its list for so many looks."""


def slug_of(cfg: Any, paths: Paths) -> str:
    """Name of the competition on Kaggle."""
    return cfg.kaggle_slug or paths.comp


def run_submit(options: Any, paths: Paths) -> None:
    """``oofline submit``."""
    name, slug = options.cfg.exp, slug_of(options.cfg, paths)
    scores = read_json(stored_folder(paths, name) / "scores.json")
    message = " ".join(options.msg.split()) or f"{name} OOF {scores['metric']} {scores['score']}"
    if options.dry_run:
        parcel = make_parcel(paths, name, message, _dry_way(options.way, paths))
        for line in submit_commands(parcel, slug):
            print(line)
        say("nothing was sent (dry run): these are the calls that submit makes")
        return
    client = Client(options.poll_seconds, slug)
    facts = competition_facts(client, paths, slug)
    _check_open(facts, slug)
    way = options.way if options.way != "auto" else "kernel" if facts["code_only"] else "file"
    parcel = make_parcel(paths, name, message, way)
    if parcel.kernel:
        parcel = fetch_output(client, paths, parcel)
    refresh(client, paths, slug)
    _check_new(paths, parcel, options.again)
    _check_limit(client, paths, slug)
    time = _send(client, paths, slug, parcel, scores)
    _finish(client, paths, slug, time, options)


def _dry_way(way: str, paths: Paths) -> str:
    """Without asking Kaggle: the kernel where one was pushed."""
    pushed = (paths.output / "kernel" / "pushed.json").is_file()
    return way if way != "auto" else "kernel" if pushed else "file"


def _check_open(facts: dict[str, Any], slug: str) -> None:
    page = f"https://www.kaggle.com/competitions/{slug}"
    if facts["closed"]:
        raise ConfigError(f"{slug} takes no submissions any more: see {page}")
    if not facts["entered"]:
        raise ConfigError(f"you have not joined {slug}: accept its rules at {page}/rules")


def _check_new(paths: Paths, parcel: Parcel, again: bool) -> None:
    """Refuse a file that was submitted before, unless that is wanted."""
    assert parcel.file is not None
    frame = read_ledger(paths)
    same = frame[(frame["file_sha256"] == sha256_of(parcel.file)) & (frame["status"] != ERROR)]
    if len(same) and not again:
        row = same.iloc[-1]
        score = f", public score {row['public_score']}" if row["public_score"] else ""
        raise ConfigError(
            f"this very file was submitted at {row['time']} as {row['name']} ({row['status']}"
            f"{score}): ARGS=--again sends it once more"
        )


def _check_limit(client: Client, paths: Paths, slug: str) -> None:
    """Warn at the last submission of the day, refuse after it."""
    left, limit, sent = left_today(client, slug), known_limit(paths), sent_today(read_ledger(paths))
    if left == 0:
        raise ConfigError(
            f"{slug} takes no more submissions today (limit {limit}; the day ends at 00:00 UTC)"
        )
    if left == 1:
        say("warning: this is the last submission of the day (it ends at 00:00 UTC)")
    if left is None and sent >= limit - 1:
        say(f"warning: {sent} submissions today stand in the ledger, the limit is {limit} a day")


def _send(client: Client, paths: Paths, slug: str, parcel: Parcel, scores: dict[str, Any]) -> str:
    """Submit, with a row in the ledger from before the first byte; returns the row's time."""
    assert parcel.file is not None
    ensemble = "members" in scores
    lo, hi = scores["ci95"]
    time = add_row(
        paths, name=parcel.name, kind="ensemble" if ensemble else "experiment",
        oof_metric=scores["metric"], oof_score=scores["score"], oof_lo=lo, oof_hi=hi,
        message=parcel.message, commit=parcel.commit, manifest=parcel.manifest,
        file_sha256=sha256_of(parcel.file), status=SENDING,
    )  # fmt: skip
    what = f"submission of {parcel.kernel or parcel.file.name} to {slug}"
    say(what)
    try:
        if parcel.kernel:
            answer = client.act(
                what, "competition_submit_code", OUTPUT, parcel.message, slug, parcel.kernel,
                parcel.version, client.quiet,
            )  # fmt: skip
        else:
            answer = client.act(
                what, "competition_submit", str(parcel.file), parcel.message, slug, client.quiet
            )
    except CallFailedError as failure:
        if not failure.unclear:
            change_row(paths, time, status=ERROR)
            raise
        say(f"{failure}; looking whether Kaggle has taken it")
        return time
    if str(answer.message or "").startswith("Could not submit"):
        change_row(paths, time, status=ERROR)
        raise DataError(f"{what}: the upload failed; the same command tries again")
    change_row(paths, time, status=PENDING, ref=getattr(answer, "ref", None) or None)
    return time


def _finish(client: Client, paths: Paths, slug: str, time: str, options: Any) -> None:
    """Look whether Kaggle lists the submission, and wait for its score."""
    looks = 0

    def look() -> tuple[str, Any | None]:
        """State, and the submission once it is scored (or listed, where nobody waits)."""
        nonlocal looks
        frame = read_ledger(paths)
        row = frame[frame["time"] == time].to_dict("records")[0]
        found = find(listed(client, slug), row, set(frame["ref"]) - {"", row["ref"]})
        looks += 1
        if found is None:
            if looks >= LOOKS_FOR_NEW:
                change_row(paths, time, status=ERROR)
                raise DataError(
                    f"Kaggle lists no submission {row['message']!r} to {slug}: it was not taken; "
                    "the same command tries again"
                )
            return "not listed yet", None
        cells = cells_of(found)
        change_row(paths, time, **cells)
        over = cells["status"] in (COMPLETE, ERROR) or not options.wait
        return cells["status"], found if over else None

    found = client.wait(f"public score of {slug}", look, options.cfg.time_limit_hours)
    frame = read_ledger(paths)
    row = frame[frame["time"] == time].to_dict("records")[0]
    if row["status"] == ERROR:
        raise DataError(
            f"Kaggle could not score submission {found.ref}: "
            f"{' '.join((found.error_description or 'no reason given').split())}"
        )
    score = row["public_score"] or "(none yet)"
    if row["status"] == PENDING:
        score = f"pending (make ledger COMP={paths.comp} asks again)"
    say(
        f"{row['name']}: public {row['oof_metric']} {score}, OOF {float(row['oof_score']):.5f} "
        f"(95 % {float(row['oof_lo']):.5f} .. {float(row['oof_hi']):.5f}); open "
        f"{paths.output / 'ledger.csv'}, or make compare COMP={paths.comp}"
    )


def submit_commands(parcel: Parcel, slug: str) -> list[str]:
    """The calls of a submission as commands of Kaggle's client."""
    send = ["competitions", "submit", slug, "-m", parcel.message]
    if parcel.kernel:
        name = f"{parcel.kernel}/{parcel.version}"
        folder = "output"
        return [
            command("kernels", "output", name, "-p", folder, "--file-pattern", f"^{OUTPUT}$"),
            command("competitions", "submission-limits", slug),
            command(*send, "-f", OUTPUT, "-k", parcel.kernel, "-v", str(parcel.version)),
            f"{command('competitions', 'submissions', slug)}  # until scored",
        ]
    return [
        command("competitions", "submission-limits", slug),
        command(*send, "-f", str(parcel.file)),
        f"{command('competitions', 'submissions', slug)}  # until scored",
    ]
