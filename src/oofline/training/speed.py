"""Memory on a CPU: kept where that makes steps faster, given back where it would pile up."""

import ctypes
import sys
from collections.abc import Callable

_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD = -1, -3
_LARGEST = 2**31 - 1


def keep_freed_memory() -> bool:
    """Make glibc keep large freed blocks instead of giving them back to the system.

    Every step frees and allocates gradients of the same sizes (47 MB for a BERT vocabulary);
    returning them costs a page fault per 4 kB on the way back. Returns whether it took effect.
    """
    mallopt = _glibc("mallopt")
    if mallopt is None:
        return False
    taken = mallopt(_M_MMAP_THRESHOLD, 1 << 30) and mallopt(_M_TRIM_THRESHOLD, _LARGEST)
    return bool(taken)


def return_freed_memory() -> bool:
    """Give freed memory back to the system: what `keep_freed_memory` kept, and more with each fold.

    Batches of many lengths leave gaps that later ones do not fit into; without this a process
    that trains fold after fold grows by gigabytes. It takes a fraction of a second, so it is for
    evaluations, not for steps. Returns whether there was something to call.
    """
    trim = _glibc("malloc_trim")
    if trim is None:
        return False
    trim(0)
    return True


def _glibc(name: str) -> Callable[..., int] | None:
    """A function of the C library, None where it has no such thing (musl, macOS, Windows)."""
    if not sys.platform.startswith("linux"):
        return None
    return getattr(ctypes.CDLL(None), name, None)
