"""Runs the notebook apart from network, files and secrets, under time and memory limits."""

import json
import os
import shutil
import subprocess
import sys
import time
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path

import psutil

from oofline.errors import ConfigError
from oofline.kaggle.rehearsal.environment import INSIDE, Environment
from oofline.progress import PLAIN_SECONDS, say
from oofline.storage import write_json

SECRET_PLACES = (
    ".netrc", "_netrc", ".kaggle", ".config", ".ssh", ".aws", ".huggingface", ".cache/huggingface",
    ".gitconfig", ".git-credentials", ".pypirc",
)  # fmt: skip
"""Below the home folder: empty for the notebook."""
_UNSHARE = ["unshare", "--user", "--map-root-user", "--mount", "--net", "--pid", "--fork",
            "--kill-child"]  # fmt: skip
_POLL_SECONDS = 0.1


@dataclass(frozen=True)
class Finished:
    """How a run ended.

    Attributes:
        code: exit status; negative = killed.
        seconds: wall-clock time.
        peak_gb: most memory that its processes held together, in GB.
        stopped: why it was killed, "" where it was not.
        log: everything it printed.
    """

    code: int
    seconds: float
    peak_gb: float
    stopped: str
    log: str


@dataclass(frozen=True)
class Cell:
    """One place to run notebooks in.

    Attributes:
        work: folder of the rehearsal: ``kaggle/input``, ``kaggle/working``, ``tools``.
        environment: the Python to run.
        hidden: folders that must not be seen (the project's own input and output).
        namespaces: whether kernel namespaces keep it apart; else a guard inside Python does.
    """

    work: Path
    environment: Environment
    hidden: tuple[Path, ...]
    namespaces: bool

    @property
    def described(self) -> str:
        """For the report."""
        if self.namespaces:
            return (
                "namespaces: network of loopback only, every file read-only but /kaggle/working, "
                "the notebook's own packages and an empty /tmp"
            )
        return (
            "guard inside Python (no namespaces): connections beyond loopback and writes outside "
            "the rehearsal are refused; what programs other than Python do is not seen"
        )

    def prepare(self) -> None:
        """Lay out the tools that run inside."""
        tools = self.work / "tools"
        tools.mkdir(parents=True, exist_ok=True)
        for name, target in (("runner", "runner"), ("jail", "jail"), ("guard", "sitecustomize")):
            source = files("oofline.kaggle.rehearsal") / f"{name}.py"
            (tools / f"{target}.py").write_text(source.read_text(encoding="utf-8"))
        for folder in ("kaggle/working", "temporary", "root"):
            (self.work / folder).mkdir(parents=True, exist_ok=True)

    def run(self, notebook: Path, seconds: float, memory_gb: float, hours: float) -> Finished:
        """Run a notebook from its first cell to its last.

        Args:
            notebook: its file.
            seconds: time limit.
            memory_gb: memory limit of all its processes together.
            hours: time limit that a training is told; 0 = what the notebook says.
        """
        shutil.copyfile(notebook, self.work / "tools" / "notebook.ipynb")
        variables = self._variables() | ({"OOFLINE_HOURS": f"{hours:.4f}"} if hours else {})
        process = subprocess.Popen(
            self._command(), env=variables, stdout=(self.work / "log.txt").open("wb"),
            stderr=subprocess.STDOUT, cwd=self.work / "kaggle" / "working", start_new_session=True,
        )  # fmt: skip
        return self._watch(process, seconds, memory_gb)

    def _command(self) -> list[str]:
        python = self.environment.interpreter
        if not self.namespaces:
            tools = self.work.absolute() / "tools"
            own = self.environment.folder.absolute() / python
            return [str(own), str(tools / "runner.py"), str(tools / "notebook.ipynb")]
        work = self.work.absolute()
        home = [str(Path.home() / name) for name in SECRET_PLACES]
        plan = {
            "root": str(work / "root"),
            "cwd": "/kaggle/working",
            "hidden": [*(str(path.absolute()) for path in self.hidden), *home],
            "binds": [
                (str(work / "kaggle" / "input"), "/kaggle/input", False),
                (str(work / "kaggle" / "working"), "/kaggle/working", True),
                (str(self.environment.packages.absolute()), INSIDE, False),
                (str(self.environment.folder.absolute()), "/env", True),
                (str(work / "tools"), "/tools", False),
            ],
        }
        write_json(work / "tools" / "jail.json", plan)
        inside = [f"/env/{python}", "/tools/runner.py", "/tools/notebook.ipynb"]
        jail = [sys.executable, str(work / "tools" / "jail.py"), str(work / "tools" / "jail.json")]
        return [*_UNSHARE, *jail, *inside]

    def _variables(self) -> dict[str, str]:
        """A bare environment: nothing of the user's, no token, no home."""
        work = self.work.absolute()
        inside = {"kaggle": "/kaggle", "tools": "/tools", "home": "/tmp"}
        if not self.namespaces:
            names = {"kaggle": "kaggle", "tools": "tools", "home": "temporary"}
            inside = {key: str(work / name) for key, name in names.items()}
        variables = {
            "PATH": "/usr/local/bin:/usr/bin:/bin", "LANG": "C.UTF-8", "HOME": inside["home"],
            "TMPDIR": inside["home"], "PYTHONPATH": inside["tools"], "MPLBACKEND": "agg",
            "OOFLINE_KAGGLE": inside["kaggle"], "PYTHONUNBUFFERED": "1",
            "PYTHONDONTWRITEBYTECODE": "1", "PIP_DISABLE_PIP_VERSION_CHECK": "1",
            "PIP_CONFIG_FILE": os.devnull,
        }  # fmt: skip
        for name in ("OMP_NUM_THREADS", "OMP_WAIT_POLICY", "CUDA_VISIBLE_DEVICES"):
            if name in os.environ:
                variables[name] = os.environ[name]
        if not self.namespaces:
            writable = (work / "kaggle" / "working", work / "temporary", self.environment.folder)
            variables["OOFLINE_GUARD_WRITABLE"] = ":".join(str(p.absolute()) for p in writable)
        return variables

    def _watch(self, process: subprocess.Popen, seconds: float, memory_gb: float) -> Finished:
        started = said = time.monotonic()
        peak, stopped = 0.0, ""
        try:
            while process.poll() is None and not stopped:
                time.sleep(_POLL_SECONDS)
                used = memory_of(process.pid)
                peak, passed = max(peak, used), time.monotonic() - started
                if passed > seconds:
                    stopped = f"it ran longer than the limit of {seconds / 60:.2g} minutes"
                elif used > memory_gb:
                    stopped = f"it held more memory than the limit of {memory_gb:g} GB"
                if time.monotonic() - said > PLAIN_SECONDS:
                    said = time.monotonic()
                    say(f"rehearsal: {passed:.0f} s, {used:.1f} GB; {self._last_line()}")
        finally:
            _kill(process)
        log = (self.work / "log.txt").read_text(encoding="utf-8", errors="replace")
        return Finished(process.returncode, time.monotonic() - started, peak, stopped, log)

    def _last_line(self) -> str:
        with (self.work / "log.txt").open("rb") as handle:
            handle.seek(max(0, handle.seek(0, os.SEEK_END) - 400))
            lines = handle.read().decode("utf-8", "replace").split("\n")
        return next((line.strip() for line in reversed(lines) if line.strip()), "")[:80]


