"""Loaded as ``sitecustomize`` by every Python of a rehearsal: refuses what Kaggle has not.

An audit hook sees each connection before it is made, and each file before it is opened for writing.
Alone in a file, on the standard library. Reads the environment:
``OOFLINE_GUARD_WRITABLE``: folders that may be written, joined by ":"; "" = files are not guarded.
"""

import os
import socket
import sys

NETWORK, OUTSIDE = "rehearsal: network call refused: ", "rehearsal: write refused: "
"""Start the lines that name what was tried."""

_WRITABLE = tuple(os.path.realpath(f) for f in os.environ.get("OOFLINE_GUARD_WRITABLE", "").split(":") if f)  # noqa: E501  # fmt: skip
_ALWAYS = ("/dev/", "/proc/")
_CHANGES = {"os.mkdir": 0, "os.rename": 1, "os.remove": 0, "os.rmdir": 0, "os.symlink": 1,
            "os.link": 1, "os.truncate": 0, "os.chmod": 0}  # fmt: skip
_WRITING = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_APPEND


def _is_local(address) -> bool:  # type: ignore[no-untyped-def]
    host = address[0] if isinstance(address, tuple) else address
    if isinstance(host, bytes):
        host = host.decode("utf-8", "replace")
    return host is None or str(host) in ("", "localhost", "::1") or str(host).startswith(("127.", "/", "\0"))  # noqa: E501  # fmt: skip


def _refuse(text: str) -> None:
    os.write(2, f"{text}\n".encode())
    raise PermissionError(text)


def _check_path(path) -> None:  # type: ignore[no-untyped-def]
    if isinstance(path, int) or path is None:
        return
    real = os.path.realpath(os.fsdecode(path))
    if not real.startswith(_ALWAYS) and not any(real == f or real.startswith(f + "/") for f in _WRITABLE):  # noqa: E501  # fmt: skip
        _refuse(f"{OUTSIDE}{real}")


def hook(event: str, arguments: tuple) -> None:
    """The audit hook."""
    if event == "socket.connect" and arguments[0].family != socket.AF_UNIX:
        if not _is_local(arguments[1]):
            _refuse(f"{NETWORK}connect to {arguments[1]}")
    elif event == "socket.getaddrinfo" and not _is_local(arguments[0]):
        _refuse(f"{NETWORK}look up {arguments[0]}")
    elif _WRITABLE and event == "open" and isinstance(arguments[2], int):
        if arguments[2] & _WRITING:
            _check_path(arguments[0])
    elif _WRITABLE and event in _CHANGES:
        _check_path(arguments[_CHANGES[event]])


if __name__ == "sitecustomize":  # whoever imports this module is not rehearsed
    sys.addaudithook(hook)
