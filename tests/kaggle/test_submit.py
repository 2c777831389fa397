"""submit: what is sent, what the ledger holds at every step, and what Kaggle says in the end."""

import datetime
import os
import shlex
import signal
import subprocess
import sys

import numpy as np
import pandas as pd
import pytest

from oofline.kaggle.ledger import COLUMNS, add_row, change_row, read_ledger
from oofline.kaggle.submission import make_submission
from oofline.results import Task, prediction_frame
from oofline.storage import read_json, sha256_of, write_json

TASK = Task("binary", ("target",), ("0", "1"), ("target",), "f1", "label")
IDS = np.array(["1", "2", "3"])
SAMPLE = pd.DataFrame({"id": IDS, "target": "0"})


@pytest.fixture
def experiment(paths):
    """experiment(name, pred) -> a scored experiment and its submission.csv."""

    def make(name="base", pred=(0.9, 0.2, 0.8), submission=True):
        folder = paths.experiment(name)
        folder.mkdir(parents=True, exist_ok=True)
        block = np.array(pred)[:, None]
        prediction_frame(TASK, IDS, 42, -1, pred=block).to_parquet(folder / "test.parquet")
        scores = {"metric": "f1", "greater_is_better": True, "score": 0.58, "seeds": [42],
                  "ci95": [0.56, 0.60], "threshold": 0.5, "n_rows": 1000}  # fmt: skip
        write_json(folder / "scores.json", scores)
        if submission:
            make_submission(paths, TASK, SAMPLE, "id", name)

    return make


@pytest.fixture
def submit(oofline, service):
    return lambda *argv: oofline("submit", "--poll-seconds", "0", *argv)


def rows(paths):
    return read_ledger(paths).to_dict("records")


def one_line(err):
    assert len(err.strip().splitlines()) == 1
    assert err.startswith("oofline: ")
    return err


def test_the_file_goes_up_is_scored_and_noted(submit, experiment, paths, service):
    experiment()
    found = service.add_competition("toy")
    code, out, err = submit("--msg", "first  try")
    assert (code, err) == (0, "")
    (sent,) = found["submissions"]
    assert sent["data"] == paths.submission.read_bytes()
    assert (sent["fileName"], sent["description"]) == ("submission.csv", "first try")
    (row,) = rows(paths)
    assert list(row) == list(COLUMNS)
    assert row["time"].startswith(datetime.datetime.now(datetime.UTC).strftime("%Y-%m-"))
    assert (row["name"], row["kind"], row["oof_metric"]) == ("base", "experiment", "f1")
    assert (row["oof_score"], row["oof_lo"], row["oof_hi"]) == ("0.58", "0.56", "0.6")
    assert (row["public_score"], row["status"], row["ref"]) == ("0.57204", "complete", "1000")
    assert (row["message"], row["manifest"]) == ("first try", "")
    assert row["file_sha256"] == sha256_of(paths.submission)
    assert "base: public f1 0.57204, OOF 0.58000 (95 % 0.56000 .. 0.60000)" in out
    assert "make compare COMP=toy" in out.splitlines()[-1]


def test_a_code_competition_takes_the_kernels_output(
    submit, oofline, experiment, kernel, paths, service
):
    experiment()
    folder = kernel()
    found = service.add_competition("toy", code_only=True)
    code, _, err = submit()
    assert (code, "has not run on Kaggle: make kernel kernel-rehearse kernel-push" in err) == (
        2,
        True,
    )
    assert oofline("kernel-push", "--poll-seconds", "0")[0] == 0
    service.outputs["big.bin"] = b"0" * 100
    assert submit()[0] == 0
    assert "big.bin" not in [about for name, about, _ in service.calls if name == "Download"]
    (sent,) = found["submissions"]
    assert sent["data"] == service.outputs["submission.csv"]
    (about,) = [about for name, about, _ in service.calls if name == "CreateCodeSubmission"]
    for part in ("kernelOwner=me", "kernelSlug=toy-base", "kernelVersion=1", "fileName=submission"):
        assert part in about
    (row,) = rows(paths)
    assert (row["manifest"], row["commit"]) == (sha256_of(folder / "manifest.json"), "c0ffee")
    assert row["file_sha256"] == sha256_of(paths.output / "kernel-output" / "submission.csv")
    assert row["message"] == "base OOF f1 0.58"


def test_a_kernel_of_something_else_or_without_output(submit, oofline, experiment, kernel, service):
    experiment()
    experiment("awp")
    kernel()
    service.add_competition("toy", code_only=True)
    oofline("kernel-push", "--poll-seconds", "0")
    assert "predicts 'base', not 'awp'" in one_line(submit("--exp", "awp")[2])
    service.outputs = {"other.csv": b"1"}
    assert "wrote no submission.csv" in one_line(submit()[2])
    service.kernels["me/toy-base"].append({})
    assert "has version 2 on Kaggle, pushed was version 1" in one_line(submit()[2])


