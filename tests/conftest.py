"""Fixtures for every test: the real data, and a pseudonym key of the test's own."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from twobe3 import pseudonym


@pytest.fixture(scope="session")
def real_data() -> Path:
    """The folder of real PET that ``TWOBE3_DATA`` names."""
    folder = os.environ.get("TWOBE3_DATA")
    if not folder:
        pytest.skip("TWOBE3_DATA is not set: it must name the folder of unpacked real PET data")
    return Path(folder)


@pytest.fixture(autouse=True, scope="session")
def _own_key(tmp_path_factory: pytest.TempPathFactory) -> None:
    os.environ[pseudonym.KEY_VARIABLE] = str(tmp_path_factory.mktemp("key") / "pseudonym.key")
