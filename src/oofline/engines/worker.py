"""What runs in a worker process: one device, units from a pipe, lines and outcomes back.

Messages to a worker: ("unit", unit), ("end",) and ("stop",). Messages from it: ("say", text),
("bar", title, done, total, note), ("ready",), ("done", outcome), and as its last one
("stopped", text, exit code), ("failed", text) or ("bug", traceback).
"""

import contextlib
import math
import multiprocessing
import os
import queue
import signal
import sys
import threading
import traceback
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from multiprocessing.connection import Connection, wait
from pathlib import Path
from typing import Any

import torch

from oofline.engines.threads import limit_threads
from oofline.errors import OoflineError, Stopped
from oofline.progress import log_to, relay_to
from oofline.training.guard import Guard

Start = Callable[[str, Guard], Callable[[Any], Any]]
"""(device, guard) -> what does one unit; called once in the worker. It must be picklable."""


@dataclass(frozen=True)
class Post:
    """Where a worker works.

    Attributes:
        device: its device.
        log: file that its output is appended to, tracebacks included.
        seconds: time it has, counted from its start; infinite without a limit.
        threads: that it computes with (on a CPU).
    """

    device: str
    log: Path
    seconds: float
    threads: int


def work(pipe: Connection, start: Start, post: Post) -> None:
    """Do units until there are no more, a stop is asked for, or the other end of the pipe is gone.

    Ctrl-C is the business of the process at the other end, which passes it on. SIGTERM saves and
    stops this worker.
    """
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    _append_output_to(post.log)
    log_to(post.log)
    _take_device(post)
    guard = Guard(0.0 if math.isinf(post.seconds) else max(post.seconds, 1e-3) / 3600.0)
    units: queue.SimpleQueue[Any] = queue.SimpleQueue()
    threading.Thread(target=_listen, args=(pipe, units, guard), daemon=True).start()
    with guard.signals():
        _serve(pipe, start, post.device, guard, units)


def _append_output_to(log: Path) -> None:
    """Everything that is printed from here on, by C code too, goes to the file."""
    sys.stdout = sys.stderr = log.open("a", encoding="utf-8", buffering=1)
    for stream in (1, 2):
        os.dup2(sys.stdout.fileno(), stream)


@contextlib.contextmanager
def output_to(log: Path) -> Iterator[None]:
    """Everything that is printed meanwhile, by C code too, goes to the file."""
    log.parent.mkdir(parents=True, exist_ok=True)
    former = [os.dup(1), os.dup(2)]
    with log.open("a", encoding="utf-8", buffering=1) as handle:
        streams = sys.stdout, sys.stderr
        for stream in (1, 2):
            os.dup2(handle.fileno(), stream)
        sys.stdout = sys.stderr = handle
        try:
            yield
        finally:
            sys.stdout, sys.stderr = streams
            for stream, number in zip((1, 2), former, strict=True):
                os.dup2(number, stream)
                os.close(number)


def _take_device(post: Post) -> None:
    if post.device.startswith("cuda") and "+" not in post.device:  # else it only waits for others
        # else memory would be taken on the first GPU as well
        torch.cuda.set_device(torch.device(post.device).index or 0)
    elif post.device.startswith("cpu"):
        limit_threads(post.threads)


def _listen(pipe: Connection, units: queue.SimpleQueue[Any], guard: Guard) -> None:
    """Take messages as they come; without anyone at the other end, save and stop."""
    parent = multiprocessing.parent_process()
    watched: list[Any] = [pipe, parent.sentinel] if parent else [pipe]
    kind = "unit"
    while kind == "unit":
        try:
            kind, *content = pipe.recv() if pipe in wait(watched) else ("stop",)
        except (EOFError, OSError):
            kind, content = "stop", []
        guard.interrupted = guard.interrupted or kind == "stop"
        units.put(content[0] if content else None)


def _serve(
    pipe: Connection, start: Start, device: str, guard: Guard, units: queue.SimpleQueue[Any]
) -> None:
    def send(*message: Any) -> None:
        """Tell the other end, if anyone is there."""
        with contextlib.suppress(OSError):
            pipe.send(message)

    relay_to(lambda *message: None)  # what all workers would say at the start is in their logs
    try:
        do = start(device, guard)
        relay_to(send)
        send("ready")
        while (unit := units.get()) is not None:
            send("done", do(unit))
    except Stopped as stop:
        send("stopped", str(stop), stop.exit_code)
    except OoflineError as error:
        traceback.print_exc()  # what the line leaves out, for the log
        send("failed", str(error))
    except BaseException:
        traceback.print_exc()
        send("bug", traceback.format_exc())
        raise SystemExit(1) from None
