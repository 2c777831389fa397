"""kernel-push when uploads break, Kaggle refuses, is busy, slow or wrong, or the command is killed.

The client ends normally (exit code 0, no exception) in several of these; what counts is what the
service says afterwards.
"""

import os
import re
import subprocess
import sys

import pytest

from oofline.kaggle import client as client_module
from oofline.storage import read_json

NOW = ("--poll-seconds", "0")
CODE, WEIGHTS, KERNEL = "me/toy-base-code", "me/toy-base-weights", "me/toy-base"


@pytest.fixture
def push(oofline, service):
    return lambda *argv: oofline("kernel-push", *NOW, *argv)


def one_line(err):
    assert len(err.strip().splitlines()) == 1
    assert err.startswith("oofline: ")
    return err


def test_a_failed_upload_makes_no_dataset_that_lacks_a_file(push, kernel, service):
    kernel()
    service.fail("Upload", 500, times=1)
    code, _, err = push()
    assert code == 2
    assert "upload of code to dataset me/toy-base-code" in one_line(err)
    assert service.count("StartBlobUpload") <= 2  # not repeated by itself
    assert service.datasets == {}
    assert service.kernels == {}
    assert push()[0] == 0
    names = ["manifest.json", "wheels/oofline-0.1.0-py3-none-any.whl"]
    assert sorted(service.datasets[CODE][0]) == names


def test_an_upload_cut_in_the_middle_is_resumed(push, kernel, service):
    kernel()
    service.fail("Upload", 503, times=1)
    assert push()[0] == 0
    uploads = [(about, status) for name, about, status in service.calls if name == "Upload"]
    assert any("bytes */" in about and status == 308 for about, status in uploads)
    assert any(re.search(r"bytes [1-9][0-9]*-", about) for about, _ in uploads)
    assert service.datasets[CODE][0]["manifest.json"] == b"{}"


@pytest.mark.parametrize(("call", "status", "says"), [
    ("GetDatasetStatus", 401, "401 Unauthenticated: Kaggle does not accept your credentials"),
    ("CreateDataset", 403, "403 no: this account has no access to it"),
    ("SaveKernel", 403, "403 no: this account has no access to it"),
    ("SaveKernel", 404, "404 no: Kaggle knows no such thing"),
    ("SaveKernel", 400, "400 no: read what it says"),
    ("SaveKernel", 500, "500 no: Kaggle's side failed: try again later"),
    ("GetKernelSessionStatus", 401, "401 no: Kaggle does not accept"),
])  # fmt: skip
def test_a_refusal_is_one_line_and_the_next_push_goes_on(push, kernel, service, call, status, says):
    kernel()
    service.fail(call, status, "Unauthenticated" if call == "GetDatasetStatus" else "no")
    code, _, err = push()
    assert code == 2
    assert says in one_line(err)
    done = [len(versions) for versions in service.datasets.values()]
    assert push()[0] == 0
    assert [len(service.datasets[r]) for r in list(service.datasets)[: len(done)]] == done
    assert len(service.kernels[KERNEL]) == 1


def test_wrong_credentials(push, kernel, service, monkeypatch):
    kernel()
    monkeypatch.setenv("KAGGLE_KEY", "wrong")
    code, _, err = push()
    assert code == 2
    assert "401 Unauthenticated" in one_line(err)
    assert "https://www.kaggle.com/settings/api" in err


