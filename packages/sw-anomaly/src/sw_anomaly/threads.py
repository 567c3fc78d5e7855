"""The number of threads that training uses, so that networks do not depend on the machine's."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch


@contextmanager
def using_threads(count: int) -> Iterator[None]:
    """Compute with so many threads within this context, whatever their number is outside.

    Each thread sums a part, and sums of other parts are rounded differently: over a training that grows until verdicts
    change. All else differs in the last digits only, and may use all threads.
    """
    before = torch.get_num_threads()
    torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)
