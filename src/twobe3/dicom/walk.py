"""Which files there are, and going through them: one after the other, or several at once where the storage is slow.

A header costs Python a quarter of a millisecond, and threads share one interpreter: on a local disk they gain nothing,
and 10,000 headers take no longer than the start of processes that would share them (``benchmarks/ingest.py``). On a
network drive the time goes into waiting for each file, which threads do at once. Which it is shows in the first files.
"""

from __future__ import annotations

import os
import stat
import statistics
import time
from collections import defaultdict, deque
from collections.abc import Callable, Generator, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, TypeVar

from twobe3.core.codes import Code
from twobe3.core.errors import ConfigurationError

THREADS = 8
"""Files that are waited for at once, where they make one wait."""

_FIRST_FILES, _FILES_AT_ONCE = 64, 8
Returned = TypeVar("Returned")
_Kind = Literal["file", "folder", "other", "nothing"]


@dataclass(frozen=True)
class Listing:
    """Files below some paths, absolute, in an order of no meaning.

    Attributes
    ----------
    files : tuple of Path
        Each file once: under its own path, or that of a link where it is only reached by links.
    aliases : tuple of Path
        Other links to ``files``.
    broken : tuple of Path
        Links that lead nowhere.
    n_other : int
        How many are neither file nor folder: pipes, sockets, devices.
    """

    files: tuple[Path, ...]
    aliases: tuple[Path, ...] = ()
    broken: tuple[Path, ...] = ()
    n_other: int = 0


def list_files(paths: Sequence[Path]) -> Listing:
    """Every file at or below the paths; symbolic links to files and folders are followed wherever they lead.

    Raises ConfigurationError ``NO_PET``: a path does not exist.
    """
    for path in paths:
        if not path.exists():
            raise ConfigurationError(Code.NO_PET, f"{path.name!r} does not exist", remedy="check the path")
    given = [
        (path.parent.resolve() / path.name, os.path.realpath(path), _kind(path)) for path in paths if path.is_file()
    ]
    below = _walk([str(path.resolve()) for path in paths if path.is_dir()])
    reached: defaultdict[str, list[Path]] = defaultdict(list)  # by which paths, of each file
    others: list[tuple[Path, _Kind]] = []
    for path, real, kind in (*given, *below):
        if kind == "file":
            reached[real].append(path)
        else:
            others.append((path, kind))
    own = {Path(real): paths for real, paths in reached.items()}
    files = [real if real in paths else paths[0] for real, paths in own.items()]
    aliases = {path for paths in own.values() for path in paths} - set(files)
    broken = [path for path, kind in others if kind == "nothing"]
    return Listing(tuple(files), tuple(sorted(aliases)), tuple(broken), len(others) - len(broken))


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


def size_of(path: Path) -> int:
    """Bytes of a file, none where it vanished since it was listed."""
    try:
        return path.stat().st_size
    except OSError:
        return 0


def _walk(folders: Sequence[str]) -> Iterator[tuple[Path, str, _Kind]]:
    """What is in folders, at any depth, but folders: its path, where it really is, and its kind.

    Each folder is entered once, so that links in a circle end; those that links lead to come last. A folder that cannot
    be read is empty.
    """
    waiting = deque((folder, folder) for folder in folders)
    entered: set[str] = set()
    while waiting:
        folder, real_folder = waiting.popleft()
        if real_folder in entered:
            continue
        entered.add(real_folder)
        try:
            with os.scandir(folder) as entries:
                found = sorted(entries, key=lambda entry: entry.name)
        except OSError:
            continue
        for entry in found:
            is_link, path = entry.is_symlink(), Path(entry.path)
            real = os.path.realpath(path) if is_link else f"{real_folder}{os.sep}{entry.name}"
            kind = "file" if entry.is_file(follow_symlinks=False) else _kind(path)
            if kind != "folder":
                yield path, real, kind
            elif is_link:
                waiting.append((entry.path, real))
            else:
                waiting.appendleft((entry.path, real))


def _kind(path: Path) -> _Kind:
    """What is at a path, or where its links end; nothing also where that cannot be reached."""
    try:
        mode = path.stat().st_mode
    except OSError:
        return "nothing"
    return "folder" if stat.S_ISDIR(mode) else "file" if stat.S_ISREG(mode) else "other"
