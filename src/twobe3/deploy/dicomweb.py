"""Studies out of an archive and results into it by DICOMweb: QIDO-RS, WADO-RS and STOW-RS (DICOM PS3.18, chapter 10).

Objects are fetched whole, in the transfer syntax that they were stored in: metadata in JSON lose what SUV are computed
from. Nothing that is logged or raised quotes an address below that of the service, for it holds the study's UID.
"""

from __future__ import annotations

import json
import logging
import re
import uuid
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from email.message import Message
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import urlsplit

import pydicom

from twobe3.core.codes import Code
from twobe3.core.errors import ConfigurationError, EmptyInputError, EnvironmentFailure, UnusableScanError
from twobe3.core.extras import import_optional
from twobe3.deploy.address import is_loopback
from twobe3.deploy.credentials import Credentials
from twobe3.deploy.queue import MOST_FILES
from twobe3.dicom.derived import MAKER
from twobe3.dicom.integrity import LARGEST_OBJECT_BYTES, read_whole
from twobe3.dicom.reader import quietly, text
from twobe3.io.files import write_atomic
from twobe3.runtime.progress import track

WANTED = ("PT", "RTSTRUCT", "SEG")
"""Modalities of the series that are fetched: what is predicted, and what is drawn on it."""
MOST_BYTES = 2**34
"""Of one study, 16 GiB."""
_LARGEST_JSON_BYTES = 2**26
_CONNECT_S = 10.0
_CHUNK_BYTES = 2**20
_JSON, _PART10 = "application/dicom+json", "application/dicom"
_WHOLE = f'multipart/related; type="{_PART10}"; transfer-syntax=*'  # as it was stored: nothing is encoded anew
_SERIES, _OBJECT, _MODALITY = "0020000E", "00080018", "00080060"
_STORED, _REFERENCED = "00081199", "00081155"  # of the answer to STOW-RS, DICOM PS3.18 annex I.2
_ABSENT, _NO_CONTENT = (404, 410), 204
_UID = re.compile(r"[0-9.]{1,64}")
_AGAIN = "run the command again; if it ends so once more, the archive's copy is damaged"


class _Answer(NamedTuple):
    """What an archive has answered."""

    status: int
    content_type: str
    body: bytes


