"""Zip files and DICOMDIR as input beside folders; neither may lead out of itself or grow without bound."""

from __future__ import annotations

import atexit
import io
import shutil
import stat
import tempfile
import zipfile
from collections.abc import Sequence
from dataclasses import replace
from functools import cache
from pathlib import Path, PurePosixPath, PureWindowsPath

from pydicom.uid import MediaStorageDirectoryStorage

from twobe3.core.codes import Code
from twobe3.core.errors import EnvironmentFailure, UnusableScanError
from twobe3.dicom.reader import items, quietly, read_dataset, texts
from twobe3.dicom.walk import Listing, list_files

MAX_BYTES = 64 * 2**30
"""Of a zip file, unpacked: more than a hundred whole-body studies."""

MAX_MEMBERS = 1_000_000
ENTRY_BYTES = 512  # of the directory of a zip file for each member, more than any needs; a bound on memory
MAX_RATIO = 200
"""Unpacked to packed size of the whole file; PET images reach 10, text 20, a bomb 1000."""

SMALL_BYTES = 256 * 2**20
"""Below it a ratio says nothing: an empty image compresses very well."""


def list_inputs(paths: Sequence[Path]) -> tuple[Listing, list[tuple[Path, UnusableScanError]]]:
    """Every file at or below some paths, in zip files below them, or named by a DICOMDIR given by its own path.

    Second come the zip files and directories of media that are not followed, with the reason.
    A zip file is unpacked to a private temporary folder, which is removed when the process ends; zip files within zip
    files stay as they are. Raises ConfigurationError ``NO_PET``: a path does not exist; EnvironmentFailure
    ``WRITE_FAILED``: there is no space to unpack to.
    """
    directories = [path for path in paths if path.is_file() and is_directory_of_media(path)]
    listed = list_files([path for path in paths if path not in directories])
    files: dict[Path, None] = {}
    refused: list[tuple[Path, UnusableScanError]] = []
    for path, is_medium in (*((path, False) for path in listed.files), *((path, True) for path in directories)):
        try:
            if is_medium:
                named, n_missing = list_directory(path)
                files.update(dict.fromkeys(named))
                if n_missing:
                    reason = f"a DICOMDIR names {n_missing} files that are not there, and {len(named)} that are"
                    raise UnusableScanError(Code.CORRUPT_FILE, reason, remedy="copy the whole medium")
            elif is_zip(path):
                files.update(dict.fromkeys(list_files([unpack(path)]).files))
            else:
                files[path] = None
        except UnusableScanError as error:
            refused.append((path, error))
    return replace(listed, files=tuple(files)), refused


def is_zip(path: Path) -> bool:
    """Whether a file is a zip file, by its name; whether it is a good one shows when it is unpacked."""
    return path.suffix.lower() == ".zip"


def unpack(path: Path) -> Path:
    """Unpack a zip file; the folder with its content, the same one for the same file.

    Raises UnusableScanError ``CORRUPT_FILE``: no zip file, damaged, encrypted, or with a member that is a link or
    leads out of it. ``TOO_LARGE``: more members or bytes than any archive of scans; nothing is left behind;
    EnvironmentFailure ``WRITE_FAILED``.
    """
    try:
        status = path.stat()
    except OSError as error:  # it was there when it was listed
        raise UnusableScanError(Code.CORRUPT_FILE, f"a zip file cannot be opened ({type(error).__name__})") from None
    folder = _unpack(path.resolve(), status.st_size, status.st_mtime_ns)
    _ZIP_FILES[folder] = path
    return folder


def find_container(path: Path) -> Path:
    """Where a user finds a file that was listed: its folder, or the zip file that it was unpacked from."""
    return path if is_zip(path) else _ZIP_FILES.get(path.parent, path.parent)


def is_directory_of_media(path: Path) -> bool:
    """Whether a file is a DICOMDIR: by its name, else by its class (DICOM PS3.10 8.6)."""
    if path.name.upper() == "DICOMDIR":
        return True
    try:
        with path.open("rb") as stream:
            return MediaStorageDirectoryStorage.encode() + b"\0" in stream.read(1024)[128:]
    except OSError:  # said where it is read
        return False


def list_directory(path: Path) -> tuple[tuple[Path, ...], int]:
    """The files that a DICOMDIR names, and how many of them are not there.

    Raises UnusableScanError ``CORRUPT_FILE``: it cannot be read, or names a file outside its folder.
    """
    root = path.resolve().parent
    targets = [root.joinpath(*parts).resolve() for parts in dict.fromkeys(read_file_names(path))]
    if not all(target.is_relative_to(root) for target in targets):
        reason = "a DICOMDIR names a link that leads out of its folder"
        raise UnusableScanError(Code.CORRUPT_FILE, reason, remedy=_DISTRUST)
    there = tuple(target for target in targets if target.is_file())
    return there, len(targets) - len(there)


