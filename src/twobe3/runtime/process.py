"""This process: its number among its fellows, its cores and its threads."""

from __future__ import annotations

import multiprocessing
import os
from collections.abc import Iterator
from contextlib import contextmanager

from threadpoolctl import threadpool_limits

_number = 0


def worker_number() -> int:
    """The number of this process among its fellows, from 0; that of the process which started them is 0 too."""
    return _number


def set_worker_number(number: int) -> None:
    """Say which number this process has."""
    global _number
    _number = number


def available_cores() -> int:
    """Cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


@contextmanager
def one_thread() -> Iterator[None]:
    """Let numpy and torch use one thread inside."""
    import torch

    before = torch.get_num_threads()
    with threadpool_limits(1):
        torch.set_num_threads(1)
        try:
            yield
        finally:
            torch.set_num_threads(before)


def end_with_parent() -> None:
    """For a thread: end this process when the one that started it is gone, in the middle of a task too."""
    parent = multiprocessing.parent_process()
    assert parent is not None
    parent.join()
    os._exit(1)