@dataclass(frozen=True)
class DicomWeb:
    """An archive that speaks DICOMweb.

    Parameters
    ----------
    url : str
        Address of the service, for instance ``https://pacs.example.org/dicom-web``. Over https the certificate is
        verified, with the authorities in the file that ``REQUESTS_CA_BUNDLE`` names if it is set. No redirect is
        followed.
    credentials : Credentials
        User and password, or a bearer token; none by default. Plain http takes them to this machine alone.
    timeout_s : float
        How long the archive may be silent.

    Raises
    ------
    ConfigurationError
        ``URL_INVALID``; ``CREDENTIALS_EXPOSED``.
    """

    url: str
    credentials: Credentials = field(default=Credentials(), repr=False)
    timeout_s: float = 60.0

    def __post_init__(self) -> None:
        try:
            parts = urlsplit(self.url)
            host, user, _ = parts.hostname, parts.username, parts.port  # the port raises where it is no number
        except ValueError:
            raise ConfigurationError(Code.URL_INVALID, "it is no address") from None
        if parts.scheme not in ("http", "https") or not host or parts.query or parts.fragment:
            raise ConfigurationError(Code.URL_INVALID, "it is no http or https address of a service")
        if user is not None:
            raise ConfigurationError(Code.URL_INVALID, "it holds a user, whom everybody on the machine can see there")
        if self.credentials and parts.scheme == "http" and not is_loopback(host):
            raise ConfigurationError(Code.CREDENTIALS_EXPOSED, f"{host} is another machine, and http is not encrypted")

    def fetch(self, study_uid: str, folder: Path | str, *, progress: bool = False) -> list[Path]:
        """Fetch the PET series of a study, and what is drawn on them, into a folder.

        Every object is checked like those that the node is sent (:func:`~twobe3.dicom.integrity.read_whole`). What
        twobe3 itself made is left out. A study may have 20,000 such objects and :data:`MOST_BYTES`.

        Parameters
        ----------
        study_uid : str
            StudyInstanceUID.
        folder : path
            Holds the patient's identity afterwards.
        progress : bool
            Whether a progress bar is shown on standard error.

        Returns
        -------
        list of Path
            The files.

        Raises
        ------
        EmptyInputError
            ``STUDY_MISSING``: the archive has no such study. ``NO_PET``: the study has none.
        UnusableScanError
            ``CORRUPT_FILE``, ``FETCH_FAILED``, ``TOO_LARGE``: an object is not whole, is not given, or is too large.
        ConfigurationError
            ``STUDY_MISSING``: this is no UID.
        EnvironmentFailure
            ``ARCHIVE_UNREACHABLE``, ``ACCESS_DENIED``, ``ANSWER_INVALID``; ``WRITE_FAILED``; ``EXTRA_MISSING``.
        """
        if not _UID.fullmatch(study_uid):
            raise ConfigurationError(Code.STUDY_MISSING, "a StudyInstanceUID is up to 64 digits and points")
        paths, size = list[Path](), 0
        with self._connect() as server:
            objects = _list_objects(server, study_uid)
            for number, (path, uid) in enumerate(track(objects, "Fetching objects", shown=progress)):
                content = _retrieve(server, path)
                size += len(content)
                if size > MOST_BYTES:
                    raise UnusableScanError(Code.TOO_LARGE, f"the study has more than {MOST_BYTES} bytes")
                if _check(content, study_uid, uid) != MAKER:
                    paths.append(Path(folder) / f"{number:05d}.dcm")
                    write_atomic(paths[-1], content)
        return paths

    def store(self, files: Sequence[Path]) -> None:
        """Store objects.

        Raises
        ------
        EnvironmentFailure
            ``SEND_FAILED``: the archive did not take one of them; those before it are there.
            ``ARCHIVE_UNREACHABLE``, ``ACCESS_DENIED``, ``ANSWER_INVALID``; ``EXTRA_MISSING``.
        """
        with self._connect() as server:
            for file in files:
                _store(server, file)

    @contextmanager
    def _connect(self) -> Iterator[_Server]:
        requests = import_requests()
        with requests.Session() as session:
            session.auth = self.credentials.sign  # also where there are none, or ~/.netrc is asked
            session.trust_env = self.url.startswith("https:")  # what is not encrypted passes no proxy
            session.headers["Accept-Encoding"] = "identity"  # or the length that is announced says little
            yield _Server(self.url.rstrip("/"), session, requests.exceptions, self.timeout_s)


@dataclass(frozen=True)
class _Server:
    """A session with an archive: answers are bounded, and errors have codes."""

    url: str
    session: Any
    errors: Any
    timeout_s: float

    def ask(self, method: str, path: str, headers: Mapping[str, str], *, most_bytes: int, **content: Any) -> _Answer:
        """Ask, and give the answer unless it says that nothing is to be had here.

        Raises EnvironmentFailure ``ARCHIVE_UNREACHABLE``, ``ACCESS_DENIED``, ``ANSWER_INVALID``; UnusableScanError
        ``FETCH_FAILED``, ``TOO_LARGE``.
        """
        try:
            with self.session.request(
                method, f"{self.url}/{path}", headers=headers, timeout=(_CONNECT_S, self.timeout_s),
                allow_redirects=False, stream=True, **content,
            ) as response:  # fmt: skip
                _require_service(response.status_code)
                body = _read_bounded(response, most_bytes)
                return _Answer(response.status_code, response.headers.get("Content-Type", ""), body)
        except (self.errors.ChunkedEncodingError, self.errors.ContentDecodingError):
            raise UnusableScanError(Code.FETCH_FAILED, "an answer of the archive ends early", remedy=_AGAIN) from None
        except self.errors.SSLError as error:
            if "CERTIFICATE_VERIFY_FAILED" not in str(error):  # http at that port, or another version of TLS
                remedy = "check that the address is one of https"
                raise EnvironmentFailure(
                    Code.ARCHIVE_UNREACHABLE, "no TLS connection comes about", remedy=remedy
                ) from None
            remedy = "name the file of the authority that issued it in REQUESTS_CA_BUNDLE"
            reason = "the certificate of the archive is not trusted"
            raise EnvironmentFailure(Code.ARCHIVE_UNREACHABLE, reason, remedy=remedy) from None
        except self.errors.RequestException as error:  # its message quotes the address
            reason = f"no answer within {self.timeout_s:g} s or no connection ({type(error).__name__})"
            raise EnvironmentFailure(Code.ARCHIVE_UNREACHABLE, reason) from None