def test_no_credentials(kernel, tmp_path, service):
    kernel()
    env = {k: v for k, v in os.environ.items() if not k.startswith("KAGGLE_")} | {
        "KAGGLE_API_ENVIRONMENT": "LOCALHOST", "HOME": str(tmp_path),
        "PYTHONPATH": ":".join(sys.path),
    }  # fmt: skip
    done = subprocess.run(
        [sys.executable, "-m", "oofline", "kernel-push", "--comp", "toy"], cwd=tmp_path, env=env,
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 2
    assert "no valid credentials for Kaggle: make a token at" in one_line(done.stderr)
    assert "Authentication required" not in done.stdout
    assert service.calls == []


@pytest.mark.parametrize("call", [
    "GetDatasetStatus", "StartBlobUpload", "CreateDataset", "SaveKernel", "GetKernelSessionStatus",
])  # fmt: skip
def test_too_many_calls_are_repeated_when_the_service_says(push, kernel, service, call):
    kernel()
    service.fail(call, 429, "Too many requests", times=2, Retry_After="0")
    code, _, err = push()
    assert (code, err.startswith("oofline:")) == (0, False)
    refused = [status for name, _, status in service.calls if name == call][:2]
    assert refused == [429, 429]
    assert len(service.kernels[KERNEL]) == 1
    assert [len(v) for v in service.datasets.values()] == [1, 1]


def test_a_service_that_wants_an_hour_ends_the_command(push, kernel, service):
    kernel()
    service.fail("GetDatasetStatus", 429, "Too many requests", Retry_After="3600")
    code, _, err = push()
    assert code == 2
    assert "429 Too many requests: too many calls for now" in one_line(err)


def test_questions_are_repeated_while_the_service_fails(push, kernel, service):
    kernel()
    service.fail("GetDatasetStatus", 500, times=3)
    service.fail("GetKernelSessionStatus", 502, times=3)
    code, out, _ = push()
    assert code == 0
    assert "asking again in 0 s" in out
    service.fail("GetKernel", 500, times=client_module.ATTEMPTS)
    assert push("--again")[0] == 2


@pytest.mark.parametrize("call", ["CreateDataset", "SaveKernel"])
def test_an_answer_that_got_lost_is_settled_by_asking(push, kernel, service, call):
    kernel()
    service.fail(call, 500, "An internal server error occurred", done=True)
    code, out, _ = push()
    assert code == 0
    assert "going on" in out
    assert len(service.kernels[KERNEL]) == 1
    assert [len(v) for v in service.datasets.values()] == [1, 1]


def test_slow_processing_ends_with_the_time_limit_and_is_awaited_again(push, kernel, service):
    kernel()
    service.looks = 10**6
    code, _, err = push("--time-limit-hours", "1e-9")
    assert code == 2
    assert f"dataset {CODE} is still blobs_received after 1e-09 hours" in one_line(err)
    service.looks = 0
    service.waiting.clear()
    assert push()[0] == 0
    assert len(service.datasets[CODE]) == 1
    assert service.count("CreateDataset") == 2


def test_a_dataset_that_cannot_be_processed(push, kernel, service):
    kernel()
    service.broken_datasets.add(CODE)
    code, _, err = push()
    assert code == 2
    assert "could not process dataset me/toy-base-code (version 1 failed)" in one_line(err)
    assert service.kernels == {}
    service.broken_datasets.clear()
    assert push()[0] == 0
    assert len(service.datasets[CODE]) == 2


def test_an_error_text_with_a_normal_end_is_a_failure(push, kernel, service, monkeypatch):
    kernel()
    said = {"status": "Error", "error": "You are not allowed to create a dataset as this owner"}
    monkeypatch.setattr(service, "_create_dataset", lambda body: said)
    code, _, err = push()
    assert code == 2
    assert "Kaggle says: You are not allowed to create a dataset" in one_line(err)
    monkeypatch.undo()


@pytest.mark.parametrize(("answer", "says"), [
    ({"error": "Maximum weekly GPU quota reached"}, "Maximum weekly GPU quota reached"),
    ({"url": "https://www.kaggle.com/code/me/toy-base", "versionNumber": 1,
      "invalidDatasetSources": ["me/toy-base-code"]}, "does not know its datasets me/toy-"),
    ({"url": "https://www.kaggle.com/code/me/other", "versionNumber": 1}, "made it as me/other"),
    ({"url": "https://www.kaggle.com/code/me/toy-base", "versionNumber": 0}, "no new version"),
])  # fmt: skip
def test_a_push_that_only_looks_well(push, kernel, service, answer, says, monkeypatch):
    folder = kernel()
    monkeypatch.setattr(service, "_save_kernel", lambda body: answer, raising=True)
    code, _, err = push()
    assert code == 2
    assert says in one_line(err)
    assert "version" not in read_json(folder / "pushed.json")


def test_interrupted_while_the_kernel_runs_it_goes_on_waiting(push, kernel, service):
    folder = kernel()
    service.fail("GetKernelSessionStatus", 403, times=client_module.ATTEMPTS * 10)
    assert push()[0] == 2
    assert read_json(folder / "pushed.json")["status"] == "running"
    service.failures.clear()
    assert push()[0] == 0
    assert len(service.kernels[KERNEL]) == 1
    assert read_json(folder / "pushed.json")["version"] == 1


def test_a_newer_version_from_elsewhere_is_noticed(push, kernel, service):
    kernel()
    service.looks = 0
    real = service._get_kernel_session_status

    def other(body):
        service.kernels[KERNEL].append({})
        return real(body)

    service._get_kernel_session_status = other
    code, _, err = push()
    assert code == 2
    assert "has version 2 on Kaggle, pushed from elsewhere after version 1" in one_line(err)


def test_connections_are_kept_alive(service):
    import socket

    from urllib3.connection import HTTPConnection

    client_module.Client()
    connection = HTTPConnection("127.0.0.1", int(service.url.rpartition(":")[2]))
    connection.connect()
    assert connection.sock.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE) == 1
    connection.close()
