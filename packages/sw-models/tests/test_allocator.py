"""Freed memory is kept: the same again touches no fresh page."""

import subprocess
import sys

import pytest

COUNT = """
import resource, sys, torch
from sw_models.allocator import keep_freed_memory
if sys.argv[1] == "kept":
    keep_freed_memory()
def faults():
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    for _ in range(20):
        torch.zeros(10_000_000)  # 40 MB
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before
faults()
print(faults())
"""


@pytest.mark.skipif(sys.platform != "linux", reason="it is glibc that is told")
def test_memory_that_is_freed_is_used_again():
    kept, freed = (
        int(subprocess.run([sys.executable, "-c", COUNT, word], capture_output=True, check=True, text=True).stdout)
        for word in ("kept", "freed")
    )
    assert kept < 100 < freed
