"""What makes training on a CPU faster without changing what is computed."""

import ctypes
import sys

_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD = -1, -3
_LARGEST = 2**31 - 1


def keep_freed_memory() -> bool:
    """Make glibc keep large freed blocks instead of giving them back to the system.

    Every step frees and allocates gradients of the same sizes (47 MB for a BERT vocabulary);
    returning them costs a page fault per 4 kB on the way back. Returns whether it took effect.
    """
    if not sys.platform.startswith("linux"):
        return False
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is None:  # musl
        return False
    taken = mallopt(_M_MMAP_THRESHOLD, 1 << 30) and mallopt(_M_TRIM_THRESHOLD, _LARGEST)
    return bool(taken)
