"""Faults at the n-th write of a command, from outside: a kill, a full disk, a signal.

``python -m tests.faults FOLDER`` imports the package once, and then does commands that it is told on standard input,
each in a process of its own that is forked from it. What a process writes below the folder is counted where Python
hands it to the system: files that are opened for writing, what is written to them, ``fsync``, renaming, linking,
removing, making folders. Nothing of the package is replaced but its clocks, which stand still, so that equal runs are
equal to the byte, and what is drawn, which takes most of the time of a small study: figures hold their titles alone.
"""

from __future__ import annotations

import builtins
import errno
import importlib
import io
import json
import os
import resource
import signal
import subprocess
import sys
import time
import traceback
from collections.abc import Callable
from contextlib import suppress
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, NoReturn, Self

DENIALS = ("ENOSPC", "EIO", "EDQUOT")
WRITING = os.O_WRONLY | os.O_RDWR
MOVING = ("os.rename", "os.link")
NOW = datetime(2020, 1, 1, tzinfo=UTC)
GRACE_S = 20.0  # in which the workers of a process that has ended must have ended too
_FAULT = "TWOBE3_TEST_FAULT"  # tells workers of a fault that is theirs


@dataclass(frozen=True)
class Fault:
    """What happens at which write, counted from 0; nothing where that is negative.

    ``action`` is the name of a signal, or of an error number; ``EFBIG`` is the system's own refusal of a file of more
    than ``at`` bytes, whoever writes it. A fault in a worker happens to the first one that gets so far, once.
    """

    at: int = -1
    action: str = ""
    in_worker: bool = False


NONE = Fault()


@dataclass(frozen=True)
class Ended:
    """A command that has ended.

    Attributes
    ----------
    status : int
        Exit status; of a signal its negative number.
    out, err : str
        What it said.
    writes : tuple of (str, str)
        The writes that were counted, each with its kind and the name of its file.
    left : int
        Processes that it started and that live on.
    """

    status: int
    out: str
    err: str
    writes: tuple[tuple[str, str], ...]
    left: int