def import_requests() -> Any:
    """Import requests, silent: what it stands on quotes addresses with UIDs.

    Raises EnvironmentFailure ``EXTRA_MISSING``.
    """
    package = import_optional("requests", "DICOMweb", extra="node")
    logging.getLogger("urllib3").setLevel(logging.CRITICAL + 1)
    return package


def _require_service(status: int) -> None:
    """Refuse an answer that is none to what was asked."""
    if status in (401, 403):
        raise EnvironmentFailure(Code.ACCESS_DENIED, f"the archive answers {status}")
    if 300 <= status < 400:
        remedy = "give the address that it leads to, if that is the archive's"
        raise EnvironmentFailure(Code.ANSWER_INVALID, "the archive redirects to another address", remedy=remedy)
    if status >= 500:
        raise EnvironmentFailure(Code.ANSWER_INVALID, f"the archive answers {status}", remedy="ask who runs it")


def _read_bounded(response: Any, most_bytes: int) -> bytes:
    body = bytearray()
    for chunk in response.iter_content(_CHUNK_BYTES):
        body += chunk
        if len(body) > most_bytes:
            raise UnusableScanError(Code.TOO_LARGE, f"an answer of the archive has more than {most_bytes} bytes")
    return bytes(body)


def _list_objects(server: _Server, study_uid: str) -> list[tuple[str, str]]:
    """Path and UID of every object that is wanted."""
    series = _search(server, f"studies/{study_uid}/series", _SERIES, _MODALITY)
    if not series:
        raise EmptyInputError(Code.STUDY_MISSING, "the archive has no such study")
    if "PT" not in series.values():
        raise EmptyInputError(Code.NO_PET, "the archive has no PET of the study")
    objects: list[tuple[str, str]] = []
    for one, modality in series.items():
        if modality in WANTED:
            path = f"studies/{study_uid}/series/{one}/instances"
            objects += [(f"{path}/{uid}", uid) for uid in _search(server, path, _OBJECT, _OBJECT)]
        if len(objects) > MOST_FILES:
            raise UnusableScanError(Code.TOO_LARGE, f"the study has more than {MOST_FILES} objects")
    return objects


def _search(server: _Server, path: str, key: str, value: str) -> dict[str, str]:
    """From one attribute, a UID, to another one, of all that a query finds; how much comes at once, servers choose."""
    found: dict[str, str] = {}
    while len(found) <= MOST_FILES:
        answer = server.ask(
            "GET", path, {"Accept": _JSON}, most_bytes=_LARGEST_JSON_BYTES, params={"offset": len(found)}
        )
        rows = [] if answer.status in (*_ABSENT, _NO_CONTENT) else _read_json(answer)
        page = {_value(row, key): _value(row, value) for row in rows}
        if not all(map(_UID.fullmatch, page)):
            raise EnvironmentFailure(Code.ANSWER_INVALID, "the archive lists something that has no UID")
        if page.keys() <= found.keys():
            break
        found |= page
    return found