def read_file_names(path: Path) -> list[tuple[str, ...]]:
    """What files a DICOMDIR names, each in parts (DICOM PS3.10 8.5, PS3.3 F.3.2).

    Raises UnusableScanError ``CORRUPT_FILE``: it cannot be read, or a name leads out of its folder.
    """
    with quietly():
        dataset = read_dataset(path, tags=("DirectoryRecordSequence",))
        names = [texts(record, "ReferencedFileID") for record in items(dataset, "DirectoryRecordSequence")]
    for parts in names:
        require_inside("DICOMDIR", "/".join(parts))
    return [parts for parts in names if parts]


def require_inside(what: str, name: str) -> None:
    """Refuse a name that leads out of the folder it is relative to, on any system: ``CORRUPT_FILE``."""
    windows = PureWindowsPath(name)
    outside = windows.drive or windows.root or PurePosixPath(name).is_absolute() or ".." in windows.parts
    if outside or "\0" in name:
        raise UnusableScanError(Code.CORRUPT_FILE, f"a {what} names a file outside its folder", remedy=_DISTRUST)


_DISTRUST = "do not trust this file; ask where it comes from"


_ZIP_FILES: dict[Path, Path] = {}
"""Folder with the content → zip file, for each that was unpacked."""


@cache
def _unpack(path: Path, size: int, modified_ns: int) -> Path:
    """One folder for each state of a file."""
    folder = Path(tempfile.mkdtemp(prefix="twobe3-"))  # for this user only
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    unpack_into(path, folder)
    return folder


def unpack_into(path: Path, folder: Path, *, max_bytes: int = MAX_BYTES, max_members: int = MAX_MEMBERS) -> None:
    """Unpack a zip file into a folder, which is removed where that fails.

    Its files get names of ours, so neither their names nor the depth of their folders reach the disk; a zip file among
    them loses its ending, and nothing unpacks it. ``max_bytes`` and ``max_members`` bound what it may announce.

    Raises what :func:`unpack` does.
    """
    try:
        with _BoundedFile(path, ENTRY_BYTES * max_members) as stream, zipfile.ZipFile(stream) as archive:
            for i, member in enumerate(_list_members(archive, path.stat().st_size, max_bytes, max_members)):
                _extract(archive, member, folder, i)
    except UnusableScanError:
        shutil.rmtree(folder, ignore_errors=True)
        raise
    except OSError as error:
        shutil.rmtree(folder, ignore_errors=True)
        reason = f"a zip file cannot be unpacked ({error.strerror or type(error).__name__})"
        raise EnvironmentFailure(Code.WRITE_FAILED, reason) from None
    except Exception as error:  # a damaged zip file raises what its decompressors raise
        shutil.rmtree(folder, ignore_errors=True)
        raise UnusableScanError(Code.CORRUPT_FILE, f"a zip file cannot be read ({type(error).__name__})") from None


class _BoundedFile(io.FileIO):
    """A file that is never read by more than some bytes at once: ``zipfile`` reads a directory of members whole."""

    def __init__(self, path: Path, most_bytes: int) -> None:
        super().__init__(path)
        self._most_bytes = most_bytes

    def read(self, size: int | None = -1, /) -> bytes:
        if size is not None and size > self._most_bytes:
            reason = f"the directory of a zip file has {size} bytes"
            raise UnusableScanError(Code.TOO_LARGE, reason, remedy="unpack it yourself if you trust it")
        return super().read(size) or b""


def _list_members(
    archive: zipfile.ZipFile, packed_bytes: int, max_bytes: int, max_members: int
) -> list[zipfile.ZipInfo]:
    """Members that are files, once the whole is found harmless; ``zipfile`` reads no more than they announce."""
    members = archive.infolist()
    announced = sum(member.file_size for member in members)
    if len(members) > max_members or announced > min(max_bytes, max(SMALL_BYTES, MAX_RATIO * packed_bytes)):
        raise UnusableScanError(
            Code.TOO_LARGE,
            f"a zip file of {packed_bytes} bytes announces {len(members)} members of {announced} bytes",
            remedy="unpack it yourself if you trust it",
        )
    for member in members:
        require_inside("zip file", member.filename)
        if stat.S_ISLNK(member.external_attr >> 16):
            raise UnusableScanError(Code.CORRUPT_FILE, "a zip file holds a symbolic link", remedy="unpack it yourself")
        if member.flag_bits & 1:
            raise UnusableScanError(Code.CORRUPT_FILE, "a zip file is encrypted", remedy="unpack it yourself")
    return [member for member in members if not member.is_dir()]


def _extract(archive: zipfile.ZipFile, member: zipfile.ZipInfo, folder: Path, i: int) -> None:
    """Unpack one member under a name of ours, which no foreign name can make too long, double or special."""
    suffix = PurePosixPath(member.filename).suffix
    kept = suffix[1:].isalnum() and len(suffix) <= 8 and suffix.lower() != ".zip"
    target = folder / f"{i:07}{suffix if kept else ''}"
    with archive.open(member) as source, target.open("wb") as sink:
        shutil.copyfileobj(source, sink)
