"""Deliberate faults in a built kernel, sealed with new manifests so that no hash gives them away.

``python tests/kaggle/faults.py demo base``: put each one into a copy of the project's built kernel
and rehearse it; prints what the rehearsal says, and fails where one of them passes. More arguments
(``--multiply 1``) go to the rehearsal.
"""

import json
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import nbformat

from oofline.kaggle.manifest import NAME, hash_tree
from oofline.kaggle.notebook import PARTS
from oofline.storage import read_json, sha256_of, write_json


def seal(kernel):
    """Make every manifest true again, as if the fault had been built in."""
    notebook = next((kernel / "notebook").glob("*.ipynb"))
    text = notebook.read_text()
    for part in PARTS:
        old = sha256_of(kernel / part / NAME)
        write_json(kernel / part / NAME, {"part": part, "files": hash_tree(kernel / part)})
        text = text.replace(old, sha256_of(kernel / part / NAME))
    notebook.write_text(text)
    write_json(kernel / NAME, read_json(kernel / NAME) | {"files": hash_tree(kernel)})


def _folds(kernel):
    """Fold folders; their scores.json forgets the files' SHA-256: predictions alone can tell."""
    found = sorted(kernel.glob("weights/output/*/*/seed*/fold*"))
    for folder in found:
        scores = read_json(folder / "scores.json")
        write_json(folder / "scores.json", {k: v for k, v in scores.items() if k != "sha256"})
    return found


def missing_wheel(kernel):
    """One wheel that the image lacks is not in the dataset."""
    next((kernel / "code" / "wheels").glob("tyro-*.whl")).unlink()


def wrong_tokenizer(kernel):
    """The tokenizer of one fold has its vocabulary in another order."""
    path = _folds(kernel)[0] / "tokenizer.json"
    content = json.loads(path.read_text())
    vocabulary = content["model"]["vocab"]
    plain = [word for word in vocabulary if not word.startswith(("[", "<"))]
    shifted = dict(zip(plain, [vocabulary[word] for word in plain[1:] + plain[:1]], strict=True))
    content["model"]["vocab"] = vocabulary | shifted
    path.write_text(json.dumps(content))


def swapped_weights(kernel):
    """One fold has the weights of another."""
    first, second = _folds(kernel)[:2]
    shutil.copyfile(second / "model.safetensors", first / "model.safetensors")


def network_call(kernel):
    """A cell of the notebook asks the internet for something."""
    path = next((kernel / "notebook").glob("*.ipynb"))
    notebook = nbformat.read(path, as_version=4)
    source = "import urllib.request\nurllib.request.urlopen('https://example.com/model')"
    notebook.cells.insert(3, nbformat.v4.new_code_cell(source))
    nbformat.write(notebook, path)


FAULTS = {
    missing_wheel: r"No matching distribution found for tyro",
    wrong_tokenizer: r"predictions: .*fold0.* differ .*tokenizer",
    swapped_weights: r"predictions: .*fold0.* differ .*weights",
    network_call: r"network: the notebook tried to look up example\.com",
}
"""Fault -> what the rehearsal must say."""


def _rehearse(comp, exp, fault, folder, *more):
    """Rehearse a broken copy of output/<comp>/kernel from a project of links; its last line."""
    shutil.copytree("input", folder / "input", symlinks=True)
    there = folder / "output" / comp
    there.mkdir(parents=True)
    for path in Path("output", comp).iterdir():
        if path.name != "kernel":
            (there / path.name).symlink_to(path.absolute())
    shutil.copytree(Path("output", comp, "kernel"), there / "kernel")
    fault(there / "kernel")
    seal(there / "kernel")
    command = [
        sys.executable,
        "-m",
        "oofline",
        "kernel-rehearse",
        "--comp",
        comp,
        "--exp",
        exp,
        *more,
    ]
    environment = os.environ | {"OOFLINE_ROOT": str(folder)}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    lines = [line for line in (done.stdout + done.stderr).splitlines() if line.strip()]
    return done.returncode, lines[-1]


def main(comp, exp, *more):
    """Rehearse every fault; exit status 1 where one of them passes."""
    passed = 0
    for fault in FAULTS:
        with tempfile.TemporaryDirectory() as folder:
            code, last = _rehearse(comp, exp, fault, Path(folder), *more)
        print(f"{fault.__name__}: exit code {code}\n    {last}", flush=True)
        passed += code != 2
    return bool(passed)


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
