"""The command line below tmp_path, and trials whose score is a formula."""

import pytest

from oofline import cli


@pytest.fixture
def oofline(tmp_path, capsys, monkeypatch):
    """oofline("tune", ...) -> (exit code, stdout, stderr), run below tmp_path."""
    monkeypatch.setenv("COLUMNS", "200")

    def run(*argv):
        code = cli.run([str(a) for a in argv], tmp_path)
        captured = capsys.readouterr()
        return code, captured.out, captured.err

    return run
