"""kernel-push: what Kaggle is asked for, in order, and what happens when it fails."""

import json
import shlex
import subprocess
import sys

import pytest

from oofline.storage import read_json, sha256_of, write_json

NOW = ("--poll-seconds", "0")
CODE, WEIGHTS, KERNEL = "me/toy-base-code", "me/toy-base-weights", "me/toy-base"


@pytest.fixture
def push(oofline, service):
    """push(...) -> (exit code, stdout, stderr)."""
    return lambda *argv: oofline("kernel-push", *NOW, *argv)


def test_datasets_are_created_awaited_and_mounted_and_the_kernel_runs(push, kernel, service):
    folder = kernel()
    code, out, err = push()
    assert (code, err) == (0, "")
    assert service.datasets[CODE] == [
        {"manifest.json": b"{}", "wheels/oofline-0.1.0-py3-none-any.whl": b"wheel" * 100}
    ]
    (files,) = service.datasets[WEIGHTS]
    assert files["output/toy/base/seed42/fold0/model.safetensors"] == b"weights" * 100
    (version,) = service.kernels[KERNEL]
    assert version["datasetDataSources"] == [CODE, WEIGHTS]
    assert version["competitionDataSources"] == ["toy"]
    assert version.get("enableInternet", False) is False
    assert version["enableGpu"] is True
    names = service.names()
    assert names.index("SaveKernel") > len(names) - 1 - names[::-1].index("GetDatasetStatus")
    assert service.count("GetKernelSessionStatus") == service.looks + 1
    pushed = read_json(folder / "pushed.json")
    assert (pushed["kernel"], pushed["version"], pushed["status"]) == (KERNEL, 1, "complete")
    assert pushed["manifest_sha256"] == sha256_of(folder / "manifest.json")
    assert {ref: d["version"] for ref, d in pushed["datasets"].items()} == {CODE: 1, WEIGHTS: 1}
    assert "kernel me/toy-base version 1: running" in out
    assert "make submit COMP=toy" in out.splitlines()[-1]


def test_a_second_push_of_the_same_build_sends_nothing(push, kernel, service):
    kernel()
    push()
    service.calls.clear()
    code, out, _ = push()
    assert code == 0
    assert service.calls == []
    assert "version 1 is this build and has run" in out
    assert push("--again")[0] == 0
    assert service.count("Upload") == service.count("CreateDatasetVersion") == 0
    assert len(service.kernels[KERNEL]) == 2


def test_only_the_dataset_that_changed_is_uploaded_again(push, kernel, service):
    kernel()
    push()
    kernel(content=b"others!")
    service.calls.clear()
    code, out, _ = push()
    assert code == 0
    assert f"dataset {CODE}: unchanged, version 1 is there" in out
    assert len(service.datasets[CODE]) == 1
    assert len(service.datasets[WEIGHTS]) == 2
    assert service.count("CreateDatasetVersion") == 1
    assert service.count("CreateDataset") == 0


def test_a_dataset_that_another_machine_changed_is_uploaded_again(push, kernel, service):
    kernel()
    push()
    service.datasets[CODE].append({"manifest.json": b"other"})
    assert push("--again")[0] == 0
    assert len(service.datasets[CODE]) == 3


def test_what_was_not_rehearsed_is_refused(push, kernel, service):
    folder = kernel(rehearsed=False)
    code, _, err = push()
    assert (code, len(err.splitlines())) == (2, 1)
    assert "never rehearsed: make kernel-rehearse COMP=toy" in err
    digest = sha256_of(folder / "manifest.json")
    write_json(folder / "rehearsal.json", {"manifest_sha256": digest, "passed": False})
    assert "failed: read rehearsal.md" in push()[2]
    write_json(folder / "rehearsal.json", {"manifest_sha256": "0" * 64, "passed": True})
    assert "was built again since its rehearsal" in push()[2]
    assert service.calls == []


def test_a_file_changed_after_the_rehearsal_is_refused(push, kernel, service):
    folder = kernel()
    (folder / "weights/output/toy/base/seed42/fold0/model.safetensors").write_bytes(b"swapped")
    code, _, err = push()
    assert code == 2
    assert "model.safetensors differs" in err
    assert "make kernel kernel-rehearse" in err
    assert service.calls == []


def test_without_a_kernel_it_says_how_to_build_one(push, paths, service):
    code, _, err = push()
    assert code == 2
    assert "make kernel kernel-rehearse COMP=toy" in err
    assert not paths.output.exists()


@pytest.mark.parametrize(("title", "says"), [
    ("Toy base!", None),
    ("災害 base", "becomes the slug 'zai-hai-base' on Kaggle, and not 'toy-base'"),
    ("!!!!!!", "becomes no slug at all"),
    ("Another name", "becomes the slug 'another-name'"),
])  # fmt: skip
def test_a_title_that_does_not_give_the_slug_is_refused(push, kernel, service, title, says):
    folder = kernel()
    path = folder / "notebook" / "kernel-metadata.json"
    write_json(path, read_json(path) | {"title": title})
    code, _, err = push()
    if says is None:
        assert code == 0
        return
    assert code == 2
    assert says in err
    assert service.calls == []


