"""Photos for the command that are not plain files: pipes, pictures in a zip, and URLs."""

import os
import shlex
import stat
import sys
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path, PurePosixPath
from typing import BinaryIO, NamedTuple, Optional, Union
from urllib.parse import unquote, urlsplit

from PIL import Image

from ..errors import ArchiveError, PhotoError
from ..utils.io import is_file, is_url
from .archives import list_zip, unzip
from .formats import Sieve
from .loading import MAX_PIXELS, load_photo
from .videos import SUFFIXES as FILMS

__all__ = ["Found", "Source", "copy_name", "find_packed", "find_source", "open_source", "unpack"]

_MAX_SIZE = 500_000_000
"""Of a photo that comes through a pipe, bytes."""

_OF_THIS_PROCESS = ("/dev/stdin", "/dev/fd/", "/proc/self/fd/")


@dataclass(frozen=True)
class ZipPhoto:
    """A picture in a zip."""

    archive: Path
    name: str

    def read(self) -> bytes:
        try:
            return unzip(self.archive, self.name)
        except ArchiveError as e:
            raise PhotoError(str(e)) from e


@dataclass(frozen=True)
class WebPhoto:
    """A picture on the web, which is fetched when it is read."""

    url: str
    allow_private: bool

    def read(self) -> bytes:
        from .fetching import fetch

        return fetch(self.url, allow_private=self.allow_private)


Source = Union[Path, bytes, ZipPhoto, WebPhoto]


class Found(NamedTuple):
    """A photo from the command line.

    Attributes:
        file: Its name in the output.
        photo: Location of its content, for `open_source`.
        error: Why there is no content.
    """

    file: str
    photo: Source
    error: Optional[str] = None


def find_source(name: str, allow_private: bool = False) -> Optional[Found]:
    """The photo for a name that is not an ordinary path: ``-`` for standard input, another pipe, or a URL.

    Pipes are read here, as worker processes cannot access them.

    Args:
        name: Argument from the command line.
        allow_private: Whether URLs on this machine and the local network are allowed; see `fetching.fetch`.
    """
    if is_url(name):
        from .fetching import without_login

        return Found(without_login(name), WebPhoto(name, allow_private))
    try:
        if name == "-":
            return Found(name, _read_stdin())
        if _is_pipe(name):
            with Path(name).open("rb") as file:
                return Found(name, _read(file))
    except (OSError, PhotoError) as e:
        return Found(name, b"", f"{name} cannot be read: {getattr(e, 'strerror', None) or e}")
    return None


def unpack(path: Path, sieve: Sieve) -> list[Found]:
    """The photos in a file: itself, or the pictures in a zip; with an error if there are none."""
    suffix = path.suffix.lower()
    if suffix in FILMS:
        command = shlex.join(["ssrnet-hub", "film", str(path), "--csv", "ages.csv"])
        return [Found(str(path), path, f"{path} is a film: {command} follows the people in it")]
    if suffix != ".zip":
        return [Found(str(path), path)]
    known = len(sieve.left_out)
    try:
        names = list_zip(path, sieve)
    except ArchiveError as e:
        return [Found(str(path), path, str(e))]
    photos = [Found(f"{path}{os.sep}{name}", ZipPhoto(path, name)) for name in names]
    missing = "no picture in this zip" + " can be read" * (len(sieve.left_out) > known)
    return photos or [Found(str(path), path, missing)]


def find_packed(path: Path) -> Optional[Found]:
    """The photo that a path names in a zip, as `unpack` calls it."""
    for archive in path.parents:
        if archive.suffix.lower() == ".zip" and is_file(archive):
            # another file may have come to its name
            state = archive.stat()
            packed = _packed_in(archive, state.st_dev, state.st_ino, state.st_size, state.st_mtime_ns)
            return packed.get(PurePosixPath(path.relative_to(archive).as_posix()))
    return None


@lru_cache(maxsize=1)
def _packed_in(archive: Path, *state: int) -> dict[PurePosixPath, Found]:
    return {PurePosixPath(one.photo.name): one for one in unpack(archive, Sieve()) if isinstance(one.photo, ZipPhoto)}


def open_source(photo: Source, max_pixels: int = MAX_PIXELS) -> Image.Image:
    """Read a photo, wherever it is, as `load_photo` does.

    Raises:
        PhotoError: It cannot be read, unpacked or fetched.
    """
    return load_photo(photo.read() if isinstance(photo, (ZipPhoto, WebPhoto)) else photo, max_pixels)


def copy_name(file: str) -> str:
    """File name for a copy of a photo, without its folder, zip, or host."""
    if is_url(file):
        return PurePosixPath(unquote(urlsplit(file).path)).name or "photo"
    return "stdin" if file == "-" else Path(file).name


def _is_pipe(name: str) -> bool:
    try:
        mode = Path(name).stat().st_mode
    except (OSError, ValueError):
        return False
    # the standard input as a file may be an ordinary one, but is that of this process alone
    return not stat.S_ISDIR(mode) and (not stat.S_ISREG(mode) or name.startswith(_OF_THIS_PROCESS))


def _read_stdin() -> bytes:
    if sys.stdin is None:
        raise PhotoError("stdin is closed")
    return _read(sys.stdin.buffer)


def _read(file: BinaryIO) -> bytes:
    if file.isatty():
        raise PhotoError("stdin is a terminal: pipe in a photo, as in ssrnet-hub predict - < photo.jpg")
    content = file.read(_MAX_SIZE + 1)
    if len(content) > _MAX_SIZE:
        raise PhotoError(f"it has more than {_MAX_SIZE:,} bytes")
    return content
