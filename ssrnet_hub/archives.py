"""Photos in a zip. Archives are untrusted: names, number and size of what is in them."""

import os
import zipfile
from collections.abc import Iterator
from pathlib import PurePosixPath
from typing import Union

from .errors import ArchiveError
from .photos import picture_suffixes

__all__ = ["read_zip"]


def read_zip(
    path: Union[str, os.PathLike], *, max_files: int = 1000, max_file_size: int = 100_000_000
) -> Iterator[tuple[str, bytes]]:
    """The pictures in a zip, one after the other; nothing is written to disk.

    Folders, files of other kinds and what operating systems leave in archives are passed over.

    Args:
        path: The archive.
        max_files: Pictures in it, at most.
        max_file_size: Size of a picture unpacked, at most, bytes.

    Yields:
        The name in the archive and the content of each picture, in the order of their names.

    Raises:
        ArchiveError: No zip, a damaged or encrypted one, names that climb out of it, too many pictures or one that is
            too large. The names and sizes that the archive states are checked before anything is yielded.
    """
    suffixes = picture_suffixes()
    try:
        with zipfile.ZipFile(path) as archive:
            entries = []
            for entry in archive.infolist():
                name = PurePosixPath(entry.filename.replace("\\", "/"))
                if name.is_absolute() or ".." in name.parts or ":" in str(name)[:2]:
                    raise ArchiveError(f"The zip has a name that climbs out of it: {entry.filename!r:.200}.")
                hidden = name.name.startswith(".") or "__MACOSX" in name.parts
                if not entry.is_dir() and name.suffix.lower() in suffixes and not hidden:
                    entries.append(entry)
            if len(entries) > max_files:
                raise ArchiveError(f"The zip has {len(entries)} pictures, more than the limit of {max_files}.")
            for entry in entries:
                if entry.file_size > max_file_size:
                    raise ArchiveError(
                        f"{entry.filename!r:.200} in the zip has {entry.file_size:,} bytes, more than the limit of "
                        f"{max_file_size:,}."
                    )
            for entry in sorted(entries, key=lambda entry: entry.filename):
                with archive.open(entry) as file:
                    # the size that an archive states may be a lie
                    content = file.read(max_file_size + 1)
                if len(content) > max_file_size:
                    raise ArchiveError(f"{entry.filename!r:.200} in the zip is larger than it says.")
                yield entry.filename, content
    except ArchiveError:
        raise
    except (OSError, zipfile.BadZipFile, RuntimeError, NotImplementedError, ValueError, EOFError) as e:
        # RuntimeError: encrypted
        raise ArchiveError(f"The zip cannot be read: {e!s:.200}.") from e
