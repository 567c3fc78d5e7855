"""What becomes of the memory that maps of features leave: each layer takes megabytes, and frees them."""

from __future__ import annotations

import ctypes
import sys

TRIM_THRESHOLD, MMAP_THRESHOLD = -1, -3  # glibc's malloc.h
KEPT = 512 * 2**20  # bytes
LARGEST = (
    64 * 2**20,
    32 * 2**20,
)  # bytes of one map, larger ones leave nothing behind; glibc before 2.35 takes no more


def keep_freed_memory() -> None:
    """Have this process keep what it frees, up to ``KEPT``, where the C library is glibc.

    It would be given back to the system and taken again, and each layer's map would fault fresh pages in: a tenth of
    the time of a training step, or of an inspection. For programs, not for libraries: it holds for the whole process.
    """
    if sys.platform == "linux" and hasattr(libc := ctypes.CDLL(None), "mallopt"):
        any(libc.mallopt(MMAP_THRESHOLD, size) for size in LARGEST)
        libc.mallopt(TRIM_THRESHOLD, KEPT)
