"""What becomes of the memory that maps of features leave: in an inspection each layer takes and frees megabytes."""

from __future__ import annotations

import ctypes
import sys

TRIM_THRESHOLD, MMAP_THRESHOLD = -1, -3  # glibc's malloc.h
KEPT = 512 * 2**20  # bytes
LARGEST = 64 * 2**20  # bytes of one map; images larger than that leave nothing behind


def keep_freed_memory() -> None:
    """Have this process keep what it frees, up to ``KEPT``, where the C library is glibc.

    It would be given back to the system and taken again, and each layer's map would fault fresh pages in.
    """
    if sys.platform == "linux" and hasattr(libc := ctypes.CDLL(None), "mallopt"):
        libc.mallopt(MMAP_THRESHOLD, LARGEST)
        libc.mallopt(TRIM_THRESHOLD, KEPT)