@pytest.mark.parametrize(("ref", "title", "says"), [
    ("toy-base-code", "Toy base code", "is not <your Kaggle name>/<slug>"),
    ("me/code", "Code", "has 4 characters, Kaggle wants 6 to 50"),
    ("me/" + "x" * 51, "x" * 51, "has 51 characters"),
])  # fmt: skip
def test_a_dataset_name_that_kaggle_refuses(push, kernel, service, ref, title, says):
    path = kernel() / "code" / "dataset-metadata.json"
    write_json(path, read_json(path) | {"id": ref, "title": title})
    code, _, err = push()
    assert (code, says in err) == (2, True)
    assert service.calls == []


def test_dry_run_prints_the_calls_and_needs_no_key(kernel, tmp_path, service):
    folder = kernel()
    before = sorted(folder.rglob("*"))
    code = (
        "import sys; from pathlib import Path; from oofline import cli\n"
        "code = cli.run(['kernel-push', '--comp', 'toy', '--dry-run'], Path())\n"
        "assert 'kaggle' not in sys.modules\n"
        "sys.exit(code)"
    )
    env = {"HOME": str(tmp_path), "PATH": "", "PYTHONPATH": ":".join(sys.path)}
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=tmp_path, env=env, capture_output=True, text=True,
        check=False,
    )  # fmt: skip
    assert (done.returncode, done.stderr) == (0, "")
    commands = [line for line in done.stdout.splitlines() if line.startswith("kaggle ")]
    assert [shlex.split(line)[1:3] for line in commands if "push" in line] == [["kernels", "push"]]
    assert any("datasets create -p output/toy/kernel/code --dir-mode zip" in c for c in commands)
    assert service.calls == []
    assert [p for p in sorted(folder.rglob("*")) if p not in before] == []


def test_the_printed_commands_make_the_same_calls_as_the_push(push, kernel, service):
    """The console's client, given what --dry-run prints, asks for the same as kernel-push."""
    from kaggle.cli import main

    kernel()
    assert push()[0] == 0
    own = changes(service)
    for state in (service.datasets, service.kernels, service.calls):
        state.clear()
    lines = [line for line in push("--dry-run")[1].splitlines() if line.startswith("kaggle ")]
    for line in lines:
        words = shlex.split(line, comments=True)
        if words[2] in ("create", "push"):
            with pytest.MonkeyPatch.context() as patch:
                patch.setattr(sys, "argv", words)
                main()
    assert changes(service) == own
    assert len(own) == 11


def changes(service):
    """What was sent to the service, without the times of the zip files."""
    kinds = ("StartBlobUpload", "Upload", "CreateDataset", "CreateDatasetVersion", "SaveKernel")
    sent = [(name, about.split(" lastModified")[0]) for name, about, _ in service.calls]
    return sorted(call for call in sent if call[0] in kinds)


def test_the_account_is_filled_in_where_the_build_did_not_know_it(push, kernel, service):
    folder = kernel()
    for path in folder.glob("*/*-metadata.json"):
        path.write_text(path.read_text().replace('"me/', '"INSERT_USERNAME_HERE/'))
    assert "kaggle datasets status INSERT_USERNAME_HERE/toy-base-code" in push("--dry-run")[1]
    assert push()[0] == 0
    assert sorted(service.datasets) == [CODE, WEIGHTS]
    assert service.kernels[KERNEL][0]["datasetDataSources"] == [CODE, WEIGHTS]
    assert read_json(folder / "pushed.json")["kernel"] == KERNEL


def test_a_failing_kernel_leaves_its_log(push, kernel, service):
    folder = kernel()
    service.outcome = ("ERROR", "Your notebook ran out of memory")
    pieces = [{"stream_name": "stdout", "time": i, "data": f"line {i}\n"} for i in range(40)]
    service.log = json.dumps(pieces)
    code, out, err = push()
    assert code == 2
    assert "me/toy-base version 1 failed on Kaggle: Your notebook ran out of memory" in err
    assert str(folder / "log.txt") in err
    assert (folder / "log.txt").read_text().splitlines() == [f"line {i}" for i in range(40)]
    assert "  | line 39" in out
    assert "line 24" not in out
    assert read_json(folder / "pushed.json")["status"] == "error"
    service.outcome = ("COMPLETE", "")
    assert push()[0] == 0
    assert len(service.kernels[KERNEL]) == 2
    assert len(service.datasets[WEIGHTS]) == 1


def test_a_cancelled_kernel_fails_as_well(push, kernel, service):
    kernel()
    service.outcome, service.log = ("CANCEL_ACKNOWLEDGED", ""), "plain text\n"
    code, out, err = push()
    assert (code, "failed on Kaggle: cancel_acknowledged" in err) == (2, True)
    assert "  | plain text" in out
