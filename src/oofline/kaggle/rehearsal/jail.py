"""Builds the rehearsal's file system inside fresh namespaces and runs the command in it.

Usage: ``unshare --user --map-root-user --mount --net --pid --fork python jail.py CONFIG COMMAND``.
The whole file system is there read-only; ``binds`` of the JSON file CONFIG are laid over it
(source, target, writable), ``hidden`` folders are empty, and of the network only loopback is up.
Alone in a file, on the standard library.
"""

import ctypes
import fcntl
import json
import os
import socket
import struct
import sys
from pathlib import Path

RDONLY, NOSUID, NODEV, NOEXEC, REMOUNT, BIND, REC, PRIVATE = 1, 2, 4, 8, 32, 4096, 16384, 1 << 18
_FLAGS = {"ro": RDONLY, "nosuid": NOSUID, "nodev": NODEV, "noexec": NOEXEC, "noatime": 1024,
          "nodiratime": 2048, "relatime": 1 << 21}  # fmt: skip
_libc = ctypes.CDLL(None, use_errno=True)


def mount(source: str, target: str, kind: str = "", flags: int = 0, data: str = "") -> None:
    """The system call; OSError with the target where it fails."""
    encoded = [text.encode() or None for text in (source, target, kind)]
    if _libc.mount(*encoded, ctypes.c_ulong(flags), data.encode() or None):
        number = ctypes.get_errno()
        raise OSError(number, f"mount {source} on {target}: {os.strerror(number)}")


def make_read_only(root: str, itself: bool) -> None:
    """Remount what is mounted below a folder (and there) read-only, keeping its other flags."""
    for line in Path("/proc/self/mountinfo").read_text().splitlines():
        words = line.split()
        target = words[4].encode().decode("unicode_escape")
        if (itself and target == root) or target.startswith(root + "/"):
            flags = sum(_FLAGS.get(word, 0) for word in words[5].split(","))
            try:
                mount("", target, "", flags | REMOUNT | BIND | RDONLY)
            except OSError:  # a mount whose flags may not be changed from inside
                if not any(target.startswith(f"{root}/{name}") for name in ("dev", "sys", "proc")):
                    raise


def build_root(root: str) -> None:
    """A tmpfs with every top-level folder of the machine bound into it, read-only."""
    mount("tmpfs", root, "tmpfs", 0, "mode=755")
    for entry in sorted(Path("/").iterdir()):
        target = f"{root}/{entry.name}"
        if entry.name in ("proc", "tmp", "kaggle"):
            continue
        if entry.is_symlink():
            Path(target).symlink_to(entry.readlink())
        elif entry.is_dir():
            Path(target).mkdir()
            mount(str(entry), target, "", BIND | REC)
    make_read_only(root, itself=False)
    for name in ("proc", "tmp"):
        Path(root, name).mkdir()
    mount("tmpfs", f"{root}/tmp", "tmpfs", 0, "mode=1777")
    mount("proc", f"{root}/proc", "proc")
    mount("tmpfs", f"{root}/dev/shm", "tmpfs", 0, "mode=1777")


def lay_over(root: str, source: str, target: str, writable: bool) -> None:
    """Bind one folder or file of the machine to its place inside."""
    inside = Path(root + target)
    if not inside.exists():
        inside.parent.mkdir(parents=True, exist_ok=True)
        inside.mkdir() if Path(source).is_dir() else inside.touch()
    mount(source, str(inside), "", BIND | REC)
    if not writable:
        make_read_only(str(inside), itself=True)


def hide(root: str, path: str) -> None:
    """Put an empty folder, or nothing, in the place of one that the notebook must not see."""
    inside = root + path
    if Path(inside).is_dir():
        mount("tmpfs", inside, "tmpfs", RDONLY, "size=4k")
    elif Path(inside).exists():
        mount("/dev/null", inside, "", BIND)


def loopback_up() -> None:
    """Bring up the only network interface."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        request = struct.pack("16sh22x", b"lo", 1)  # IFF_UP
        fcntl.ioctl(probe.fileno(), 0x8914, request)  # SIOCSIFFLAGS


def main(config: str, command: list[str]) -> None:
    """Build, enter, run; does not return."""
    plan = json.loads(Path(config).read_text(encoding="utf-8"))
    root = plan["root"]
    mount("none", "/", "", REC | PRIVATE)
    loopback_up()
    build_root(root)
    for path in plan["hidden"]:
        hide(root, path)
    for source, target, writable in plan["binds"]:
        lay_over(root, source, target, writable)
    mount("", root, "", REMOUNT | BIND | RDONLY)
    os.chroot(root)
    os.chdir(plan["cwd"])
    os.execv(command[0], command)


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2:])
