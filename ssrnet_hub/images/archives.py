"""Photos in a zip. Archives are untrusted: names, number and size of what is in them, and that it can be unpacked."""

import os
import zipfile
from collections.abc import Iterator
from functools import lru_cache, partial
from pathlib import Path, PurePath, PurePosixPath
from typing import BinaryIO, Optional, Union

from ..errors import ArchiveError
from .formats import Sieve, is_of_system

__all__ = ["list_zip", "read_zip", "unzip"]

_MOST_ENTRIES = 20_000
"""Entries of any kind, unless more pictures are allowed: each takes memory before it is known what it is."""

_SIGNATURE = b"PK\x01\x02"
"""How an entry of the directory begins."""

_IS_UTF8 = 0x800
"""Flag of an entry whose name is UTF-8."""

_METHODS = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)
"""Compression methods that zipfile unpacks in chunks; others it unpacks at once, regardless of the stated size."""


def read_zip(
    path: Union[str, os.PathLike],
    sieve: Optional[Sieve] = None,
    *,
    max_files: int = 1000,
    max_file_size: int = 100_000_000,
    max_total_size: int = 1_000_000_000,
) -> Iterator[tuple[str, Union[bytes, ArchiveError]]]:
    """Read the pictures in a zip archive one by one, without writing to disk.

    Folders, other files, and files that operating systems add to archives are skipped.

    Args:
        path: The archive.
        sieve: Filters pictures, and counts those that cannot be read.
        max_files: Maximum number of pictures.
        max_file_size: Maximum unpacked size of a picture, bytes.
        max_total_size: Maximum unpacked size of all pictures, bytes.

    Yields:
        The name in the archive and the content of each picture, sorted by name. Instead of the content, the error for a
        picture that is too large, damaged, encrypted, or packed by a method other than deflate.

    Raises:
        ArchiveError: Not a zip, a damaged one, names outside of it, or too much content. The names and sizes that the
            archive states are checked before anything is yielded.
    """
    with _open(path, max_files) as archive:
        entries = _find_pictures(archive, max_files, sieve or Sieve())
        total = sum(entry.file_size for entry in entries if entry.file_size <= max_file_size)
        if total > max_total_size:
            raise ArchiveError(
                "The pictures in the zip have {total:,} bytes, more than the limit of {limit:,}.",
                total=total,
                limit=max_total_size,
            )
        for entry in sorted(entries, key=_name):
            try:
                content: Union[bytes, ArchiveError] = _unpack(archive, entry, max_file_size)
            except ArchiveError as e:
                content = e
            yield _name(entry), content


def list_zip(path: Union[str, os.PathLike], sieve: Optional[Sieve] = None, *, max_files: int = 100_000) -> list[str]:
    """The names of the pictures in a zip, in order, for `unzip`; as `read_zip` finds them.

    Raises:
        ArchiveError: As for `read_zip`.
    """
    with _open(path, max_files) as archive:
        return sorted({_name(entry) for entry in _find_pictures(archive, max_files, sieve or Sieve())})


def unzip(path: Union[str, os.PathLike], name: str, *, max_file_size: int = 500_000_000) -> bytes:
    """The content of a picture in a zip. The zip stays open for the next one.

    Raises:
        ArchiveError: As for `read_zip`, or there is no such picture, or it cannot be unpacked.
    """
    try:
        state = Path(path).stat()
    except (OSError, ValueError) as e:
        raise _unreadable(e) from e
    # another file may have come to its name, or the working directory have changed
    archive, entries = _keep_open(os.fspath(path), state.st_dev, state.st_ino, state.st_size, state.st_mtime_ns)
    if name not in entries:
        raise ArchiveError("The zip has no {name!r:.200}.", name=name)
    return _unpack(archive, entries[name], max_file_size)


@lru_cache(maxsize=1)
def _keep_open(path: str, *state: int) -> tuple[zipfile.ZipFile, dict[str, zipfile.ZipInfo]]:
    archive = _open(path)
    return archive, {_name(entry): entry for entry in archive.infolist()}


def _name(entry: zipfile.ZipInfo) -> str:
    """The name of an entry. Many programs write UTF-8 without saying so, which zipfile takes for code page 437."""
    if entry.flag_bits & _IS_UTF8:
        return entry.filename
    try:
        return entry.filename.encode("cp437").decode()
    except UnicodeError:
        return entry.filename


def _open(path: Union[str, os.PathLike], max_files: int = 100_000) -> zipfile.ZipFile:
    try:
        with Path(path).open("rb") as file:
            _check_count(file, max(max_files, _MOST_ENTRIES))
        return zipfile.ZipFile(path)
    except ArchiveError:
        raise
    except Exception as e:  # whatever a damaged archive makes zipfile raise
        raise _unreadable(e) from e


def _unreadable(error: Exception) -> ArchiveError:
    # the system's errors end with the path of the file
    return ArchiveError("The zip cannot be read: {reason!s:.200}.", reason=getattr(error, "strerror", None) or error)


def _check_count(file: BinaryIO, most: int) -> None:
    count, tail = 0, b""
    while chunk := file.read(1 << 20):
        count += (tail + chunk).count(_SIGNATURE)
        if count > most:
            raise ArchiveError("The zip has more than {limit:,} entries.", limit=most)
        tail = chunk[1 - len(_SIGNATURE) :]


def _find_pictures(archive: zipfile.ZipFile, most: int, sieve: Sieve) -> list[zipfile.ZipInfo]:
    entries = []
    for entry in archive.infolist():
        name = PurePosixPath(_name(entry).replace("\\", "/"))
        if name.is_absolute() or ".." in name.parts or ":" in str(name)[:2]:
            raise ArchiveError("The zip has a path outside of itself: {name!r:.200}.", name=_name(entry))
        # is_dir() fails for a file without a name
        if not name.suffix or entry.is_dir() or any(map(is_of_system, name.parts)):
            continue
        if sieve.takes(PurePath(archive.filename or "", name), partial(_unpack_start, archive, entry)):
            entries.append(entry)
    if len(entries) > most:
        raise ArchiveError(
            "The zip has {count} pictures, more than the limit of {limit}.", count=len(entries), limit=most
        )
    return entries


def _unpack_start(archive: zipfile.ZipFile, entry: zipfile.ZipInfo, size: int) -> bytes:
    try:
        return _read(archive, entry, size)
    except ArchiveError:
        return b""


def _unpack(archive: zipfile.ZipFile, entry: zipfile.ZipInfo, most: int) -> bytes:
    if entry.file_size > most:
        raise ArchiveError("It has {size:,} bytes, more than the limit of {limit:,}.", size=entry.file_size, limit=most)
    # not all there is, which may be more than the archive states
    return _read(archive, entry, entry.file_size + 1)


def _read(archive: zipfile.ZipFile, entry: zipfile.ZipInfo, size: int) -> bytes:
    if entry.flag_bits & 1:
        raise ArchiveError("It is encrypted.")
    if entry.compress_type not in _METHODS:
        raise ArchiveError("It is packed by another method than deflate: pack it again with an ordinary zip program.")
    try:
        with archive.open(entry) as file:
            return file.read(size)
    except Exception as e:  # whatever a damaged or encrypted entry makes zipfile and zlib raise
        raise ArchiveError("It cannot be unpacked: {reason!s:.200}.", reason=e) from e
