import hashlib
import hmac
import re
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from twobe3.core.errors import EnvironmentFailure
from twobe3.io import pseudonym as module
from twobe3.io.pseudonym import KEY_VARIABLE, key_file, pseudonym

HOSTILE = ["../../etc/x", "a\0b", "x" * 300, "CON", "", " ", "=cmd()", "é", "\udcff", "a/b\\c:d*?", "\n"]


@pytest.fixture
def key(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    path = tmp_path / "config" / "a.key"
    monkeypatch.setenv(KEY_VARIABLE, str(path))
    return path


def test_it_is_hmac_sha256_under_the_key(key: Path) -> None:
    key.parent.mkdir()
    key.write_bytes(bytes(range(32)))
    expected = hmac.new(bytes(range(32)), b"patient\0P1", hashlib.sha256).hexdigest()
    assert pseudonym("patient", "P1") == f"pa-{expected[:12]}"


def test_it_is_stable_and_depends_on_kind_identifier_and_key(key: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first = pseudonym("patient", "P1")
    module._key.cache_clear()
    assert pseudonym("patient", "P1") == first
    monkeypatch.setenv(KEY_VARIABLE, str(key.with_name("b.key")))
    others = {pseudonym("patient", "P1"), pseudonym("patient", "P2"), pseudonym("series", "P1")}
    assert len({first, *others}) == 4


@pytest.mark.parametrize("identifier", HOSTILE)
def test_any_identifier_becomes_a_safe_file_name(key: Path, identifier: str) -> None:
    assert re.fullmatch(r"pa-[0-9a-f]{12}", pseudonym("patient", identifier))


def test_hostile_identifiers_stay_apart(key: Path) -> None:
    assert len({pseudonym("patient", identifier) for identifier in HOSTILE}) == len(HOSTILE)


def test_the_key_is_the_owners_alone(key: Path) -> None:
    pseudonym("patient", "P1")
    assert len(key.read_bytes()) == 32
    assert stat.S_IMODE(key.stat().st_mode) == 0o600
    assert [path.name for path in key.parent.iterdir()] == ["a.key"]


def test_where_the_key_lies(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.delenv(KEY_VARIABLE, raising=False)
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))
    assert key_file() == tmp_path / "twobe3" / "pseudonym.key"
    monkeypatch.delenv("XDG_CONFIG_HOME")
    monkeypatch.setenv("HOME", str(tmp_path))
    assert key_file() == tmp_path / ".config" / "twobe3" / "pseudonym.key"


@pytest.mark.parametrize("mode", [0o600, 0o640, 0o604])
def test_a_key_that_others_may_read_is_said_once(key: Path, caplog: pytest.LogCaptureFixture, mode: int) -> None:
    key.parent.mkdir()
    key.write_bytes(b"k" * 32)
    key.chmod(mode)
    for patient in ("P1", "P2"):
        pseudonym("patient", patient)
    told = [record.getMessage() for record in caplog.records]
    assert [text[:12] for text in told] == ["KEY_EXPOSED:"] * (mode != 0o600)
    assert all("chmod 600" in text and str(key.parent) not in text for text in told)


@pytest.mark.parametrize("content", [b"", b"short"])
def test_half_a_key_is_refused(key: Path, content: bytes) -> None:
    key.parent.mkdir()
    key.write_bytes(content)
    with pytest.raises(EnvironmentFailure, match=f"ARTEFACT_DAMAGED: .* has {len(content)} bytes") as refused:
        pseudonym("patient", "P1")
    assert "backup" in refused.value.remedy
    assert "delete" not in refused.value.remedy


def test_a_key_that_cannot_be_made(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setenv(KEY_VARIABLE, str(tmp_path / "file" / "a.key"))
    with pytest.raises(EnvironmentFailure, match=f"WRITE_FAILED: .*{KEY_VARIABLE}") as refused:
        pseudonym("patient", "P1")
    assert str(tmp_path) not in str(refused.value)


def test_a_key_made_meanwhile_wins(key: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def made_by_another(_: int) -> bytes:
        key.write_bytes(b"k" * 32)
        return b"m" * 32

    monkeypatch.setattr(module.secrets, "token_bytes", made_by_another)
    pseudonym("patient", "P1")
    assert key.read_bytes() == b"k" * 32
    assert [path.name for path in key.parent.iterdir()] == ["a.key"]


def test_processes_that_start_together_agree(key: Path) -> None:
    script = "from twobe3.io.pseudonym import pseudonym; print(pseudonym('patient', 'P1'))"
    processes = [subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE, text=True) for _ in range(6)]
    said = {process.communicate()[0].strip() for process in processes}
    assert len(said) == 1
    assert said == {pseudonym("patient", "P1")}
