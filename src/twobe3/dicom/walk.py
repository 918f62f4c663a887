"""Which files there are, and going through them: one after the other, or several at once where the storage is slow.

A header costs Python a quarter of a millisecond, and threads share one interpreter: on a local disk they gain nothing,
and 10,000 headers take no longer than the start of processes that would share them (``benchmarks/ingest.py``). On a
network drive the time goes into waiting for each file, which threads do at once. Which it is shows in the first files.
"""

from __future__ import annotations

import os
import statistics
import time
from collections.abc import Callable, Generator, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from twobe3.core.codes import Code
from twobe3.core.errors import ConfigurationError

THREADS = 8
"""Files that are waited for at once, where they make one wait."""

_FIRST_FILES, _FILES_AT_ONCE = 64, 8
Returned = TypeVar("Returned")


@dataclass(frozen=True)
class Listing:
    """Files below some paths: absolute, each once, in an order of no meaning.

    ``n_links`` counts symbolic links that lead out of their folder, or to nothing, and were not followed.
    """

    files: tuple[Path, ...]
    n_links: int


def list_files(paths: Sequence[Path]) -> Listing:
    """Every file at or below the paths; symbolic links are followed only to files of the same folder.

    Raises ConfigurationError ``NO_PET``: a path does not exist.
    """
    files: dict[Path, None] = {}
    n_links = 0
    for path in paths:
        if not path.exists():
            raise ConfigurationError(Code.NO_PET, f"{path.name!r} does not exist", remedy="check the path")
        root = path.resolve()
        if root.is_file():
            files[root] = None
            continue
        for found in _walk(root):
            target = Path(found.path)
            if found.is_symlink():
                target = target.resolve()
                inside = target.is_file() and target.is_relative_to(root)
            else:
                inside = found.is_file()
            if inside:
                files[target] = None
            else:
                n_links += 1
    return Listing(tuple(files), n_links)


def map_files(
    function: Callable[[Path], Returned], paths: Sequence[Path], *, threads: int | None = None
) -> Generator[Returned, None, None]:
    """Apply a function to files, in their order; close the generator where it may not run to its end.

    Parameters
    ----------
    function : callable
        Reads one file; whatever it raises gives up the other files.
    paths : sequence of Path
    threads : int, optional
        How many at once; by default one, or :data:`THREADS` where most of the first files took longer to wait for
        than to read.
    """
    first = _FIRST_FILES if threads is None else 0
    idle_s = []
    for path in paths[:first]:
        began, began_work = time.perf_counter(), time.thread_time()
        result = function(path)
        worked_s, passed_s = time.thread_time() - began_work, time.perf_counter() - began
        idle_s.append(passed_s - 2 * worked_s)
        yield result
    if threads is None:  # by the median: a busy processor interrupts a few files for long, slow storage delays each
        threads = THREADS if idle_s and statistics.median(idle_s) > 0 else 1
    rest = paths[first:]
    if threads == 1 or not rest:
        yield from map(function, rest)
        return
    parts = [rest[i : i + _FILES_AT_ONCE] for i in range(0, len(rest), _FILES_AT_ONCE)]
    pool = ThreadPoolExecutor(threads, thread_name_prefix="twobe3-files")
    try:
        for results in pool.map(lambda part: [function(path) for path in part], parts):
            yield from results
    finally:  # also on Ctrl-C: what has not begun is given up
        pool.shutdown(cancel_futures=True)


def _walk(root: Path) -> Iterator[os.DirEntry[str]]:
    """Everything in a folder but folders and links to them; a folder that cannot be read is empty."""
    folders = [str(root)]
    while folders:
        try:
            with os.scandir(folders.pop()) as entries:
                found = list(entries)
        except OSError:
            continue
        for entry in found:
            if entry.is_dir(follow_symlinks=False):
                folders.append(entry.path)
            elif not entry.is_dir():
                yield entry