@pytest.mark.parametrize(("spoil", "says"), [
    (lambda p, e: p.submission.unlink(), "submission.csv is not there: make submission"),
    (lambda p, e: p.submission.write_text("id,target\n1,1\n"), "was changed since it was made"),
    (lambda p, e: e("awp"), "was made from 'awp', not 'base'"),
    (lambda p, e: e("base", (0.1, 0.9, 0.1), False), "is older than the predictions of base"),
])  # fmt: skip
def test_a_file_that_is_not_of_this_experiment(submit, experiment, paths, service, spoil, says):
    experiment()
    spoil(paths, experiment)
    service.add_competition("toy")
    code, _, err = submit()
    assert (code, says in one_line(err)) == (2, True)
    assert rows(paths) == []
    assert service.count("CreateSubmission") == service.count("Upload") == 0


def test_an_experiment_that_is_not_there(submit, service):
    code, _, err = submit("--exp", "nothing")
    assert (code, "nothing" in one_line(err)) == (2, True)
    assert service.calls == []


def test_the_same_file_twice_is_asked_about(submit, experiment, paths, service):
    experiment()
    found = service.add_competition("toy")
    assert submit()[0] == 0
    code, _, err = submit()
    assert code == 2
    assert "this very file was submitted at" in one_line(err)
    assert "public score 0.57204" in err
    assert submit("--again")[0] == 0
    assert len(found["submissions"]) == len(rows(paths)) == 2


def test_without_waiting_the_row_is_completed_later(submit, oofline, experiment, paths, service):
    experiment()
    service.add_competition("toy")
    code, out, _ = submit("--no-wait")
    assert (code, "pending (make ledger COMP=toy asks again)" in out) == (0, True)
    (row,) = rows(paths)
    assert (row["status"], row["public_score"], row["ref"]) == ("pending", "", "1000")
    service.waiting.clear()
    code, out, _ = oofline("ledger", "--poll-seconds", "0")
    assert code == 0
    assert "1 of 1 open rows completed" in out
    assert "0.57204" in out
    assert rows(paths)[0]["status"] == "complete"


def test_a_later_submit_completes_earlier_rows(submit, experiment, paths, service):
    experiment()
    service.add_competition("toy")
    submit("--no-wait")
    service.waiting.clear()
    experiment(pred=(0.1, 0.9, 0.1))
    assert submit("--no-wait")[0] == 0
    assert [row["status"] for row in rows(paths)] == ["complete", "pending"]


def test_the_ledger_before_any_submission(oofline, service, paths):
    code, out, _ = oofline("ledger")
    assert (code, "no submissions yet: make submit COMP=toy" in out) == (0, True)
    assert service.calls == []


def test_slow_scoring_ends_with_the_time_limit(submit, experiment, paths, service):
    experiment()
    service.add_competition("toy")
    service.looks = 10**6
    code, _, err = submit("--time-limit-hours", "1e-9")
    assert code == 2
    assert "public score of toy is still pending" in one_line(err)
    assert rows(paths)[0]["status"] == "pending"


@pytest.mark.parametrize(("call", "status", "says"), [
    ("GetCompetition", 401, "does not accept your credentials"),
    ("GetCompetition", 404, "Kaggle knows no such thing"),
    ("CreateSubmission", 400, "400 no: read what it says"),
    ("CreateSubmission", 403, "accept its rules at https://www.kaggle.com/competitions/toy/rules"),
    ("StartSubmissionUpload", 404, "404 no"),
])  # fmt: skip
def test_a_refusal_is_one_line_and_can_be_tried_again(
    submit, experiment, paths, service, call, status, says
):
    experiment()
    service.add_competition("toy")
    service.fail(call, status, "no")
    code, _, err = submit()
    assert (code, says in one_line(err)) == (2, True)
    assert [row["status"] for row in rows(paths)] == ["error"] * (call != "GetCompetition")
    assert submit()[0] == 0


def test_rules_not_accepted_and_closed_competitions(submit, experiment, paths, service):
    experiment()
    found = service.add_competition("toy", entered=False)
    err = one_line(submit()[2])
    assert "you have not joined toy: accept its rules at https://www.kaggle.com/comp" in err
    found.update(entered=True, closed=True)
    assert "takes no submissions any more" in one_line(submit()[2])
    assert rows(paths) == []


def test_a_failed_upload_ends_normally_and_is_noticed(submit, experiment, paths, service):
    experiment()
    found = service.add_competition("toy")
    service.fail("Upload", 500)
    code, _, err = submit()
    assert (code, "the upload failed" in one_line(err)) == (2, True)
    assert found["submissions"] == []
    assert rows(paths)[0]["status"] == "error"
    assert submit()[0] == 0


def test_an_answer_that_got_lost_is_settled_by_the_list(submit, experiment, paths, service):
    experiment()
    found = service.add_competition("toy")
    service.fail("CreateSubmission", 500, done=True)
    code, out, _ = submit()
    assert (code, "looking whether Kaggle has taken it" in out) == (0, True)
    assert len(found["submissions"]) == 1
    assert [(r["status"], r["ref"]) for r in rows(paths)] == [("complete", "1000")]


