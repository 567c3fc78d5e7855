"""Many runs at once, in processes that share the cores and the memory."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import replace
from multiprocessing import get_context

import torch

from sw_anomaly.config import TrainingConfig
from sw_anomaly.experiment.run import Outcome, Request, run_one
from sw_models.allocator import keep_freed_memory
from sw_models.errors import InputError

PROCESS_MEMORY = 3.0  # GB that one process may need at the default image size


def run_many(requests: Sequence[Request], workers: int) -> Iterator[tuple[Request, Outcome | InputError]]:
    """Run requests in several processes, which share the cores.

    Args:
        requests: What is to be evaluated.
        workers: Number of processes.

    Yields:
        Each request, when it has ended, with its outcome, or with the reason why it was refused.
    """
    threads = max((os.cpu_count() or 1) // workers, 1)
    with ProcessPoolExecutor(
        workers, mp_context=get_context("spawn"), initializer=_start_process, initargs=(threads,)
    ) as pool:
        futures = {pool.submit(run_alone, request): request for request in requests}
        for future in as_completed(futures):
            yield futures[future], future.result()


def _start_process(threads: int) -> None:
    torch.set_num_threads(threads)
    keep_freed_memory()


def run_alone(request: Request) -> Outcome | InputError:
    """Run a request without its maps, which are too large to hand over to another process."""
    try:
        return replace(run_one(request), evaluation=None)
    except InputError as error:
        return error


def count_workers(requests: Sequence[Request], memory: float) -> int:
    """Return how many processes may run at once within so many GB, on the cores there are."""
    threads = max(request.options.get("threads", TrainingConfig.threads) for request in requests)
    return max(min(len(requests), (os.cpu_count() or 1) // threads, int(memory // PROCESS_MEMORY)), 1)


def available_memory() -> float:
    """Return three quarters of the machine's memory, in GB."""
    return 0.75 * os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 1e9
