"""Going through files: in order, alone or several at once, and giving up cleanly."""

import os
import threading
import time
import warnings
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from twobe3.dicom import walk as listing
from twobe3.dicom.reader import quietly
from twobe3.dicom.walk import list_files, map_files
from twobe3.scans.find import find_scans
from twobe3.scans.inspect import inspect
from twobe3.study.finished import Options, digest_inputs

PATHS = [Path(f"{i}.dcm") for i in range(200)]


def waited_for(path: Path) -> tuple[str, bool]:
    time.sleep(1e-3)
    return path.name, threading.current_thread() is threading.main_thread()


@pytest.mark.parametrize("threads", [1, 2, 7])
def test_results_come_in_the_order_of_the_files(threads: int) -> None:
    found = list(map_files(waited_for, PATHS, threads=threads))
    assert [name for name, _ in found] == [path.name for path in PATHS]
    assert {alone for _, alone in found} == {threads == 1}


@pytest.mark.parametrize("waiting", [True, False])
def test_files_are_read_at_once_where_they_make_one_wait(waiting: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    working_s = (lambda: 0.0) if waiting else time.perf_counter
    monkeypatch.setattr(listing.time, "thread_time", working_s)
    found = list(map_files(waited_for, PATHS))
    assert [name for name, _ in found] == [path.name for path in PATHS]
    assert {alone for _, alone in found} == ({True, False} if waiting else {True})


def test_who_stops_early_leaves_no_thread_behind() -> None:
    read: list[Path] = []

    def read_file(path: Path) -> Path:
        read.append(path)
        time.sleep(2e-3)
        return path

    paths = [Path(f"{i}.dcm") for i in range(2000)]
    results = map_files(read_file, paths, threads=2)
    assert next(results) == paths[0]
    results.close()
    assert len(read) < len(paths) / 2
    assert not [one for one in threading.enumerate() if one.name.startswith("twobe3-files")]


def test_an_error_reaches_the_caller_whole() -> None:
    def fail(path: Path) -> None:
        raise ValueError(path.name)

    with pytest.raises(ValueError, match=r"0\.dcm"):
        list(map_files(fail, PATHS, threads=2))


def test_warnings_are_as_before_when_several_threads_were_quiet() -> None:
    """Whoever leaves first must not turn the warnings on for the others, nor leave them off for good."""
    before = list(warnings.filters)
    inside, leave = threading.Barrier(2), threading.Event()

    def other() -> None:
        with quietly():
            inside.wait()
            leave.wait()

    thread = threading.Thread(target=other)
    with quietly():
        thread.start()
        inside.wait()
    assert warnings.filters[0][0] == "ignore"
    leave.set()
    thread.join()
    assert warnings.filters == before


def test_each_file_is_listed_once_under_its_own_path_where_it_has_one(tmp_path: Path) -> None:
    tree, beside = tmp_path / "tree", tmp_path / "beside"
    for folder in (tree / "z", beside / "deep"):
        folder.mkdir(parents=True)
    (tree / "z" / "own").touch()
    (beside / "deep" / "far").touch()
    (tree / "a").symlink_to("z")  # to a folder of the tree
    (tree / "b").symlink_to(tree / "z" / "own")
    (tree / "c").symlink_to(beside)
    (tree / "z" / "round").symlink_to(tree)
    (tree / "lost").symlink_to("nothing")
    os.mkfifo(tree / "pipe")
    (tree / "to-pipe").symlink_to("pipe")
    listed = list_files([tree, tree / "z", tree / "z" / "own"])
    assert sorted(listed.files) == [tree / "c" / "deep" / "far", tree / "z" / "own"]
    assert (listed.aliases, listed.broken, listed.n_other) == ((tree / "b",), (tree / "lost",), 2)


def test_a_long_chain_of_links_is_followed(tmp_path: Path) -> None:
    (tmp_path / "pool").mkdir()
    (tmp_path / "pool" / "image").touch()
    (tmp_path / "in").mkdir()
    for i in range(30):
        (tmp_path / f"{i}").symlink_to(tmp_path / (f"{i - 1}" if i else "pool"))
    (tmp_path / "in" / "last").symlink_to(tmp_path / "29")
    assert list_files([tmp_path / "in"]).files == (tmp_path / "in" / "last" / "image",)


def test_links_to_themselves_and_files_that_vanish_are_counted(
    bench: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder: Path = bench.save(bench.slices())
    (folder / "itself").symlink_to(folder / "itself")
    (folder / "loop").symlink_to(folder / "loop" / "deeper")
    gone = [folder / f"gone.{ending}" for ending in ("dcm", "zip", "nii", "nii.gz")]
    listed = listing.list_files

    def list_and_remove(paths: Sequence[Path]) -> listing.Listing:
        for path in gone:
            path.write_bytes(bytes(200))
        found = listed(paths)
        for path in gone:
            path.unlink()
        return found

    for module in ("twobe3.dicom.archive", "twobe3.scans.sidecar"):
        monkeypatch.setattr(f"{module}.list_files", list_and_remove)
    whole = find_scans([folder])
    assert len(whole.series) == 1
    codes = Counter(one.exclusion.code for one in whole.unused)
    assert codes["LINK_BROKEN"] == 1
    assert codes["CORRUPT_FILE"] >= 2
    assert len(inspect([folder]).series) >= 1
    (folder / "study.toml").touch()
    assert digest_inputs(folder / "study.toml", tmp_path / "out", ["."], Options())
