"""The whole way, in the order of calls: push, submit as a code competition, and a file."""

import numpy as np
import pandas as pd

from oofline.kaggle.submission import make_submission
from oofline.results import Task, prediction_frame
from oofline.storage import write_json

TASK = Task("binary", ("target",), ("0", "1"), ("target",), "f1", "label")


def steps(service, title, record):
    """Names of the calls since the last look, repeated ones once; whole they go to the record."""
    record += [f"\n{title}", *(f"  {line}" for line in service.lines())]
    names = service.names()
    service.calls.clear()
    return [name for i, name in enumerate(names) if i == 0 or names[i - 1] != name]


def test_the_sequence_of_calls(oofline, service, kernel, paths):
    ids, record = np.array(["1", "2"]), []
    folder = paths.experiment("base")
    folder.mkdir(parents=True)
    prediction_frame(TASK, ids, 42, -1, pred=np.array([[0.9], [0.1]])).to_parquet(
        folder / "test.parquet"
    )
    scores = {"metric": "f1", "score": 0.58, "seeds": [42], "ci95": [0.56, 0.60], "threshold": 0.5}
    write_json(folder / "scores.json", scores)
    make_submission(paths, TASK, pd.DataFrame({"id": ids, "target": "0"}), "id", "base")
    kernel()
    found = service.add_competition("toy", code_only=True)
    looks = ["GetDatasetStatus", "GetDataset"] * (service.looks + 1)

    assert oofline("kernel-push", "--poll-seconds", "0")[0] == 0
    upload = ["StartBlobUpload", "Upload"] * 2
    dataset = ["GetDatasetStatus", *upload, "CreateDataset", *looks]
    expected = [
        *dataset,
        *dataset,
        "GetKernel",
        "SaveKernel",
        "GetKernelSessionStatus",
        "GetKernel",
    ]
    assert steps(service, "kernel-push", record) == expected

    assert oofline("submit", "--poll-seconds", "0", "--msg", "by kernel")[0] == 0
    assert steps(service, "submit: the kernel's output", record) == [
        "GetCompetition", "GetKernel", "ListKernelSessionOutput", "Download",
        "GetSubmissionLimits", "CreateCodeSubmission", "ListSubmissions",
    ]  # fmt: skip

    found["code_only"] = False
    assert oofline("submit", "--poll-seconds", "0", "--msg", "by file")[0] == 0
    assert steps(service, "submit: a file", record) == [
        "GetCompetition", "GetSubmissionLimits", "StartSubmissionUpload", "Upload",
        "CreateSubmission", "ListSubmissions",
    ]  # fmt: skip
    print("\n".join(record))
