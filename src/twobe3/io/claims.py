"""Claims on files that are being made, so that of several runs on one folder one makes a file and the others wait.

A claim spares work and nothing depends on it: files are written whole, under names that say what they hold. Where a
file system has no locks, files are made without claims, perhaps by two at once, with the same content.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

from filelock import FileLock, Timeout

CLAIM = ".claim"  # how their names end, so that no search for files of a kind finds them
SILENT_S = 10.0  # of waiting, before it is said
POLL_S = 0.1
log = logging.getLogger("twobe3")


@contextmanager
def claim(*files: Path) -> Iterator[None]:
    """Keep others, in this process or in another one, from making the same files meanwhile.

    Waits while others make one of them, so look again whether the files are there. The operating system gives back what
    a process claimed that was killed. Take what belongs together in one claim: then no two wait for each other.
    """
    with ExitStack() as held:
        for file in sorted(set(files)):
            held.enter_context(_claim_one(file))
        yield


def remove_claims(folder: Path) -> None:
    """Remove what processes that were killed left of their claims, at any depth of a folder."""
    for left in folder.rglob(f"*{CLAIM}"):
        with suppress(OSError, Timeout), FileLock(left, timeout=0):
            left.unlink()


@contextmanager
def _claim_one(file: Path) -> Iterator[None]:
    path = file.with_name(f".{file.name}{CLAIM}")
    lock = FileLock(path, mode=0o644, poll_interval=POLL_S)  # which others may write is probed for by further files
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            lock.acquire(timeout=SILENT_S)
        except Timeout:
            log.info("another run makes %s: waiting for it (if none is alive, delete %s)", file.name, path.name)
            lock.acquire()
    except (OSError, NotImplementedError):  # filelock's ways to say that there are no locks here
        yield  # or nothing can be written: whoever writes the file tells
        return
    try:
        yield
    finally:
        # Who waits for this file holds it without its name: he finds the work done, or does it beside a newcomer.
        with suppress(OSError):
            path.unlink()
        lock.release()
