"""The bytes of a safetensors file: what the library reads back, in one order."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from safetensors import deserialize, safe_open
from safetensors.numpy import load

from twobe3.io.arrays import to_safetensors

ARRAYS = {
    "image": np.asfortranarray(np.arange(12, dtype=np.float32).reshape(3, 4)),
    "mask": np.array([True, False, True]),
    "half": np.arange(3, dtype=np.float16),
    "none": np.zeros((0, 4)),
    "number": np.array(3.5),
}
METADATA = {"spacing_mm": "[4.0, 4.0]", 'ä "quoted"\n': "ü \\ \u2028 \x1f", "checksum": "1 ab", "": ""}


@pytest.mark.parametrize("arrays", [ARRAYS, {}], ids=["some", "none"])
def test_the_library_reads_back_what_was_given(arrays: dict[str, np.ndarray], tmp_path: Path) -> None:
    content = to_safetensors(arrays, METADATA)
    found = load(content)
    assert found.keys() == arrays.keys()
    for name, array in arrays.items():
        assert found[name].dtype == array.dtype
        np.testing.assert_array_equal(found[name], array)
    assert {name for name, _ in deserialize(content)} == arrays.keys()
    (tmp_path / "a").write_bytes(content)
    with safe_open(tmp_path / "a", framework="numpy") as stored:
        assert stored.metadata() == METADATA


def test_data_begin_at_a_multiple_of_eight_bytes() -> None:
    for n in range(9):
        content = to_safetensors({"a": np.zeros(2)}, {"text": "x" * n})
        assert int.from_bytes(content[:8], "little") % 8 == 0


SCRIPT = """
import sys, numpy as np
from twobe3.io.arrays import to_safetensors
names = sys.argv[1].split()
sys.stdout.buffer.write(to_safetensors({name: np.arange(3.0) for name in names}, {name: name for name in names}))
"""


def test_the_bytes_depend_on_neither_order_nor_process() -> None:
    names = [f"name{i}" for i in range(12)]
    given = [" ".join(names), " ".join(reversed(names))]
    written = {
        subprocess.run(
            [sys.executable, "-c", SCRIPT, order], env={**os.environ, "PYTHONHASHSEED": seed}, capture_output=True,
            check=True,
        ).stdout
        for order, seed in zip(given, ("1", "2"), strict=True)
    }  # fmt: skip
    assert len(written) == 1
    assert written.pop()
