"""A notebook is kept from network, files, secrets, time and memory; each fault is named."""

import re
import sys
from pathlib import Path

import nbformat
import pytest

from oofline.errors import ConfigError
from oofline.kaggle.rehearsal import isolation
from oofline.kaggle.rehearsal.environment import Environment, _make_venv, running_python
from oofline.kaggle.rehearsal.isolation import Cell, choose_isolation, namespaces_work
from oofline.kaggle.rehearsal.verdict import cause_of

WAYS = [
    pytest.param(
        True,
        id="namespaces",
        marks=pytest.mark.skipif(
            not namespaces_work(), reason="this system does not permit user namespaces"
        ),
    ),
    pytest.param(False, id="guard"),
]


@pytest.fixture(scope="module")
def environment(tmp_path_factory):
    folder = tmp_path_factory.mktemp("environment")
    (folder / "site-packages").mkdir()
    made = Environment(folder / "env", folder / "site-packages", running_python())
    _make_venv(Path(sys.executable), made)
    return made


@pytest.fixture
def run(tmp_path, environment):
    """run(namespaces, *cells, seconds, memory_gb) -> (Finished, folder of the rehearsal)."""

    def go(namespaces, *sources, seconds=60.0, memory_gb=4.0):
        work = tmp_path / "work"
        (work / "kaggle" / "input").mkdir(parents=True)
        (work / "kaggle" / "input" / "data.csv").write_text("a,b\n")
        hidden = tmp_path / "project"
        hidden.mkdir()
        (hidden / "weights").write_text("mine")
        cell = Cell(work, environment, (hidden,), namespaces)
        cell.prepare()
        notebook = nbformat.v4.new_notebook(cells=list(map(nbformat.v4.new_code_cell, sources)))
        nbformat.write(notebook, tmp_path / "n.ipynb")
        return cell.run(tmp_path / "n.ipynb", seconds, memory_gb, 0.0), work

    return go


HEAD = "import os\nfrom pathlib import Path\nK = Path(os.environ['OOFLINE_KAGGLE'])"


@pytest.mark.parametrize("namespaces", WAYS)
def test_what_kaggle_allows_works(namespaces, run):
    finished, work = run(
        namespaces,
        f"{HEAD}\nx = (K / 'input' / 'data.csv').read_text()",
        "(K / 'working' / 'submission.csv').write_text(x)",
        "import socket, tempfile\ntempfile.mkdtemp()\ns = socket.socket(); s.bind(('127.0.0.1', 0))"
        "\ns.listen()\nsocket.create_connection(s.getsockname()).close()",
    )
    assert cause_of(finished) == ""
    assert finished.code == 0
    assert (work / "kaggle" / "working" / "submission.csv").read_text() == "a,b\n"


@pytest.mark.parametrize("namespaces", WAYS)
@pytest.mark.parametrize(
    ("source", "cause"),
    [
        ("import urllib.request as u\nu.urlopen('http://example.com')", r"look up example\.com"),
        ("import socket\nsocket.socket().connect(('192.0.2.1', 80))", r"connect to .*192\.0"),
        (
            "try:\n    import socket; socket.getaddrinfo('example.com', 80)\n"
            "except OSError: print('swallowed')",
            r"network: the notebook tried to look up example\.com, and there is no internet",
        ),
        ("import os\nopen(os.path.expanduser('/usr/x'), 'w')", r"write.*/usr/x"),
        (f"{HEAD}\n(K / 'input' / 'data.csv').write_text('changed')", r"write.*data\.csv"),
        ("raise ValueError('the sum\\nis wrong')", r"cell 1 of 1: ValueError: the sum is wrong"),
        ("import os; os._exit(7)", "it ended with 7"),
    ],
)
def test_each_fault_is_named(namespaces, source, cause, run):
    finished, work = run(namespaces, source)
    assert re.search(cause, cause_of(finished)), finished.log
    assert (work / "kaggle" / "input" / "data.csv").read_text() == "a,b\n"


@pytest.mark.parametrize("namespaces", WAYS)
def test_time_has_a_limit(namespaces, run):
    finished, _ = run(namespaces, "while True: pass", seconds=1.0)
    assert cause_of(finished) == "limit: it ran longer than the limit of 0.017 minutes"


def test_memory_has_a_limit(run):
    source = "import time\nx = bytearray(400_000_000)\ntime.sleep(60)"
    finished, _ = run(False, source, memory_gb=0.2)
    assert cause_of(finished) == "limit: it held more memory than the limit of 0.2 GB"
    assert finished.peak_gb > 0.2
    assert finished.seconds < 60


@pytest.mark.parametrize("namespaces", WAYS)
def test_nothing_of_the_users_enters(namespaces, run, monkeypatch):
    monkeypatch.setenv("WANDB_API_KEY", "not-for-the-notebook")
    finished, _ = run(namespaces, "import os, json\nprint(json.dumps(dict(os.environ)))")
    assert "not-for-the-notebook" not in finished.log
    assert f'"HOME": "{Path.home()}"' not in finished.log


@pytest.mark.skipif(not namespaces_work(), reason="this system does not permit user namespaces")
def test_project_and_secret_files_are_not_seen(run, tmp_path, monkeypatch):
    home = tmp_path / "home"
    (home / ".kaggle").mkdir(parents=True)
    (home / ".kaggle" / "kaggle.json").write_text("KEY")
    monkeypatch.setenv("HOME", str(home))
    finished, _ = run(
        True,
        f"import os\nprint(os.path.exists({str(tmp_path / 'project' / 'weights')!r}))\n"
        f"print(os.path.exists({str(home / '.kaggle' / 'kaggle.json')!r}))",
    )
    assert finished.log.split() == ["False", "False"]


@pytest.mark.skipif(not namespaces_work(), reason="this system does not permit user namespaces")
def test_other_programs_are_kept_away_too(run):
    finished, _ = run(
        True,
        "import subprocess\nprint(subprocess.run(['touch', '/usr/x'], capture_output=True).stderr)"
        "\nprint(open('/proc/net/dev').read())",
    )
    assert "Read-only file system" in finished.log
    interfaces = [line.split(":")[0].strip() for line in finished.log.splitlines() if ":" in line]
    assert "lo" in interfaces
    assert "eth0" not in interfaces


def test_isolation_that_is_not_there_is_refused(monkeypatch):
    monkeypatch.setattr(isolation, "namespaces_work", lambda: False)
    assert choose_isolation("auto") is False
    assert choose_isolation("guard") is False
    with pytest.raises(ConfigError, match="does not permit user namespaces"):
        choose_isolation("namespaces")