class FaultyCommands:
    """The process that does commands; a context. Writes are counted below ``folder``."""

    def __init__(self, folder: Path, **environment: str) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-m", "tests.faults", str(folder)], stdin=subprocess.PIPE, stdout=subprocess.PIPE,
            text=True, cwd=Path(__file__).parents[1], env={**os.environ, **environment},
        )  # fmt: skip

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._process.communicate()

    def __call__(self, *arguments: object, fault: Fault = NONE, days: float = 0.0) -> Ended:
        """Do a command of twobe3; ``days`` is what its clock is ahead of :data:`NOW`."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        order = {"arguments": [str(one) for one in arguments], "fault": asdict(fault), "days": days}
        self._process.stdin.write(json.dumps(order) + "\n")
        self._process.stdin.flush()
        answer = json.loads(self._process.stdout.readline())
        return Ended(**{**answer, "writes": tuple(map(tuple, answer["writes"]))})


# -- in the process that does commands


class _Counter:
    """Counts the writes below a folder, and lets the fault happen."""

    def __init__(self, folder: Path, log: Path, fault: Fault) -> None:
        self.folder, self.fault, self.n = str(folder.resolve()) + os.sep, fault, 0
        self.once = log.with_name("once")  # where a worker notes that the fault has happened
        self.log = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND)

    def is_inside(self, path: object) -> bool:
        return isinstance(path, (str, bytes, os.PathLike)) and str(Path(os.fsdecode(path)).absolute()).startswith(
            self.folder
        )

    def count(self, kind: str, path: str, torn: Callable[[], object] = lambda: None) -> None:
        """A write is about to happen; of one that is cut off ``torn`` does the first half."""
        os.write(self.log, f"{kind}\t{Path(path).name}\n".encode())
        number, self.n = self.n, self.n + 1
        if number != self.fault.at:
            return
        if self.fault.in_worker:
            try:
                os.close(os.open(self.once, os.O_CREAT | os.O_EXCL))
            except FileExistsError:
                return
        torn()
        if self.fault.action.startswith("SIG"):
            os.kill(os.getpid(), getattr(signal, self.fault.action))
            return
        code = getattr(errno, self.fault.action)
        raise OSError(code, os.strerror(code), path)

    def hear(self, event: str, arguments: tuple[Any, ...]) -> None:
        """An audit event of Python."""
        if event == "open" and isinstance(arguments[2], int) and arguments[2] & WRITING:
            path = arguments[0]
        elif event in MOVING:
            path = arguments[1]
        elif event in ("os.remove", "os.rmdir") or (event == "os.mkdir" and not Path(arguments[0]).exists()):
            path = arguments[0]
        else:
            return
        if self.is_inside(path):
            self.count(event, os.fsdecode(path))

    def install(self) -> None:
        """Count from now on."""
        fsync, opened, counter = os.fsync, io.open, self

        def count_and_sync(descriptor: int) -> None:
            path = str(Path(f"/proc/self/fd/{descriptor}").readlink())
            if counter.is_inside(path):
                counter.count("fsync", path)
            fsync(descriptor)

        def open_counted(file: Any, mode: str = "r", *arguments: Any, **named: Any) -> Any:
            stream = opened(file, mode, *arguments, **named)
            return _Stream(stream, file, counter) if set(mode) & set("wxa+") and counter.is_inside(file) else stream

        sys.addaudithook(self.hear)
        os.fsync = count_and_sync
        io.open = builtins.open = open_counted  # type: ignore[assignment]


class _Stream:
    """A stream whose writes are counted."""

    def __init__(self, stream: Any, path: Any, counter: _Counter) -> None:
        self._stream, self._path, self._counter = stream, os.fsdecode(path), counter

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._stream.close()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)

    def write(self, content: Any) -> int:
        def tear() -> None:
            self._stream.write(content[: len(content) // 2])
            self._stream.flush()

        self._counter.count("write", self._path, tear)
        return int(self._stream.write(content))


def _stop_clocks(days: float) -> None:
    """Let the date stand still, and measured memory be the same."""
    from twobe3.validation import provenance

    class Clock(datetime):
        @classmethod
        def now(cls, tz: Any = None) -> Any:
            return datetime.fromtimestamp(NOW.timestamp() + days * 86_400, tz)

    now = time.time() + days * 86_400
    time.time = lambda: now
    provenance.datetime = Clock  # type: ignore[attr-defined]
    provenance.peak_memory_mib = lambda: 0.0  # type: ignore[attr-defined]


def _warm_up() -> None:
    """Import what commands import when they need it."""
    own = ("cli.main", "study.run", "study.predict", "study.explain", "report.paper", "models.registry")
    others = (
        "lightning_fabric", "monai.networks.nets", "nibabel", "pydicom.pixels",
        "scipy.ndimage", "skimage.measure", "sklearn.linear_model", "statsmodels.api",
    )  # fmt: skip
    for name in (*(f"twobe3.{one}" for one in own), *others):
        with suppress(ImportError):
            importlib.import_module(name)
    from twobe3.report import drawings, paper, viewer

    def draw(title: str, *_: object) -> drawings.Drawing:
        return drawings.Drawing(title.encode(), title.encode())

    for name in ("draw_cases", "draw_charts", "draw_forest", "draw_strips"):
        setattr(paper, name, draw)
    viewer.find_niivue = lambda: None  # as where it is not installed


def _do(arguments: list[str], fault: Fault, days: float, folder: Path, place: Path) -> NoReturn:
    """Do a command in this process, and end it."""
    os.setsid()
    for descriptor, name in ((1, "out"), (2, "err")):
        os.dup2(os.open(place / name, os.O_WRONLY | os.O_CREAT | os.O_TRUNC), descriptor)
    from twobe3.cli.main import main

    _stop_clocks(days)
    if fault.action == "EFBIG":
        resource.setrlimit(resource.RLIMIT_FSIZE, (fault.at, fault.at))
        fault = NONE
    if fault.in_worker:
        os.environ[_FAULT] = json.dumps([asdict(fault), str(folder), str(place / "writes")])
    else:
        _Counter(folder, place / "writes", fault).install()
    sys.argv, status = ["twobe3", *arguments], 99
    try:
        main()
        status = 0
    except SystemExit as end:
        status = end.code if isinstance(end.code, int) else 0
    except BaseException:
        traceback.print_exc()
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(status)


def _count_left(session: int) -> int:
    """Processes of a session, once they have had time to end."""
    end = time.monotonic() + GRACE_S
    while True:
        left = 0
        for stat in Path("/proc").glob("[0-9]*/stat"):
            with suppress(OSError):
                state, _, _, of, *_ = stat.read_text().rpartition(")")[2].split()
                left += of == str(session) and state != "Z"
        if not left or time.monotonic() > end:
            return left
        time.sleep(0.05)


def _serve(folder: Path, place: Path) -> None:
    """Do commands until there are no more."""
    _warm_up()
    for line in sys.stdin:
        order = json.loads(line)
        for path in place.iterdir():
            path.unlink()
        (place / "writes").touch()
        child = os.fork()
        if child == 0:
            _do(order["arguments"], Fault(**order["fault"]), order["days"], folder, place)
        _, code = os.waitpid(child, 0)
        left = _count_left(child)
        said = {name: (place / name).read_text(errors="replace") for name in ("out", "err", "writes")}
        said["writes"] = [line.split("\t") for line in said["writes"].splitlines()]  # type: ignore[misc]
        print(json.dumps({"status": os.waitstatus_to_exitcode(code), "left": left, **said}), flush=True)


if __name__ == "__main__":
    time.perf_counter = lambda: 0.0  # before anybody takes hold of it
    with TemporaryDirectory() as scratch:
        _serve(Path(sys.argv[1]), Path(scratch))
elif __name__ == "__mp_main__":  # a worker of such a command
    time.perf_counter = lambda: 0.0
    if _FAULT in os.environ:
        _fault, _folder, _log = json.loads(os.environ[_FAULT])
        _Counter(Path(_folder), Path(_log), Fault(**_fault)).install()