def _read_json(answer: _Answer) -> list[dict[str, Any]]:
    """The data sets of an answer (DICOM PS3.18 annex F)."""
    try:
        rows = json.loads(answer.body)
    except (ValueError, RecursionError):
        rows = None
    rows = [rows] if isinstance(rows, dict) else rows
    if not isinstance(rows, list) or not all(isinstance(row, dict) for row in rows):
        raise EnvironmentFailure(Code.ANSWER_INVALID, f"the archive answers {answer.status}, and no DICOM JSON")
    return rows


def _values(row: Mapping[str, Any], tag: str) -> list[Any]:
    element = row.get(tag)
    values = element.get("Value") if isinstance(element, dict) else None
    return values if isinstance(values, list) else []


def _value(row: Mapping[str, Any], tag: str) -> str:
    return str(next(iter(_values(row, tag)), "")).strip(" \0")


def _retrieve(server: _Server, path: str) -> bytes:
    """An object as a file."""
    answer = server.ask("GET", path, {"Accept": _WHOLE}, most_bytes=LARGEST_OBJECT_BYTES)
    if answer.status in _ABSENT:
        reason = "the archive lists an object that it does not give"
        raise UnusableScanError(Code.FETCH_FAILED, reason, remedy=_AGAIN)
    header = Message()
    header["Content-Type"] = answer.content_type
    kind, boundary = header.get_content_type(), header.get_boundary()
    if answer.status == 200 and kind == _PART10:  # as some archives send a single object
        return answer.body
    if answer.status != 200 or kind != "multipart/related" or not boundary:
        raise EnvironmentFailure(Code.ANSWER_INVALID, f"the archive answers {answer.status} with {kind!r}")
    return _unpack(answer.body, boundary.encode())


def _unpack(body: bytes, boundary: bytes) -> bytes:
    """The only part of a multipart answer (RFC 2046, section 5.1.1)."""
    opening = body.find(b"--" + boundary)
    start = body.find(b"\r\n\r\n", opening)
    end = body.rfind(b"\r\n--" + boundary + b"--")
    if not 0 <= opening <= start < end:
        raise UnusableScanError(Code.FETCH_FAILED, "an answer of the archive ends early", remedy=_AGAIN)
    return body[start + 4 : end]


def _check(content: bytes, study_uid: str, uid: str) -> str:
    """Refuse an object that is not whole, or not the one asked for; returns its manufacturer."""
    with quietly():
        dataset = read_whole(content)
        found = text(dataset, "StudyInstanceUID"), text(dataset, "SOPInstanceUID")
        if found != (study_uid, uid):
            raise EnvironmentFailure(Code.ANSWER_INVALID, "the archive gives another object than it was asked for")
        return text(dataset, "Manufacturer")


def _store(server: _Server, file: Path) -> None:
    """Store an object; success is that the answer names it among those stored."""
    boundary, content = uuid.uuid4().hex, file.read_bytes()
    body = f"--{boundary}\r\nContent-Type: {_PART10}\r\n\r\n".encode() + content + f"\r\n--{boundary}--\r\n".encode()
    headers = {"Accept": _JSON, "Content-Type": f'multipart/related; type="{_PART10}"; boundary={boundary}'}
    uid = str(pydicom.dcmread(file, specific_tags=["SOPInstanceUID"]).SOPInstanceUID)
    try:
        answer = server.ask("POST", "studies", headers, most_bytes=_LARGEST_JSON_BYTES, data=body)
        rows = _read_json(answer) if answer.status in (200, 202) else []
    except UnusableScanError as refusal:
        raise EnvironmentFailure(Code.SEND_FAILED, refusal.reason) from None
    stored = {_value(item, _REFERENCED) for row in rows for item in _values(row, _STORED)}
    if uid not in stored:
        raise EnvironmentFailure(
            Code.SEND_FAILED, f"the archive answers {answer.status}, and does not say it is stored"
        )
