"""Secrets in files: read by their owner, refused where others could read them, and never quoted."""

from __future__ import annotations

from pathlib import Path

import pytest

from twobe3.core.codes import Code
from twobe3.core.errors import ConfigurationError
from twobe3.io.secret import read_secret


def test_what_is_blank_around_it_is_no_part(tmp_path: Path) -> None:
    path = tmp_path / "token"
    path.write_text("  secret words \n")
    path.chmod(0o600)
    assert read_secret(path, Code.TOKEN_INVALID) == "secret words"


@pytest.mark.parametrize(
    ("content", "mode", "said"),
    [
        (b"secret", 0o640, "others than its owner may read token"),
        (b"secret", 0o604, "others than its owner may read token"),
        (b" \n", 0o600, "token is empty"),
        (b"\xff\xfe", 0o600, "token is no text"),
    ],
)
def test_others_and_nonsense_are_refused(tmp_path: Path, content: bytes, mode: int, said: str) -> None:
    path = tmp_path / "token"
    path.write_bytes(content)
    path.chmod(mode)
    with pytest.raises(ConfigurationError, match=f"^TOKEN_INVALID: {said}") as caught:
        read_secret(path, Code.TOKEN_INVALID)
    assert "secret" not in str(caught.value)


def test_a_file_that_is_not_there_is_told_in_words(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="none: No such file or directory"):
        read_secret(tmp_path / "none", Code.CREDENTIALS_INVALID)
    with pytest.raises(ConfigurationError, match="Is a directory"):
        read_secret(tmp_path, Code.CREDENTIALS_INVALID)
