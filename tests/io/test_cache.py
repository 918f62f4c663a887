import logging
import os
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from safetensors import safe_open

from twobe3.core.errors import EnvironmentFailure
from twobe3.io import cache as module
from twobe3.io.cache import Arrays, Cache, ReadOnlyCache
from twobe3.io.files import digest

KEY = digest(["key"])
ENTRY: Arrays = {
    "suv": np.arange(24, dtype=np.float32).reshape(2, 3, 4),
    "mask": np.array([True, False]),
    "number": np.array(3.5),
    "none": np.zeros((0, 4)),
}


def names(folder: Path) -> list[str]:
    return [path.name for path in folder.iterdir()]


def never() -> Arrays:
    raise AssertionError("computed again")


def same(one: Arrays, other: Arrays) -> bool:
    return one.keys() == other.keys() and all(
        one[k].dtype == other[k].dtype and one[k].shape == other[k].shape and np.array_equal(one[k], other[k])
        for k in one
    )


@pytest.fixture(params=["folder", "memory"])
def cache(request: pytest.FixtureRequest, tmp_path: Path) -> Cache:
    return Cache(tmp_path / "cache" if request.param == "folder" else None)


def test_an_entry_is_computed_once(cache: Cache) -> None:
    assert cache.get(KEY) is None
    first = cache.get_or_compute(KEY, lambda: ENTRY)
    second = cache.get_or_compute(KEY, never)
    assert same(first, ENTRY)
    assert same(second, ENTRY)
    assert (cache.computed, cache.reused) == (1, 1)
    assert cache.get(digest(["other"])) is None


def test_an_entry_that_fails_is_not_stored(cache: Cache) -> None:
    with pytest.raises(AssertionError):
        cache.get_or_compute(KEY, never)
    assert cache.get(KEY) is None
    assert (cache.computed, cache.reused) == (0, 0)


def test_arrays_of_any_layout(cache: Cache) -> None:
    fortran = np.asfortranarray(np.arange(12.0).reshape(3, 4))
    entry = {"fortran": fortran, "view": fortran[::-1, ::2], "transposed": fortran.T}
    cache.put(KEY, entry)
    found = cache.get(KEY)
    assert found is not None
    assert same(found, entry)


def test_an_entry_survives_the_process_and_tells_what_it_is(tmp_path: Path) -> None:
    Cache(tmp_path).get_or_compute(KEY, lambda: ENTRY, metadata={"spacing_mm": "[4.0, 4.0, 4.0]"})
    assert same(Cache(tmp_path).get_or_compute(KEY, never), ENTRY)
    assert names(tmp_path) == [f"{KEY}.safetensors"]
    with safe_open(tmp_path / f"{KEY}.safetensors", framework="numpy") as stored:
        assert stored.metadata()["spacing_mm"] == "[4.0, 4.0, 4.0]"


def flip_last_byte(content: bytes) -> bytes:
    return content[:-1] + bytes([content[-1] ^ 1])


def flip_name(content: bytes) -> bytes:
    return content.replace(b'"mask"', b'"mosk"')


DAMAGES: dict[str, Callable[[bytes], bytes]] = {
    "one bit": flip_last_byte,
    "a name": flip_name,
    "truncated": lambda content: content[: len(content) // 2],
    "empty": lambda content: b"",
    "another file": lambda content: b"PK\x03\x04 nothing of ours",
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damaged_entry_is_set_aside_and_made_again(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, damage: str
) -> None:
    cache = Cache(tmp_path)
    cache.put(KEY, ENTRY)
    file = tmp_path / f"{KEY}.safetensors"
    good = file.read_bytes()
    bad = DAMAGES[damage](good)
    assert bad != good
    file.write_bytes(bad)
    with caplog.at_level(logging.WARNING, "twobe3"):
        assert same(cache.get_or_compute(KEY, lambda: ENTRY), ENTRY)
    assert (cache.computed, cache.reused) == (1, 0)
    assert [record.getMessage()[:16] for record in caplog.records] == ["ARTEFACT_DAMAGED"]
    assert file.read_bytes() == good
    assert (tmp_path / f"{KEY}.damaged").read_bytes() == bad


def test_another_run_may_set_the_damaged_entry_aside_first(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / f"{KEY}.safetensors"
    file.write_bytes(b"damaged")
    there = Path.exists

    def gone_after_the_look(path: Path) -> bool:
        found = there(path)
        file.unlink(missing_ok=True)
        return found

    monkeypatch.setattr(Path, "exists", gone_after_the_look)
    assert Cache(tmp_path).get(KEY) is None


def test_a_full_disk_leaves_the_old_entry(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    cache = Cache(tmp_path)
    cache.put(KEY, ENTRY)

    def full(_: int) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", full)
        with pytest.raises(EnvironmentFailure, match=r"WRITE_FAILED: .*No space left"):
            cache.put(KEY, {"suv": np.zeros(3)})
    found = cache.get(KEY)
    assert found is not None
    assert same(found, ENTRY)
    assert names(tmp_path) == [f"{KEY}.safetensors"]


def test_an_entry_of_another_version_is_made_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    cache = Cache(tmp_path)
    cache.put("aa", {"x": np.zeros(2)})
    monkeypatch.setattr(module, "CACHE_VERSION", module.CACHE_VERSION + 1)
    assert cache.get("aa") is None
    made = cache.get_or_compute("aa", lambda: {"x": np.ones(2)})
    assert made["x"].tolist() == [1.0, 1.0]
    assert cache.get("aa") is not None


@pytest.mark.parametrize("keep", [True, False])
def test_a_cache_that_only_reads_leaves_its_folder_as_it_is(tmp_path: Path, keep: bool) -> None:
    Cache(tmp_path).put("a1", {"x": np.arange(3)})
    (tmp_path / "b2.safetensors").write_bytes(b"damaged")
    before = {path: path.read_bytes() for path in tmp_path.iterdir()}
    cache = ReadOnlyCache(tmp_path, keep=keep)
    found = cache.get("a1")
    assert found is not None
    assert found["x"].tolist() == [0, 1, 2]
    assert cache.get("b2") is None
    for _ in range(2):
        assert cache.get_or_compute("c3", lambda: {"x": np.ones(2)})["x"].tolist() == [1, 1]
    assert (cache.computed, cache.reused) == ((1, 1) if keep else (2, 0))
    assert cache.size_bytes() == (16 if keep else 0)
    assert {path: path.read_bytes() for path in tmp_path.iterdir()} == before
