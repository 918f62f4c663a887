import errno
import hashlib
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from twobe3.core.errors import EnvironmentFailure
from twobe3.io import files
from twobe3.io.files import PARTIAL_AGE_S, digest, digest_file, remove_partials, write_atomic, write_json


def names(folder: Path) -> list[str]:
    return [path.name for path in folder.iterdir()]


def test_a_file_is_written_whole(tmp_path: Path) -> None:
    target = tmp_path / "new" / "deep" / "a.bin"
    write_atomic(target, b"one")
    write_atomic(target, b"two")
    assert target.read_bytes() == b"two"
    assert names(target.parent) == ["a.bin"]


WRITER = """
import os, sys
from pathlib import Path
from twobe3.io.files import write_atomic
os.fsync = lambda _: (print("writing", flush=True), sys.stdin.read())
write_atomic(Path(sys.argv[1], "deep", "a.bin"), b"content")
"""


def test_what_a_killed_writer_left_is_removed_and_what_a_live_one_writes_is_not(tmp_path: Path) -> None:
    command = [sys.executable, "-c", WRITER, str(tmp_path)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as writer:
        assert writer.stdout is not None
        writer.stdout.readline()
        (partial,) = (tmp_path / "deep").iterdir()
        remove_partials(tmp_path)
        assert partial.exists()
        writer.kill()
        writer.wait()
        remove_partials(tmp_path)
        assert names(tmp_path / "deep") == []


@pytest.mark.parametrize("name", [f".partial-00000000-1-{'0' * 16}", ".partial-1f", "own"])
def test_what_another_system_may_be_writing_is_removed_a_day_later(tmp_path: Path, name: str) -> None:
    (tmp_path / name).touch()
    remove_partials(tmp_path)
    assert names(tmp_path) == [name]
    long_ago = (tmp_path / name).stat().st_mtime - PARTIAL_AGE_S - 60
    os.utime(tmp_path / name, (long_ago, long_ago))
    remove_partials(tmp_path)
    assert names(tmp_path) == [name] * (name == "own")


@pytest.mark.parametrize("where", ["write", "fsync", "replace"])
@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EIO, errno.EDQUOT])
def test_a_fault_leaves_the_old_file_and_no_other(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, where: str, number: int
) -> None:
    target = tmp_path / "a.json"
    write_atomic(target, b"old")

    def fail(*_: Any, **__: Any) -> None:
        raise OSError(number, os.strerror(number))

    class Full:
        """A stream whose disk is full."""

        def __init__(self, path: Path, mode: str) -> None:
            assert mode == "xb"
            path.touch(exist_ok=False)

        def __enter__(self) -> "Full":
            return self

        def __exit__(self, *_: object) -> None: ...

        write = fail

    with monkeypatch.context() as patch:
        if where == "write":
            patch.setattr(Path, "open", lambda path, mode: Full(path, mode))
        elif where == "fsync":
            patch.setattr(os, "fsync", fail)
        else:
            patch.setattr(Path, "replace", fail)
            patch.setattr(os, "replace", fail)
        with pytest.raises(
            EnvironmentFailure, match=f"WRITE_FAILED: a.json could not be written: {os.strerror(number)}"
        ) as e:
            write_atomic(target, b"new")
    assert str(tmp_path) not in str(e.value)
    assert target.read_bytes() == b"old"
    assert names(tmp_path) == ["a.json"]


def test_an_interruption_leaves_the_old_file_and_no_other(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    target = tmp_path / "a.json"
    write_atomic(target, b"old")

    def interrupt(_: int) -> None:
        raise SystemExit(143)

    monkeypatch.setattr(os, "fsync", interrupt)
    with pytest.raises(SystemExit):
        write_atomic(target, b"new")
    assert target.read_bytes() == b"old"
    assert names(tmp_path) == ["a.json"]


def test_a_kill_at_any_moment_leaves_the_old_or_the_new_file(tmp_path: Path) -> None:
    target = tmp_path / "a.bin"
    write_atomic(target, b"old")
    script = (
        "import os, sys; from pathlib import Path; from twobe3.io.files import write_atomic\n"
        "real = os.fsync\n"
        "def dying(descriptor):\n"
        "    if dying.left == 0: os._exit(9)\n"
        "    dying.left -= 1; real(descriptor)\n"
        "dying.left = int(sys.argv[2]); os.fsync = dying\n"
        "write_atomic(Path(sys.argv[1]), b'new')\n"
    )
    seen = []
    for allowed in (0, 1):  # before the file is on the disk; before its folder is
        code = subprocess.run([sys.executable, "-c", script, target, str(allowed)], check=False).returncode
        assert code == 9
        seen.append(target.read_bytes())
    assert seen == [b"old", b"new"]


def test_a_folder_that_cannot_be_made(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(EnvironmentFailure, match="WRITE_FAILED"):
        write_atomic(tmp_path / "file" / "a", b"x")


def test_json_is_strict(tmp_path: Path) -> None:
    write_json(tmp_path / "a.json", {"b": "ü", "a": [1, None]})
    text = (tmp_path / "a.json").read_text("utf-8")
    assert json.loads(text) == {"b": "ü", "a": [1, None]}
    assert text.index('"b"') < text.index('"a"')
    with pytest.raises(ValueError, match="JSON"):
        write_json(tmp_path / "b.json", {"a": float("nan")})
    assert not (tmp_path / "b.json").exists()


def test_a_digest_tells_how_its_parts_are_cut() -> None:
    lists: list[list[bytes | str]] = [["ab", "c"], ["a", "bc"], ["abc"], ["abc", ""], [], ["c", "ab"]]
    assert len({digest(parts) for parts in lists}) == len(lists)
    assert digest(["ü"]) == digest(["ü".encode()])
    assert digest(["abc"]) == hashlib.sha256((3).to_bytes(8, "big") + b"abc").hexdigest()


def test_the_digest_of_a_file_is_sha256(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(b"abc")
    # FIPS 180-2, appendix B.1
    assert digest_file(tmp_path / "a") == "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"


def test_on_windows_no_process_is_signalled_and_no_folder_opened(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise AssertionError("os.kill ends a process there, and folders cannot be opened")

    left = tmp_path / f".partial-{files._system()}-1-{'0' * 16}"
    left.touch()
    monkeypatch.setattr(files, "WINDOWS", True)
    monkeypatch.setattr("os.kill", refuse)
    with monkeypatch.context() as patch:
        patch.setattr("os.open", refuse)
        files._sync_folder(tmp_path)
    files.remove_partials(tmp_path)
    assert left.exists()  # whoever writes it may be at work
    os.utime(left, (0, 0))
    files.remove_partials(tmp_path)
    assert not left.exists()