def memory_of(pid: int) -> float:
    """Memory (GB) that a process and its descendants hold; 0 when they are gone."""
    total = 0
    try:
        family = [psutil.Process(pid), *psutil.Process(pid).children(recursive=True)]
    except psutil.NoSuchProcess:
        return 0.0
    for process in family:
        try:
            total += process.memory_info().rss
        except psutil.NoSuchProcess:
            continue
    return total / 1e9


def _kill(process: subprocess.Popen) -> None:
    """End a process and all its descendants, if they still run."""
    try:
        family = psutil.Process(process.pid).children(recursive=True)
    except psutil.NoSuchProcess:
        family = []
    if process.poll() is None:
        process.kill()
    for member in family:
        if member.is_running():
            member.kill()
    process.wait()


def namespaces_work() -> bool:
    """Whether this machine lets a user make the namespaces that a rehearsal runs in."""
    if not sys.platform.startswith("linux") or shutil.which("unshare") is None:
        return False
    done = subprocess.run([*_UNSHARE, "mount", "-t", "tmpfs", "tmpfs", "/mnt"],
                          capture_output=True, check=False)  # fmt: skip
    return done.returncode == 0


def choose_isolation(wanted: str) -> bool:
    """Whether to use namespaces.

    Raises:
        ConfigError: they were asked for and are not permitted here.
    """
    if wanted == "guard":
        return False
    works = namespaces_work()
    if wanted == "namespaces" and not works:
        raise ConfigError(
            "isolation = namespaces, but this system does not permit user namespaces: use "
            "--isolation guard, or allow them (sysctl kernel.unprivileged_userns_clone=1)"
        )
    return works


def read_predict(working: Path, comp: str) -> dict:
    """Contents of predict.json that the notebook left, or an empty dict."""
    path = working / "output" / comp / "predict.json"
    return json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}