def test_an_answer_without_a_submission_is_no_success(submit, experiment, paths, service):
    experiment()
    found = service.add_competition("toy")
    service._create_submission = lambda body: {"message": "Successfully submitted to Toy"}
    code, _, err = submit()
    assert (code, "lists no submission 'base OOF f1 0.58' to toy" in one_line(err)) == (2, True)
    assert found["submissions"] == []
    assert rows(paths)[0]["status"] == "error"


def test_a_submission_that_cannot_be_scored(submit, experiment, paths, service):
    experiment()
    service.add_competition("toy")["error"] = "Submission must have\n3263 rows"
    code, _, err = submit()
    assert (code, "could not score submission 1000: Submission must have 3263 rows" in err) == (
        2,
        True,
    )
    assert rows(paths)[0]["status"] == "error"


def test_the_daily_limit(submit, experiment, paths, service):
    experiment()
    service.add_competition("toy", limit=2)
    assert submit("--msg", "a")[0] == 0
    code, out, _ = submit("--msg", "b", "--again")
    assert (code, "warning: this is the last submission of the day" in out) == (0, True)
    code, _, err = submit("--msg", "c", "--again")
    assert (code, "takes no more submissions today (limit 2" in one_line(err)) == (2, True)
    assert len(rows(paths)) == 2


def test_the_daily_limit_where_kaggle_does_not_tell(submit, experiment, paths, service):
    experiment()
    service.add_competition("toy", limit=2)
    service.fail("GetSubmissionLimits", 404, times=5)
    submit("--msg", "a")
    code, out, _ = submit("--msg", "b", "--again")
    assert code == 0
    assert "warning: 1 submissions today stand in the ledger, the limit is 2 a day" in out


def test_too_many_calls(submit, experiment, paths, service):
    experiment()
    found = service.add_competition("toy")
    for call in ("GetCompetition", "CreateSubmission", "ListSubmissions"):
        service.fail(call, 429, times=2, Retry_After="0")
    assert submit()[0] == 0
    assert len(found["submissions"]) == 1


def test_dry_run(experiment, submit, paths, service, oofline, kernel):
    experiment()
    code, out, _ = submit("--dry-run", "--msg", "it's mine")
    assert code == 0
    commands = [shlex.split(line, comments=True) for line in out.splitlines() if "kaggle " in line]
    assert commands[1] == ["kaggle", "competitions", "submit", "toy", "-m", "it's mine", "-f",
                           str(paths.submission)]  # fmt: skip
    assert service.calls == []
    assert rows(paths) == []
    kernel()
    oofline("kernel-push", "--poll-seconds", "0")
    code, out, _ = submit("--dry-run", "--msg", "m")
    assert "kaggle competitions submit toy -m m -f submission.csv -k me/toy-base -v 1" in out


def test_killed_after_the_submission_was_made_the_row_is_found_again(
    submit, oofline, experiment, paths, service, tmp_path
):
    experiment()
    found = service.add_competition("toy")
    real, killed = service._create_submission, []

    def create(body):
        answer = real(body)
        os.kill(killed[0].pid, signal.SIGKILL)
        killed[0].wait()
        return answer

    service._create_submission = create
    command = [sys.executable, "-m", "oofline", "submit", "--comp", "toy", "--msg", "once"]
    env = os.environ | {"PYTHONPATH": ":".join(sys.path)}
    killed.append(subprocess.Popen(command, cwd=tmp_path, env=env, stdout=subprocess.DEVNULL))
    killed[0].wait()
    assert len(found["submissions"]) == 1
    assert [(r["status"], r["ref"]) for r in rows(paths)] == [("sending", "")]
    service._create_submission = real
    service.waiting.clear()
    assert oofline("ledger", "--poll-seconds", "0")[0] == 0
    assert [(r["status"], r["ref"]) for r in rows(paths)] == [("complete", "1000")]
    assert submit()[0] == 2  # the same file


def test_rows_keep_their_order_and_your_own_columns(paths):
    first = add_row(paths, name="base", message="line\nbreak, and comma", status="pending")
    frame = read_ledger(paths).assign(private="0.5")
    frame.to_csv(paths.output / "ledger.csv", index=False)
    second = add_row(paths, name="awp")
    assert first < second  # even within a second
    change_row(paths, first, status="complete", public_score=0.25)
    assert [(r["name"], r["message"], r["status"], r["public_score"], r["private"])
            for r in rows(paths)] == [
        ("base", "line break, and comma", "complete", "0.25", "0.5"), ("awp", "", "", "", ""),
    ]  # fmt: skip
    assert len((paths.output / "ledger.csv").read_text().splitlines()) == 3


def test_a_broken_ledger_is_not_overwritten(submit, experiment, paths, service):
    experiment()
    service.add_competition("toy")
    (paths.output / "ledger.csv").write_text("something,else\n1,2\n")
    code, _, err = submit()
    assert (code, "ledger.csv has no column time" in one_line(err)) == (2, True)
    assert service.count("CreateSubmission") == 0
    assert (paths.output / "ledger.csv").read_text() == "something,else\n1,2\n"


def test_what_kaggle_said_of_the_competition_is_kept(submit, experiment, paths, service):
    experiment()
    service.add_competition("toy", limit=3)
    submit()
    assert read_json(paths.output / "competition.json")["daily_limit"] == 3
